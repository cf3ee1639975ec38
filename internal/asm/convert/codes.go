package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// The twins that take E4M3 codes with scales of their own: weights are widened in
// registers, on their way to codes of another scale. Blocks of 128 columns share
// a scale, or all of a row do.

// blockColumns are the columns of a block.
const blockColumns = 128

// encodeCodes is encode by the reciprocal of the scale, of weights that are
// codes times scales.
func encodeCodes(code string) {
	emit.Begin("encode"+code+"F8AVX2", "func(dst, codes *byte, n int, scales *float32, step int, factor, s, lo, hi float32, out *float64)",
		"rounds n weights, a multiple of 128, to codes and adds what that costs to the runError at out. They are E4M3 codes times scales, of which each 128 have one, step bytes after the one before.")
	l := &loop{dst: Load(Param("dst"), GP64()), w: Load(Param("codes"), GP64())}
	n, scales, step := Load(Param("n"), GP64()), Load(Param("scales"), GP64()), Load(Param("step"), GP64())
	l.factor, l.s, l.worst = emit.Broadcast("factor", YMM()), emit.Broadcast("s", YMM()), YMM()
	one := codesStep(code == "Int")
	for range 2 {
		l.sq, l.er = append(l.sq, YMM()), append(l.er, YMM())
	}
	out := Load(Param("out"), GP64())
	emit.Zero(l.worst)
	left, rest, of := GP64(), GP64(), YMM()
	Label("chunk")
	MOVQ(U32(256), left)
	CMPQ(n, left)
	CMOVQLT(n, left)
	SUBQ(left, n)
	for i := range 2 {
		emit.Zero(l.sq[i])
		emit.Zero(l.er[i])
	}
	Label("block")
	VBROADCASTSS(Mem{Base: scales}, of)
	VMULPS(float(1<<8), of, of) // as half precision a code is 2^-8 of its value
	ADDQ(step, scales)
	MOVQ(U32(blockColumns), rest)
	Label("loop")
	one(l, of)
	ADDQ(Imm(32), l.w)
	ADDQ(Imm(32), l.dst)
	SUBQ(Imm(32), rest)
	JNZ(LabelRef("loop"))
	SUBQ(U32(blockColumns), left)
	JNZ(LabelRef("block"))
	for i, v := range [][]reg.VecVirtual{l.sq, l.er} {
		addTo(Mem{Base: out, Disp: 8 * i}, foldNarrow(v))
	}
	TESTQ(n, n)
	JNZ(LabelRef("chunk"))
	storeMax(l.worst, Mem{Base: out, Disp: 16}, false)
	emit.End()
}

// addTo adds a float32 to the float64 at m.
func addTo(m Mem, x reg.VecVirtual) {
	VCVTSS2SD(x, x, x)
	VADDSD(m, x, x)
	VMOVSD(x, m)
}

// widen makes sixteen codes half precision numbers, 2^-8 of what they stand for or
// of its magnitude, and then float32: 0-3 and 8-11, 4-7 and 12-15, as narrowStep
// has them.
func widen(codes Mem, signed bool) [2]reg.VecVirtual {
	bytes, words, upper := XMM(), YMM(), XMM()
	VPSHUFD(Imm(0xd8), codes, bytes)
	if signed {
		VPMOVSXBW(bytes, words)
		VPSLLW(Imm(7), words, words)
		VPAND(all(0xbfffbfff), words, words)
	} else {
		VPMOVZXBW(bytes, words)
		VPSLLW(Imm(7), words, words)
		VPAND(all(0x3fff3fff), words, words)
	}
	VEXTRACTI128(Imm(1), words, upper)
	x := [2]reg.VecVirtual{YMM(), YMM()}
	VCVTPH2PS(words.AsX(), x[0])
	VCVTPH2PS(upper, x[1])
	return x
}

// codesStep rounds thirty-two weights of a scale as narrowStep does; E4M3 codes
// get the signs of the codes that they come from.
func codesStep(signed bool) func(l *loop, of reg.VecVirtual) {
	var lo, hi reg.VecVirtual
	if signed {
		lo, hi = emit.Broadcast("lo", YMM()), emit.Broadcast("hi", YMM())
	}
	return func(l *loop, of reg.VecVirtual) {
		var words [2]reg.VecVirtual
		for i := range words {
			var codes [2]reg.VecVirtual
			for j, x := range widen(Mem{Base: l.w, Disp: 16 * i}, signed) {
				t, value, square := YMM(), YMM(), YMM()
				VMULPS(of, x, x)
				VMULPS(l.factor, x, t)
				if signed {
					VMAXPS(lo, t, t)
					VMINPS(hi, t, t)
					codes[j], value = nearest(t)
				} else {
					codes[j], value = magnitudeE4M3(t)
				}
				VMULPS(l.s, value, value)
				VSUBPS(x, value, value) // the difference
				VMULPS(x, x, x)
				VADDPS(x, l.sq[j], l.sq[j])
				VMULPS(value, value, square)
				VADDPS(square, l.er[j], l.er[j])
				VPAND(all(absMask), value, value)
				VPMAXUD(value, l.worst, l.worst)
			}
			words[i] = YMM()
			if signed {
				VPACKSSDW(codes[1], codes[0], words[i])
			} else {
				VPACKUSDW(codes[1], codes[0], words[i])
			}
		}
		pack := words[0]
		if signed {
			VPACKSSWB(words[1], words[0], pack)
		} else {
			VPACKUSWB(words[1], words[0], pack)
			VPSUBB(all(e4m3Bias&0xff*0x01010101), pack, pack)
		}
		VPERMQ(Imm(0xd8), pack, pack) // words in order
		if !signed {
			signs := YMM()
			VMOVDQU(Mem{Base: l.w}, signs)
			VPAND(all(0x80808080), signs, signs)
			VPOR(signs, pack, pack)
		}
		VMOVDQU(pack, Mem{Base: l.dst})
	}
}

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
	limit, sum := XMM(), XMM()
	where, err := Param("limit").Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSD(where.Addr, limit)
	emit.Zero(sum)
	left := GP64()
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
	for j, v := range er {
		x, t := YMM(), YMM()
		VPAND(Mem{Base: at, Disp: 32 * j}, mask, x)
		VMULPS(factor, x, t)
		value := valueE4M3(t)
		VMULPS(s, value, value)
		VSUBPS(x, value, value) // the difference
		VMULPS(value, value, value)
		VADDPS(value, v, v)
	}
	ADDQ(Imm(64), at)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("loop"))
	x := fold(er)
	VCVTSS2SD(x, x, x)
	VADDSD(x, sum, sum)
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
			VMOVAPS(valueE4M3(t), t)
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
