// Command convert generates the vector twins of quant/numeric's leaf loops.
//
// They return the same bits as the plain loops: the same sixteen lanes, every
// product and sum rounded by itself (nothing is fused), the same rounding to
// codes. Sixteen elements are two vectors of eight. n is a multiple of sixteen.
package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

func main() {
	ConstraintExpr("!purego")
	absMax()
	decodeBF16()
	dequantInt8()
	dequantE4M3()
	dequantE2M1()
	narrowBF16()
	for _, by := range []string{"Reciprocal", "Quotient", "BF16Quotient"} {
		encode("Int", by)
		encode("E4M3", by)
	}
	for _, r := range []run{
		{"AVX2", "Int", "F32", false},
		{"AVX2", "E4M3", "F32", false},
		{"AVX2", "Int", "BF16", false},
		{"AVX2", "E4M3", "BF16", false},
		{"AVX2", "E4M3", "BF16", true},
		{"AVX512", "Int", "F32", false},
		{"AVX512", "E4M3", "F32", false},
		{"AVX512", "Int", "BF16", false},
		{"AVX512", "E4M3", "BF16", false},
		{"AVX512", "E4M3", "BF16", true},
	} {
		r.emit()
	}
	for _, code := range []string{"Int", "E4M3"} {
		roundsAlike(code)
	}
	topCodes()
	widenCodes()
	recodes()
	errorE4M3()
	absMaxNarrow()
	absMaxWide()
	correlateMany(false)
	correlateMany(true)
	indexAbs()
	packNibbles()
	unpackNibbles()
	microTwins()
	Generate()
}

// all is a constant in eight lanes.
func all(bits uint32) Mem { return emit.Lanes(bits, 8) }

func float(f float32) Mem { return all(math.Float32bits(f)) }

const (
	absMask = 0x7fffffff
	rounder = 0x4b400000 // 1.5×2^23
)

func absMax() {
	emit.Begin("absMaxBitsAVX2", "func(w *float32, n int) uint32", "is absMaxBits of n elements.")
	w, n := Load(Param("w"), GP64()), Load(Param("n"), GP64())
	a, b, mask := YMM(), YMM(), YMM()
	emit.Zero(a)
	emit.Zero(b)
	VMOVUPS(all(absMask), mask)
	Label("loop")
	for i, acc := range []reg.VecVirtual{a, b} {
		t := YMM()
		VPAND(Mem{Base: w, Disp: 32 * i}, mask, t)
		VPMAXUD(t, acc, acc)
	}
	ADDQ(Imm(64), w)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	VPMAXUD(b, a, a)
	hi := XMM()
	VEXTRACTI128(Imm(1), a, hi)
	x := XMM()
	VPMAXUD(a.AsX(), hi, x)
	returnMax(x)
}

// returnMax ends a function with the greatest of x's four unsigned lanes.
func returnMax(x reg.VecVirtual) {
	for _, order := range []uint64{0x4e, 0xb1} {
		s := XMM()
		VPSHUFD(Imm(order), x, s)
		VPMAXUD(s, x, x)
	}
	out := GP32()
	VMOVD(x, out)
	VZEROUPPER()
	Store(out, ReturnIndex(0))
	RET()
}

