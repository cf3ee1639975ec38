package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// quantize writes int8 codes round(x/s), 32 a turn.
func quantize() {
	load := text("quantizeInt8AVX2", "q *int8, x *float32, n int, s float32", "", "writes round-half-even(x/s) within −128 … 127; n is a multiple of 32, not 0")
	q, x, n := load("q"), load("x"), load("n")
	s := emit.Broadcast("s", YMM())
	order := GLOBL("quantizeOrder", RODATA|NOPTR)
	for i, v := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		DATA(4*i, U32(v))
	}
	perm := YMM()
	VMOVDQU(order, perm)
	loop(n, 32, func() {
		v := []Op{YMM(), YMM(), YMM(), YMM()}
		for i := range v {
			VMOVUPS(Mem{Base: x, Disp: 32 * i}, v[i])
			VDIVPS(s, v[i], v[i])
			VADDPS(table["magic"], v[i], v[i])
			VSUBPS(table["magic"], v[i], v[i])
			VMAXPS(table["-128"], v[i], v[i])
			VMINPS(table["127"], v[i], v[i])
			VCVTTPS2DQ(v[i], v[i])
		}
		VPACKSSDW(v[1], v[0], v[0])
		VPACKSSDW(v[3], v[2], v[2])
		VPACKSSWB(v[2], v[0], v[0]) // fours of v0 v1 v2 v3 in each half
		VPERMD(v[0], perm, v[0])
		VMOVDQU(v[0], Mem{Base: q})
		ADDQ(U32(128), x)
		advance(32, q)
	})
	emit.End()
}

func sumInt8() {
	load := text("sumInt8AVX2", "x *int8, n int", " int32", "returns the sum of n codes, a multiple of 32, not 0")
	x, n := load("x"), load("n")
	acc, ones, one16 := YMM(), YMM(), YMM()
	emit.Zero(acc)
	VPCMPEQD(ones, ones, ones)
	VPSRLW(Imm(15), ones, one16)
	VPABSB(ones, ones)
	loop(n, 32, func() {
		v := YMM()
		VPMADDUBSW(Mem{Base: x}, ones, v)
		VPMADDWD(one16, v, v)
		VPADDD(v, acc, acc)
		advance(32, x)
	})
	r, g := fold8(acc, func(x, y Op, to reg.VecVirtual) { VPADDD(x, y, to) }), GP32()
	VMOVD(r, g)
	VZEROUPPER()
	Store(g, ReturnIndex(0))
	RET()
}
