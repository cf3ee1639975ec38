package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// The AVX2 twins that take bfloat16 weights as they are stored.

// narrowStep rounds thirty-two weights. Interleaving words with zeros widens
// them, in each half of a vector: of sixteen weights the first vector has 0-3 and
// 8-11, the second 4-7 and 12-15, and packing them puts the codes back in order.
//
// E4M3 is symmetric, so that magnitudes are rounded, compared and added up, and
// codes get the signs of the weights in the end.
func (r run) narrowStep() func(l *loop) {
	signed := r.code == "Int"
	zero := YMM()
	emit.Zero(zero)
	var lo, hi reg.VecVirtual
	if signed {
		lo, hi = emit.Broadcast("lo", YMM()), emit.Broadcast("hi", YMM())
	}
	return func(l *loop) {
		var words [2]reg.VecVirtual
		for i := range words {
			raw, codes := YMM(), [2]reg.VecVirtual{}
			VMOVDQU(Mem{Base: l.w, Disp: 32 * i}, raw)
			if !signed {
				VPAND(all(0x7fff7fff), raw, raw)
			}
			for j := range codes {
				x, t, value, square := YMM(), YMM(), YMM(), YMM()
				if j == 0 {
					VPUNPCKLWD(raw, zero, x)
				} else {
					VPUNPCKHWD(raw, zero, x)
				}
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
			first, signs := YMM(), YMM()
			VMOVDQU(Mem{Base: l.w}, first)
			VPACKSSWB(Mem{Base: l.w, Disp: 32}, first, signs) // saturation keeps the sign
			VPAND(all(0x80808080), signs, signs)
			VPOR(signs, pack, pack)
		}
		VPERMQ(Imm(0xd8), pack, pack) // words in order
		VMOVDQU(pack, Mem{Base: l.dst})
	}
}

// magnitudeE4M3 is roundE4M3 of numbers without a sign: what the low byte of code
// exceeds the code by is e4m3Bias. Multiplying by 2^20 and adding is fused, and
// exact as far as the product goes.
func magnitudeE4M3(t reg.VecVirtual) (code, value reg.VecVirtual) {
	value, code = valueE4M3(t), YMM()
	VPSRLD(Imm(20), t, code)
	VPADDD(t, code, code)
	VPAND(all(0xff), code, code)
	return code, value
}

// valueE4M3 leaves the sum whose low bits have the code in t, a magnitude, and
// returns what the code stands for.
func valueE4M3(t reg.VecVirtual) (value reg.VecVirtual) {
	up := float(1 << 20)
	value = YMM()
	VPMINUD(all(e4m3Max), t, t)
	VPAND(all(0x7f800000), t, value)
	VPMAXUD(all(math.Float32bits(1./64)), value, value)
	VFMADD231PS(up, value, t)
	VFNMADD132PS(up, t, value)
	return value
}

// foldNarrow is fold for lanes in the order of narrowStep.
func foldNarrow(lanes []reg.VecVirtual) reg.VecVirtual {
	var quarters [2]reg.VecVirtual // j = 0-3, then 4-7, each with j+8
	for i, v := range lanes {
		quarters[i] = XMM()
		VEXTRACTF128(Imm(1), v, quarters[i])
		VADDPS(v.AsX(), quarters[i], quarters[i])
	}
	VADDPS(quarters[1], quarters[0], quarters[0])
	return foldFour(quarters[0])
}

// absMaxNarrow is absMaxBits of bfloat16 weights, thirty-two at a time.
func absMaxNarrow() {
	emit.Begin("absMaxBF16AVX2", "func(w *byte, n int) uint32", "returns the bits of the largest magnitude of n bfloat16 weights, a multiple of thirty-two.")
	w, n := Load(Param("w"), GP64()), Load(Param("n"), GP64())
	tops, mask := [2]reg.VecVirtual{YMM(), YMM()}, YMM()
	VMOVDQU(all(0x7fff7fff), mask)
	for _, top := range tops {
		emit.Zero(top)
	}
	Label("loop")
	for i, top := range tops {
		t := YMM()
		VPAND(Mem{Base: w, Disp: 32 * i}, mask, t)
		VPMAXUW(t, top, top)
	}
	ADDQ(Imm(64), w)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	VPMAXUW(tops[1], tops[0], tops[0])
	returnMaxWord(tops[0], false)
}

// returnMaxWord ends a function with the greatest of y's unsigned words, as the
// upper half of a float32.
func returnMaxWord(y reg.VecVirtual, wide bool) {
	x, even := upperHalf(y, wide), XMM()
	VPMAXUW(y.AsX(), x, x)
	VPSRLD(Imm(16), x, even)
	VPMAXUW(even, x, x) // in the low words
	VPSLLD(Imm(16), x, x)
	returnMax(x)
}
