// Command rows generates the AVX2 twins of runtime/kernel's loops over rows:
// norms, activations, softmax, rounding. Each repeats the plain loop operation
// by operation (no fused multiply-adds, eight lanes where lanes are summed), so
// that results are the same to the bit. Counts are multiples of what a turn
// takes; the rest is left to plain Go.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

func main() {
	ConstraintExpr("!purego")
	constants()
	dot()
	sum()
	top()
	each("addAVX2", "dst, v *float32, n int", "adds v to dst", func(_ reg.VecVirtual, v Mem, x reg.VecVirtual) reg.VecVirtual {
		VADDPS(v, x, x)
		return x
	})
	each("axpyAVX2", "dst, v *float32, n int, p float32", "adds p·v, rounded, to dst", func(p reg.VecVirtual, v Mem, x reg.VecVirtual) reg.VecVirtual {
		t := YMM()
		VMULPS(v, p, t)
		VADDPS(t, x, x)
		return x
	})
	each("scaleAVX2", "dst *float32, n int, p float32", "multiplies dst by p", func(p reg.VecVirtual, _ Mem, x reg.VecVirtual) reg.VecVirtual {
		VMULPS(p, x, x)
		return x
	})
	addWide()
	beyond()
	norm()
	scaled()
	swiglu()
	expSum()
	quantize()
	sumInt8()
	codeSums()
	Generate()
}

// text declares a function and loads its pointers and count.
func text(name, params, result, doc string) (load func(string) reg.GPVirtual) {
	emit.Begin(name, "func("+params+")"+result, doc+".")
	return func(p string) reg.GPVirtual {
		r := GP64()
		Load(Param(p), r)
		return r
	}
}

// loop runs body for n elements, step at a time; body advances its pointers.
func loop(n reg.GPVirtual, step int, body func()) {
	Label("loop")
	body()
	SUBQ(Imm(uint64(step)), n)
	JNZ(LabelRef("loop"))
}

func advance(bytes int, p ...reg.GPVirtual) {
	for _, r := range p {
		ADDQ(Imm(uint64(bytes)), r)
	}
}

// each updates dst, eight elements a turn; the parameters are dst, v and p or a
// part of them.
func each(name, params, doc string, op func(p reg.VecVirtual, v Mem, x reg.VecVirtual) reg.VecVirtual) {
	load := text(name, params, "", doc+"; n is a multiple of 8, not 0")
	dst, n := load("dst"), load("n")
	ptrs := []reg.GPVirtual{dst}
	var v Mem
	if name != "scaleAVX2" {
		v.Base = load("v")
		ptrs = append(ptrs, v.Base.(reg.GPVirtual))
	}
	var p reg.VecVirtual
	if name != "addAVX2" {
		p = emit.Broadcast("p", YMM())
	}
	loop(n, 8, func() {
		x := YMM()
		VMOVUPS(Mem{Base: dst}, x)
		x = op(p, v, x)
		VMOVUPS(x, Mem{Base: dst})
		advance(32, ptrs...)
	})
	emit.End()
}

// addWide adds eights of float32 to float64.
func addWide() {
	load := text("addWideAVX2", "dst *float64, v *float32, n int", "", "adds v to dst; n is a multiple of 8, not 0")
	dst, v, n := load("dst"), load("v"), load("n")
	loop(n, 8, func() {
		for half := range 2 {
			x := YMM()
			VCVTPS2PD(Mem{Base: v, Disp: 16 * half}, x)
			VADDPD(Mem{Base: dst, Disp: 32 * half}, x, x)
			VMOVUPD(x, Mem{Base: dst, Disp: 32 * half})
		}
		advance(32, v)
		advance(64, dst)
	})
	emit.End()
}

// beyond finds what is not within limits.
func beyond() {
	load := text("beyondAVX2", "x, limit *float32, n int, p float32", " int",
		"returns the number of the first x whose magnitude is not below p·limit, n if there is none; n is a multiple of 8, not 0")
	x, limit, n := load("x"), load("limit"), load("n")
	p := emit.Broadcast("p", YMM())
	magnitude, at := YMM(), GP64()
	VPCMPEQD(magnitude, magnitude, magnitude)
	VPSRLD(Imm(1), magnitude, magnitude)
	XORQ(at, at)
	mask := GP32()
	Label("loop")
	v, l := YMM(), YMM()
	VANDPS(Mem{Base: x, Index: at, Scale: 4}, magnitude, v)
	VMULPS(Mem{Base: limit, Index: at, Scale: 4}, p, l)
	VCMPPS(Imm(5), l, v, v) // not less: also of what is no number
	VMOVMSKPS(v, mask)
	TESTL(mask, mask)
	JNZ(LabelRef("found"))
	ADDQ(Imm(8), at)
	CMPQ(at, n)
	JL(LabelRef("loop"))
	JMP(LabelRef("end"))
	Label("found")
	BSFL(mask, mask)
	ADDQ(mask.As64(), at)
	Label("end")
	VZEROUPPER()
	Store(at, ReturnIndex(0))
	RET()
}

