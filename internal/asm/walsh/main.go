// Command walsh generates the vector twins of quant/rotation's transforms.
//
// They return the same bits as the plain loops: sums and differences are taken
// in the same order, and nothing is fused.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

func main() {
	ConstraintExpr("!purego")
	walsh64()
	for _, order := range []int{2, 4, 8} {
		butterfly(order)
	}
	mix()
	multiply()
	scale()
	Generate()
}

// lanes of a vector of float32.
const lanes = 8

// odd flips the signs of the lanes whose number has the bit d.
func odd(d int) Mem {
	m := GLOBL(fmt.Sprintf("odd%d", d), RODATA|NOPTR)
	for i := range lanes {
		sign := uint32(0)
		if i&d != 0 {
			sign = 1 << 31
		}
		DATA(4*i, U32(sign))
	}
	return m
}

// stage is one of the butterflies between vectors that are d places apart.
func stage(v []reg.VecVirtual, d int) {
	for i := range v {
		if i&d != 0 {
			continue
		}
		sum := YMM()
		VADDPS(v[i+d], v[i], sum)
		VSUBPS(v[i+d], v[i], v[i+d])
		v[i] = sum
	}
}

func walsh64() {
	emit.Begin("walsh64AVX2", "func(x *float32, n int)", "multiplies every 64 of n values by the Walsh matrix of that order.")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	masks := map[int]reg.VecVirtual{}
	for _, d := range []int{1, 2, 4} {
		masks[d] = YMM()
		VMOVUPS(odd(d), masks[d])
	}
	Label("loop")
	v := make([]reg.VecVirtual, lanes)
	for i := range v {
		v[i] = YMM()
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, v[i])
		for _, d := range []int{1, 2, 4} { // x1 + x0, x0 − x1
			other := YMM()
			switch d {
			case 1:
				VPERMILPS(Imm(0xb1), v[i], other)
			case 2:
				VPERMILPS(Imm(0x4e), v[i], other)
			default:
				VPERM2F128(Imm(1), v[i], v[i], other)
			}
			VXORPS(masks[d], v[i], v[i])
			VADDPS(other, v[i], v[i])
		}
	}
	for d := 1; d < lanes; d *= 2 {
		stage(v, d)
	}
	for i := range v {
		VMOVUPS(v[i], Mem{Base: x, Disp: 32 * i})
	}
	ADDQ(U32(64*4), x)
	SUBQ(Imm(64), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// strided are rows of floats, a stride apart, that a loop walks along.
func strided(base, stride string, rows int) emit.Rows { return emit.NewRows(base, stride, rows, 4) }

func butterfly(order int) {
	emit.Begin(fmt.Sprintf("butterfly%dAVX2", order), "func(dst, src *float32, to, from, n int)",
		fmt.Sprintf("is butterfly%d for n columns, a multiple of 8.", order))
	src, dst := strided("src", "from", order), strided("dst", "to", order)
	n := Load(Param("n"), GP64())
	Label("loop")
	v := make([]reg.VecVirtual, order)
	for i := range v {
		v[i] = YMM()
		VMOVUPS(src.At(i), v[i])
	}
	for d := 1; d < order; d *= 2 {
		stage(v, d)
	}
	for i := range v {
		VMOVUPS(v[i], dst.At(i))
	}
	src.Advance(32)
	dst.Advance(32)
	SUBQ(Imm(lanes), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// mix is Hadamard.mix sixteen columns at a time. Sums and differences of pairs,
// and both with the other sign, lie in pairs, 64 bytes each; places are the
// offsets there of what a row adds up, k/2 of them, row after row.
func mix() {
	emit.Begin("mixAVX2", "func(x *float32, stride, n, k int, places *int32, pairs *float32)",
		"is mix for n columns, a multiple of 16, of k parts, a multiple of 4, stride apart.")
	x, stride, n, k := Load(Param("x"), GP64()), Load(Param("stride"), GP64()), Load(Param("n"), GP64()), Load(Param("k"), GP64())
	places, pairs := Load(Param("places"), GP64()), Load(Param("pairs"), GP64())
	SHLQ(Imm(2), stride)
	sign := YMM()
	VMOVUPS(emit.Lanes(1<<31, lanes), sign)
	at, to, left := GP64(), GP64(), GP64()
	Label("columns")
	MOVQ(x, at)
	MOVQ(pairs, to)
	MOVQ(k, left)
	Label("pair")
	for i := range 2 {
		p, q, sum := YMM(), YMM(), YMM()
		VMOVUPS(Mem{Base: at, Disp: 32 * i}, p)
		VMOVUPS(Mem{Base: at, Disp: 32 * i, Index: stride, Scale: 1}, q)
		VADDPS(q, p, sum)
		VSUBPS(q, p, p)
		VMOVUPS(sum, Mem{Base: to, Disp: 32 * i})
		VXORPS(sign, sum, sum)
		VMOVUPS(sum, Mem{Base: to, Disp: 64 + 32*i})
		VMOVUPS(p, Mem{Base: to, Disp: 128 + 32*i})
		VXORPS(sign, p, p)
		VMOVUPS(p, Mem{Base: to, Disp: 192 + 32*i})
	}
	LEAQ(Mem{Base: at, Index: stride, Scale: 2}, at)
	ADDQ(U32(256), to)
	SUBQ(Imm(2), left)
	JNZ(LabelRef("pair"))

	place, row, terms := GP64(), GP64(), GP64()
	MOVQ(places, place)
	MOVQ(x, at)
	MOVQ(k, row)
	acc, term := [2]reg.VecVirtual{YMM(), YMM()}, [2]reg.VecVirtual{YMM(), YMM()}
	one, two := GP64(), GP64()
	next := func(to [2]reg.VecVirtual) { // the sum of two terms
		MOVLQSX(Mem{Base: place}, one)
		MOVLQSX(Mem{Base: place, Disp: 4}, two)
		ADDQ(Imm(8), place)
		for i := range 2 {
			VMOVUPS(Mem{Base: pairs, Index: one, Scale: 1, Disp: 32 * i}, to[i])
			VADDPS(Mem{Base: pairs, Index: two, Scale: 1, Disp: 32 * i}, to[i], to[i])
		}
	}
	Label("row")
	MOVQ(k, terms)
	next(acc)
	SUBQ(Imm(4), terms)
	JZ(LabelRef("store"))
	Label("term")
	next(term)
	for i := range 2 {
		VADDPS(term[i], acc[i], acc[i])
	}
	SUBQ(Imm(4), terms)
	JNZ(LabelRef("term"))
	Label("store")
	for i := range 2 {
		VMOVUPS(acc[i], Mem{Base: at, Disp: 32 * i})
	}
	ADDQ(stride, at)
	SUBQ(Imm(1), row)
	JNZ(LabelRef("row"))
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("columns"))
	emit.End()
}

func multiply() {
	emit.Begin("multiplyAVX2", "func(x, f *float32, n int)", "multiplies n values, a multiple of 8, by factors.")
	x, f, n := Load(Param("x"), GP64()), Load(Param("f"), GP64()), Load(Param("n"), GP64())
	Label("loop")
	v := YMM()
	VMOVUPS(Mem{Base: x}, v)
	VMULPS(Mem{Base: f}, v, v)
	VMOVUPS(v, Mem{Base: x})
	ADDQ(Imm(32), x)
	ADDQ(Imm(32), f)
	SUBQ(Imm(lanes), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

func scale() {
	emit.Begin("scaleAVX2", "func(x *float32, s float32, n int)", "multiplies n values, a multiple of 8, by s.")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	s := emit.Broadcast("s", YMM())
	Label("loop")
	v := YMM()
	VMULPS(Mem{Base: x}, s, v)
	VMOVUPS(v, Mem{Base: x})
	ADDQ(Imm(32), x)
	SUBQ(Imm(lanes), n)
	JNZ(LabelRef("loop"))
	emit.End()
}
