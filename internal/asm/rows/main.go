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
	norm()
	scaled()
	swiglu()
	expSum()
	quantize()
	widen()
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
