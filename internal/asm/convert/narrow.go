package main

import (
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
			raw, x := YMM(), [2]reg.VecVirtual{YMM(), YMM()}
			VMOVDQU(Mem{Base: l.w, Disp: 32 * i}, raw)
			if !signed {
				VPAND(all(0x7fff7fff), raw, raw)
			}
			VPUNPCKLWD(raw, zero, x[0])
			VPUNPCKHWD(raw, zero, x[1])
			words[i] = l.pair(x, lo, hi)
		}
		pack := packFour(words, signed)
		if !signed {
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

// magnitudesE4M3 is roundE4M3 of numbers without a sign: it leaves sixteen times a
// code and e4m3Bias in t, since exponents lie sixteen times as high in their words
// as low bits do in theirs. Multiplying by 2^20 and adding is fused, and exact as
// far as the product goes.
func magnitudesE4M3(c limits, t ...reg.VecVirtual) (value []reg.VecVirtual) {
	value = valuesE4M3(c, t...)
	for _, sum := range t {
		VPMADDWD(all(1<<16|16), sum, sum)
	}
	return value
}

// packTwo makes words of codes: integers, or those of magnitudesE4M3.
func packTwo(codes [2]reg.VecVirtual, signed bool) reg.VecVirtual {
	words := codes[0]
	VPACKSSDW(codes[1], codes[0], words)
	if !signed {
		VPSRLW(Imm(4), words, words)
		VPSUBW(all(e4m3Bias<<16|e4m3Bias), words, words)
	}
	return words
}

// packFour makes bytes of packTwo's words.
func packFour(words [2]reg.VecVirtual, signed bool) reg.VecVirtual {
	if signed {
		VPACKSSWB(words[1], words[0], words[0])
	} else {
		VPACKUSWB(words[1], words[0], words[0])
	}
	return words[0]
}

// valuesE4M3 leaves the sums whose low bits have the codes in t, magnitudes, and
// returns what the codes stand for. Steps come beside each other: a processor
// does not look far ahead for what does not wait for anything.
func valuesE4M3(c limits, t ...reg.VecVirtual) (value []reg.VecVirtual) {
	for _, x := range t {
		value = append(value, YMM())
		VPMINUD(c.most, x, x)
	}
	for i, x := range t {
		VPAND(c.exponent, x, value[i])
	}
	for _, v := range value {
		VPMAXUD(c.least, v, v)
	}
	for i, x := range t {
		VFMADD231PS(c.up, value[i], x)
	}
	for i, x := range t {
		VFNMADD132PS(c.up, x, value[i])
	}
	return value
}

// limits are what rounding compares with. A weight's power of two times up is what
// is added to round it.
type limits struct{ up, exponent, least, most Op }

// heldE4M3 are those of E4M3, the first n of them in registers: a processor does
// two loads in the time of four other instructions.
func heldE4M3(n int) limits { return held(n, 1<<20, 1./64, e4m3Max) }

func held(n int, up, least float32, most uint32) limits {
	in := [4]Op{float(up), all(0x7f800000), float(least), all(most)}
	for i := range n {
		v := YMM()
		VMOVUPS(in[i], v)
		in[i] = v
	}
	return limits{in[0], in[1], in[2], in[3]}
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
