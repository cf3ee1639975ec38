package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// The twins that take E4M3 codes with scales of their own, on their way to codes
// of another scale. Blocks of 128 columns share a scale, or all of a row do.

// blockColumns are the columns of a block.
const blockColumns = 128

// widenCodes writes weights that are codes times scales.
func widenCodes() {
	emit.Begin("widenCodesAVX2", "func(dst *float32, codes *byte, n int, scales *float32, step int)",
		"writes n weights, a multiple of 128: E4M3 codes, all of them numbers, times scales, of which each 128 have one, step bytes after the one before.")
	dst, at, n := Load(Param("dst"), GP64()), Load(Param("codes"), GP64()), Load(Param("n"), GP64())
	scales, step, rest, of := Load(Param("scales"), GP64()), Load(Param("step"), GP64()), GP64(), YMM()
	Label("block")
	VBROADCASTSS(Mem{Base: scales}, of)
	VMULPS(float(1<<8), of, of)
	ADDQ(step, scales)
	MOVQ(U32(blockColumns), rest)
	Label("loop")
	words, upper := YMM(), XMM()
	VPMOVSXBW(Mem{Base: at}, words)
	VPSLLW(Imm(7), words, words)
	VPAND(all(0xbfffbfff), words, words)
	VEXTRACTI128(Imm(1), words, upper)
	for i, half := range []reg.VecVirtual{words, upper} {
		x := YMM()
		VCVTPH2PS(half.AsX(), x)
		VMULPS(of, x, x)
		VMOVUPS(x, Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(Imm(16), at)
	ADDQ(Imm(64), dst)
	SUBQ(Imm(16), rest)
	JNZ(LabelRef("loop"))
	SUBQ(U32(blockColumns), n)
	JNZ(LabelRef("block"))
	emit.End()
}

// topCodes finds the largest magnitude of each block of E4M3 codes.
func topCodes() {
	emit.Begin("topCodesAVX2", "func(top, codes *byte, n int)",
		"writes the largest of each 128 of n E4M3 codes, a multiple of that, without signs, to top.")
	top, at, n := Load(Param("top"), GP64()), Load(Param("codes"), GP64()), Load(Param("n"), GP64())
	mask, low, flip := YMM(), XMM(), GP32()
	VMOVDQU(all(0x7f7f7f7f), mask)
	VMOVDQU(all(0x00ff00ff), low)
	Label("loop")
	var v [4]reg.VecVirtual
	for i := range v {
		v[i] = YMM()
		VPAND(Mem{Base: at, Disp: 32 * i}, mask, v[i])
	}
	VPMAXUB(v[1], v[0], v[0])
	VPMAXUB(v[3], v[2], v[2])
	VPMAXUB(v[2], v[0], v[0])
	x, odd := upperHalf(v[0], false), XMM()
	VPMAXUB(v[0].AsX(), x, x)
	VPSRLW(Imm(8), x, odd)
	VPMAXUB(odd, x, x) // in the low bytes
	VPANDN(low, x, x)  // the least of what is left to 255
	VPHMINPOSUW(x, x)
	VMOVD(x, flip)
	NOTL(flip)
	MOVB(flip.As8(), Mem{Base: top})
	INCQ(top)
	SUBQ(I32(-128), at)
	SUBQ(U32(blockColumns), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// errorE4M3 is the error of encode by the reciprocal of a scale without the
// codes.
func errorE4M3() {
	emit.Begin("errorE4M3F32AVX2", "func(w *float32, n int, factor, s float32, limit float64) float64",
		"returns the squared error of n weights, a multiple of sixteen, as E4M3 codes, or what it has come to after the chunk that brings it to the limit.")
	at, n := Load(Param("w"), GP64()), Load(Param("n"), GP64())
	factor, s, mask := emit.Broadcast("factor", YMM()), emit.Broadcast("s", YMM()), YMM()
	VMOVUPS(all(absMask), mask)
	limit, err := Param("limit").Resolve()
	if err != nil {
		panic(err)
	}
	sum := XMM()
	emit.Zero(sum)
	left, c := GP64(), heldE4M3(4)
	Label("chunk")
	MOVQ(U32(256), left)
	CMPQ(n, left)
	CMOVQLT(n, left)
	SUBQ(left, n)
	er := []reg.VecVirtual{YMM(), YMM()}
	for _, v := range er {
		emit.Zero(v)
	}
	Label("loop")
	var x, t []reg.VecVirtual
	for j := range er {
		x, t = append(x, YMM()), append(t, YMM())
		VPAND(Mem{Base: at, Disp: 32 * j}, mask, x[j])
		VMULPS(factor, x[j], t[j])
	}
	value := valuesE4M3(c, t...)
	for _, v := range value {
		VMULPS(s, v, v)
	}
	for j, v := range value {
		VSUBPS(x[j], v, v) // the difference
		VMULPS(v, v, v)
		VADDPS(v, er[j], er[j])
	}
	ADDQ(Imm(64), at)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("loop"))
	returnError(er, sum, limit.Addr, n)
}

// returnError adds the sums of a chunk, and goes on with the next of n or returns
// what all have come to: at the end, or where it is at the limit.
func returnError(er []reg.VecVirtual, sum reg.VecVirtual, limit Op, n reg.Register) {
	total := fold(er)
	VCVTSS2SD(total, total, total)
	VADDSD(total, sum, sum)
	VUCOMISD(limit, sum)
	JAE(LabelRef("done"))
	TESTQ(n, n)
	JNZ(LabelRef("chunk"))
	Label("done")
	VZEROUPPER()
	Store(sum, ReturnIndex(0))
	RET()
}

// roundsAlike compares the codes of quotients with those of quotients that are
// rounded to bfloat16.
func roundsAlike(code string) {
	emit.Begin("alike"+code+"AVX2", "func(w *float32, n int, s, lo, hi float32) int",
		"returns how many of n weights, a multiple of eight, have the same codes by their quotients w/s and by those rounded to bfloat16: it ends before eight of which one has not.")
	at, n := Load(Param("w"), GP64()), Load(Param("n"), GP64())
	s := emit.Broadcast("s", YMM())
	var lo, hi reg.VecVirtual
	if code == "Int" {
		lo, hi = emit.Broadcast("lo", YMM()), emit.Broadcast("hi", YMM())
	}
	left, same := GP64(), GP32()
	MOVQ(n, left)
	Label("loop")
	exact, rounded := YMM(), YMM()
	VMOVUPS(Mem{Base: at}, exact)
	VDIVPS(s, exact, exact)
	if code == "E4M3" {
		VPAND(all(absMask), exact, exact) // signs are the same
	}
	VMOVAPS(exact, rounded)
	narrow(rounded)
	for _, t := range []reg.VecVirtual{exact, rounded} {
		if code == "Int" {
			VMAXPS(lo, t, t)
			VMINPS(hi, t, t)
			VCVTPS2DQ(t, t)
		} else {
			VMOVAPS(valuesE4M3(heldE4M3(0), t)[0], t)
		}
	}
	VPCMPEQD(rounded, exact, exact)
	VMOVMSKPS(exact, same)
	CMPL(same, Imm(0xff))
	JNE(LabelRef("done"))
	ADDQ(Imm(32), at)
	SUBQ(Imm(8), left)
	JNZ(LabelRef("loop"))
	Label("done")
	SUBQ(left, n)
	VZEROUPPER()
	Store(n, ReturnIndex(0))
	RET()
}