func dot() {
	load := text("dotAVX2", "a, b *float32, n int, lanes *[8]float32", "",
		"writes the lanes of Σ a·b, each product and sum rounded; n is a multiple of 8, not 0")
	a, b, n, out := load("a"), load("b"), load("n"), load("lanes")
	acc := YMM()
	emit.Zero(acc)
	loop(n, 8, func() {
		x := YMM()
		VMOVUPS(Mem{Base: a}, x)
		VMULPS(Mem{Base: b}, x, x)
		VADDPS(x, acc, acc)
		advance(32, a, b)
	})
	VMOVUPS(acc, Mem{Base: out})
	emit.End()
}

func sum() {
	load := text("sumAVX2", "a *float32, n int, lanes *[8]float32", "", "adds a to the lanes; n is a multiple of 8, not 0")
	a, n, out := load("a"), load("n"), load("lanes")
	acc := YMM()
	VMOVUPS(Mem{Base: out}, acc)
	loop(n, 8, func() {
		VADDPS(Mem{Base: a}, acc, acc)
		advance(32, a)
	})
	VMOVUPS(acc, Mem{Base: out})
	emit.End()
}

// fold8 reduces eight lanes.
func fold8(v reg.VecVirtual, op func(x, y Op, to reg.VecVirtual)) reg.VecVirtual {
	hi, lo := XMM(), v.AsX()
	VEXTRACTF128(Imm(1), v, hi)
	r := XMM()
	op(hi, lo, r)
	VPSHUFD(Imm(0x4e), r, hi)
	op(hi, r, r)
	VPSHUFD(Imm(0xb1), r, hi)
	op(hi, r, r)
	return r
}

func top() {
	load := text("maxAVX2", "x *float32, n int", " float32", "returns the largest of x, which holds no NaN; n is a multiple of 8, not 0")
	x, n := load("x"), load("n")
	acc := YMM()
	VMOVUPS(Mem{Base: x}, acc)
	loop(n, 8, func() {
		VMAXPS(Mem{Base: x}, acc, acc)
		advance(32, x)
	})
	r := fold8(acc, func(x, y Op, to reg.VecVirtual) { VMAXPS(x, y, to) })
	VZEROUPPER()
	Store(r, ReturnIndex(0))
	RET()
}

func norm() {
	load := text("normAVX2", "dst, x, w *float32, n int, inv float32", "", "writes (x·inv)·w; n is a multiple of 8, not 0")
	dst, x, w, n := load("dst"), load("x"), load("w"), load("n")
	inv := emit.Broadcast("inv", YMM())
	loop(n, 8, func() {
		v := YMM()
		VMULPS(Mem{Base: x}, inv, v)
		VMULPS(Mem{Base: w}, v, v)
		VMOVUPS(v, Mem{Base: dst})
		advance(32, dst, x, w)
	})
	emit.End()
}

// scaled adds the sums of a scale group to a row of outputs.
func scaled() {
	load := text("scaledAVX2", "y, part, scale *float32, n int, token float32, add int", "",
		"writes part·(scale·token) to y, with add adds it, each product and sum rounded; n is a multiple of 8, not 0")
	y, part, scale, n, add := load("y"), load("part"), load("scale"), load("n"), load("add")
	token := emit.Broadcast("token", YMM())
	mask, nothing := YMM(), YMM() // of y, and −0 without add, which changes no number
	NEGQ(add)
	VMOVQ(add, mask.AsX())
	VPBROADCASTQ(mask.AsX(), mask)
	VPANDN(emit.Lanes(1<<31, 8), mask, nothing)
	loop(n, 8, func() {
		v, old := YMM(), YMM()
		VMULPS(Mem{Base: scale}, token, v)
		VMULPS(Mem{Base: part}, v, v)
		VANDPS(Mem{Base: y}, mask, old)
		VORPS(nothing, old, old)
		VADDPS(old, v, v)
		VMOVUPS(v, Mem{Base: y})
		advance(32, y, part, scale)
	})
	emit.End()
}