func decodeBF16() {
	emit.Begin("decodeBF16AVX2", "func(dst *float32, src *byte, n int)", "widens n bfloat16 values.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	Label("loop")
	for i := range 2 {
		v := YMM()
		VPMOVZXWD(Mem{Base: src, Disp: 16 * i}, v)
		VPSLLD(Imm(16), v, v)
		VMOVDQU(v, Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(Imm(32), src)
	ADDQ(Imm(64), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

func dequantInt8() {
	emit.Begin("dequantInt8AVX2", "func(dst *float32, src *byte, n int, s float32)", "widens n int8 codes and multiplies them by s.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	s := emit.Broadcast("s", YMM())
	Label("loop")
	for i := range 2 {
		v := YMM()
		VPMOVSXBD(Mem{Base: src, Disp: 8 * i}, v)
		VCVTDQ2PS(v, v)
		VMULPS(s, v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(Imm(16), src)
	ADDQ(Imm(64), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// quotient turns weights into what is rounded, as quotients does.
func quotient(by string, w, factor reg.VecVirtual) reg.VecVirtual {
	t := YMM()
	switch by {
	case "Reciprocal":
		VMULPS(factor, w, t)
		return t
	case "Quotient":
		VDIVPS(factor, w, t)
		return t
	}
	VDIVPS(factor, w, t) // then roundFinite
	odd := YMM()
	VPSRLD(Imm(16), t, odd)
	VPAND(all(1), odd, odd)
	VPADDD(odd, t, t)
	VPADDD(all(0x7fff), t, t)
	VPAND(all(0xffff0000), t, t)
	return t
}

// encode is the loop of encode over part of a chunk: codes to dst, sums of
// squares to the lanes of out, which is 16 sums of w², 16 of errors and 8 largest errors.
func encode(code, by string) {
	name := "encode" + code + by + "AVX2"
	emit.Begin(name, "func(dst *byte, w *float32, n int, factor, s, lo, hi float32, out *[40]float32)",
		"rounds n weights to codes and adds what that costs to out.")
	dst, w, n := Load(Param("dst"), GP64()), Load(Param("w"), GP64()), Load(Param("n"), GP64())
	out := GP64()
	factor, s := emit.Broadcast("factor", YMM()), emit.Broadcast("s", YMM())
	var lo, hi reg.VecVirtual
	if code == "Int" {
		lo, hi = emit.Broadcast("lo", YMM()), emit.Broadcast("hi", YMM())
	}
	sq, er := [2]reg.VecVirtual{YMM(), YMM()}, [2]reg.VecVirtual{YMM(), YMM()}
	Load(Param("out"), out)
	for i := range 2 {
		VMOVUPS(Mem{Base: out, Disp: 32 * i}, sq[i])
		VMOVUPS(Mem{Base: out, Disp: 64 + 32*i}, er[i])
	}
	worst := YMM()
	VMOVDQU(Mem{Base: out, Disp: 128}, worst)
	Label("loop")
	var codes [2]reg.VecVirtual
	for i := range 2 {
		x := YMM()
		VMOVUPS(Mem{Base: w, Disp: 32 * i}, x)
		t := quotient(by, x, factor)
		var deq reg.VecVirtual
		if code == "Int" {
			codes[i], deq = roundInt(t, lo, hi)
		} else {
			codes[i], deq = roundE4M3(t)
		}
		VMULPS(s, deq, deq)
		VSUBPS(x, deq, deq) // the difference
		VMULPS(x, x, x)
		VADDPS(x, sq[i], sq[i])
		square := YMM()
		VMULPS(deq, deq, square)
		VADDPS(square, er[i], er[i])
		VPAND(all(absMask), deq, deq)
		VPMAXUD(deq, worst, worst)
	}
	pack := YMM()
	if code == "Int" {
		VPACKSSDW(codes[1], codes[0], pack)
	} else {
		VPACKUSDW(codes[1], codes[0], pack)
	}
	VPERMQ(Imm(0xd8), pack, pack) // words in order
	upper := XMM()
	VEXTRACTI128(Imm(1), pack, upper)
	bytes := XMM()
	if code == "Int" {
		VPACKSSWB(upper, pack.AsX(), bytes)
	} else {
		VPACKUSWB(upper, pack.AsX(), bytes)
	}
	VMOVDQU(bytes, Mem{Base: dst})
	ADDQ(Imm(64), w)
	ADDQ(Imm(16), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	for i := range 2 {
		VMOVUPS(sq[i], Mem{Base: out, Disp: 32 * i})
		VMOVUPS(er[i], Mem{Base: out, Disp: 64 + 32*i})
	}
	VMOVDQU(worst, Mem{Base: out, Disp: 128})
	emit.End()
}

// roundInt clamps t and returns the integers and their values.
func roundInt(t, lo, hi reg.VecVirtual) (code, value reg.VecVirtual) {
	VMAXPS(lo, t, t)
	VMINPS(hi, t, t)
	code, value = YMM(), YMM()
	VADDPS(all(rounder), t, code)
	VSUBPS(all(rounder), code, value)
	VPSUBD(all(rounder), code, code)
	return code, value
}

const (
	e4m3Max  = 0x43e00000          // 448
	e4m3Bias = (127 + 20 - 6) << 3 // of the power of two below, where the code's exponent begins
)

// roundE4M3 is F32ToE4M3, and what its codes stand for. With m = 2^(e+20), e the
// exponent of t but at least -6, t+m has steps of 2^(e-3): the sum rounds half
// to even, and its low bits n are the significand, so that the code is
// (e+6)·8 + n for normal and subnormal numbers alike.
func roundE4M3(t reg.VecVirtual) (code, value reg.VecVirtual) {
	sign, m := YMM(), YMM()
	VPAND(all(1<<31), t, sign)
	VPAND(all(absMask), t, t)
	VPMINUD(all(e4m3Max), t, t)
	VPAND(all(0x7f800000), t, m)
	VPADDD(all(20<<23), m, m)
	VPMAXUD(float(1<<14), m, m)
	VADDPS(m, t, t)
	code, value = YMM(), YMM()
	VSUBPS(m, t, value)
	VPSUBD(m, t, code)
	VPSRLD(Imm(20), m, m)
	VPADDD(m, code, code)
	VPSUBD(all(e4m3Bias), code, code)
	VPOR(sign, value, value)
	VPSRLD(Imm(24), sign, sign)
	VPOR(sign, code, code)
	return code, value
}

// packNibbles makes bytes of pairs of codes, the first in the low half.
func packNibbles() {
	emit.Begin("packNibblesAVX2", "func(dst *byte, q *byte, n int)", "packs n codes, a multiple of 32.")
	dst, q, n := Load(Param("dst"), GP64()), Load(Param("q"), GP64()), Load(Param("n"), GP64())
	low, weights := YMM(), YMM()
	VMOVDQU(all(0x0f0f0f0f), low)
	VMOVDQU(all(0x10011001), weights) // first + 16·second
	Label("loop")
	v := YMM()
	VPAND(Mem{Base: q}, low, v)
	VPMADDUBSW(weights, v, v)
	hi, out := XMM(), XMM()
	VEXTRACTI128(Imm(1), v, hi)
	VPACKUSWB(hi, v.AsX(), out)
	VMOVDQU(out, Mem{Base: dst})
	ADDQ(Imm(32), q)
	ADDQ(Imm(16), dst)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// unpackNibbles makes two sign-extended bytes of every byte, the low half first.
func unpackNibbles() {
	emit.Begin("unpackNibblesAVX2", "func(dst, src *byte, n int)", "writes the 2n codes of n bytes, a multiple of 16.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	low, eight := XMM(), XMM()
	VMOVDQU(all(0x0f0f0f0f), low)
	VMOVDQU(all(0x08080808), eight)
	Label("loop")
	a, b := XMM(), XMM()
	VMOVDQU(Mem{Base: src}, a)
	VPSRLW(Imm(4), a, b)
	VPAND(low, a, a)
	VPAND(low, b, b)
	x, y := XMM(), XMM()
	VPUNPCKLBW(b, a, x)
	VPUNPCKHBW(b, a, y)
	VPXOR(eight, x, x)
	VPSUBB(eight, x, x)
	VPXOR(eight, y, y)
	VPSUBB(eight, y, y)
	VMOVDQU(x, Mem{Base: dst})
	VMOVDQU(y, Mem{Base: dst, Disp: 16})
	ADDQ(Imm(16), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	emit.End()
}
