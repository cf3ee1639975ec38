package main

import (
	"fmt"
	"math"
	"sync"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// split cuts float32 into BF16 terms. The bits of a significand fall into three
// runs of eight: cutting is exact, and every term has the sign of the number. Of
// infinity and NaN the first term is the number itself and the others are 0.
func split(terms int) {
	emit.Begin(fmt.Sprintf("amxSplit%d", terms), "func(dst *byte, next int, src *float32, n int)",
		fmt.Sprintf("writes the first %d BF16 terms of n numbers, a multiple of 32, not 0: term t to dst[t·next:], in bytes.", terms))
	dst, next, src, n := Load(Param("dst"), GP64()), Load(Param("next"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	order, exponent, high, bits := ZMM(), ZMM(), ZMM(), GP32()
	VMOVDQU64(oddWords(), order)
	MOVL(U32(0x7f800000), bits)
	VPBROADCASTD(bits, exponent)
	MOVL(U32(0xffff0000), bits)
	VPBROADCASTD(bits, high)
	Label("loop")
	x := []reg.VecVirtual{ZMM(), ZMM()}
	finite := []reg.OpmaskVirtual{K(), K()}
	for i := range x {
		VMOVUPS(Mem{Base: src, Disp: 64 * i}, x[i])
		if terms > 1 {
			t := ZMM()
			VPANDD(x[i], exponent, t)
			VPCMPD(Imm(4), exponent, t, finite[i]) // not equal
		}
	}
	to := GP64()
	MOVQ(dst, to)
	for t := range terms {
		out := ZMM()
		VMOVDQA64(order, out)
		VPERMI2W(x[1], x[0], out)
		VMOVDQU64(out, Mem{Base: to})
		if t == terms-1 {
			break
		}
		ADDQ(next, to)
		for i := range x {
			h := ZMM()
			VPANDD(high, x[i], h)
			if t == 0 {
				VSUBPS_Z(h, x[i], finite[i], x[i])
			} else {
				VSUBPS(h, x[i], x[i])
			}
		}
	}
	ADDQ(Imm(64), dst)
	ADDQ(U32(128), src)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// oddWords picks the high halves of 32 words in two registers.
var oddWords = sync.OnceValue(func() Mem {
	m := GLOBL("oddWords", RODATA|NOPTR)
	for i := range 32 {
		DATA(2*i, U16(2*i+1))
	}
	return m
})

// table widens codes of a byte to BF16: seven bits choose from a table, whose
// low bytes come before its high ones, the eighth is the sign.
func table() {
	emit.Begin("amxTable", "func(dst, src *byte, n int, table *[256]byte)",
		"writes the BF16 of n codes, a multiple of 64, not 0. table holds the low bytes of 128 magnitudes, then the high ones; bit 7 of a code is the sign.")
	dst, src, n, p := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64()), Load(Param("table"), GP64())
	var t [4]reg.VecVirtual
	for i := range t {
		t[i] = ZMM()
		VMOVDQU64(Mem{Base: p, Disp: 64 * i}, t[i])
	}
	sign, bits, order := ZMM(), GP32(), ZMM()
	MOVL(U32(0x80808080), bits)
	VPBROADCASTD(bits, sign)
	m := GLOBL("evenOdd", RODATA|NOPTR)
	for i, v := range []uint64{0, 4, 1, 5, 2, 6, 3, 7} {
		DATA(8*i, U64(v))
	}
	VMOVDQU64(m, order)
	Label("loop")
	x, lo, hi, a, b := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
	VPERMQ(Mem{Base: src}, order, x) // so that unpacking within quarters keeps the order
	VMOVDQA64(x, lo)
	VMOVDQA64(x, hi)
	VPERMI2B(t[1], t[0], lo)
	VPERMI2B(t[3], t[2], hi)
	VPTERNLOGD(Imm(0xf8), sign, x, hi) // hi | x & sign
	VPUNPCKLBW(hi, lo, a)
	VPUNPCKHBW(hi, lo, b)
	VMOVDQU64(a, Mem{Base: dst})
	VMOVDQU64(b, Mem{Base: dst, Disp: 64})
	ADDQ(Imm(64), src)
	ADDQ(U32(128), dst)
	SUBQ(Imm(64), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// fp4 widens FP4 codes times the scales of their groups to BF16, which holds the
// products of three bits and four: sixteen products for each group, among which
// every code of it chooses.
func fp4() {
	emit.Begin("amxFP4", "func(dst, src *byte, n int, scale *float32)",
		"writes the BF16 of n E2M1 codes, two a byte, the even one low, times scale[i/16]. n is a multiple of 32, not 0; products that BF16 does not hold are cut.")
	dst, src, n, scale := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64()), Load(Param("scale"), GP64())
	values, order, second, low, bits := ZMM(), ZMM(), ZMM(), ZMM(), GP32()
	m := GLOBL("e2m1Values", RODATA|NOPTR)
	for i := range 16 { // the sign is the highest of four bits
		v := []float32{0, 0.5, 1, 1.5, 2, 3, 4, 6}[i%8]
		DATA(4*i, U32(math.Float32bits(v)|uint32(i/8)<<31))
	}
	VMOVUPS(m, values)
	VMOVDQU64(oddWords(), order)
	half := GLOBL("secondGroup", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(0x00100010*uint32(i/8)))
	}
	VMOVDQU64(half, second)
	MOVL(U32(0x000f000f), bits)
	VPBROADCASTD(bits, low)
	Label("loop")
	code, next, a, b, products := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
	VPMOVZXBD(Mem{Base: src}, code)
	VPSLLD(Imm(12), code, next)            // the odd one to the upper half
	VPTERNLOGD(Imm(0xa8), low, code, next) // (next | code) & low
	VPORD(second, next, next)
	VMULPS_BCST(Mem{Base: scale}, values, a)
	VMULPS_BCST(Mem{Base: scale, Disp: 4}, values, b)
	VMOVDQA64(order, products)
	VPERMI2W(b, a, products)
	VPERMW(products, next, next)
	VMOVDQU64(next, Mem{Base: dst})
	ADDQ(Imm(16), src)
	ADDQ(Imm(64), dst)
	ADDQ(Imm(8), scale)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	emit.End()
}
