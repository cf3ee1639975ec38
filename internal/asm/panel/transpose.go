package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// transposes turn blocks of 8 rows × 4 words: halves of four rows are put side
// by side in loading, two rounds of unpacking turn each. Eight rows a multiple
// of 4 KiB apart still fit in one set of the first-level cache, sixteen do not.
// What is in a word is then widened to float32, or stored as it is.
func transposes() {
	transpose("Words", "words, each xor flip", "flip uint32", flipWords)
	transpose("BF16", "pairs of BF16", "", widenBF16)
	transpose("Int8", "fours of int8 codes, each times scale[r]", "scale *float32", widenInt8)
	transpose("E2M1", "eights of E2M1 codes, those of two words times the same scale[r], eight scales after each other", "scale *float32", widenE2M1)
	transpose("E4M3", "fours of E4M3 codes; nan is set if one is not a number, and is 480 here", "nan *uint32", widenE4M3)
}

// flipWords xors words with flip.
func flipWords() (widener, func()) {
	flip, f := YMM(), GP32()
	Load(Param("flip"), f)
	VMOVD(f, flip.AsX())
	VPBROADCASTD(flip.AsX(), flip)
	return func(v reg.VecVirtual, put func(reg.VecVirtual)) {
		VPXOR(flip, v, v)
		put(v)
	}, nil
}

// widenBF16 takes pairs of BF16.
func widenBF16() (widener, func()) {
	high := constant(0xffff0000)
	return func(v reg.VecVirtual, put func(reg.VecVirtual)) {
		lo := YMM()
		VPSLLD(Imm(16), v, lo)
		VPAND(high, v, v)
		put(lo)
		put(v)
	}, nil
}

// widenInt8 takes fours of int8 codes, each times the scale of its row.
func widenInt8() (widener, func()) {
	p, scale := GP64(), YMM()
	Load(Param("scale"), p)
	VMOVUPS(Mem{Base: p}, scale)
	return func(v reg.VecVirtual, put func(reg.VecVirtual)) {
		for b := range 4 {
			x := v
			if b < 3 {
				x = YMM()
				VPSLLD(Imm(uint64(24-8*b)), v, x)
			}
			VPSRAD(Imm(24), x, x)
			VCVTDQ2PS(x, x)
			VMULPS(scale, x, x)
			put(x)
		}
	}, nil
}

// widenE4M3 takes fours of E4M3 codes.
// Sign, exponent and fraction of a code are those of a float16, a bit further to
// the right and with an exponent that is 8 less: converting it, which takes
// subnormal numbers at full speed, and multiplying by 2^8 are both exact.
func widenE4M3() (widener, func()) {
	seven, fields, up, seen := constant(0x7f7f7f7f), constant(0xbf80bf80), constant(math.Float32bits(1<<8)), YMM()
	apart := evenWordsFirst()
	VPXOR(seen, seen, seen)
	return func(v reg.VecVirtual, put func(reg.VecVirtual)) {
			t := YMM()
			VPAND(seven, v, t)
			VPCMPEQB(seven, t, t)
			VPOR(t, seen, seen)
			even := YMM() // columns 0 and 2 of a row in the upper bytes of its words
			VPSLLW(Imm(8), v, even)
			for _, w := range []reg.VecVirtual{even, v} {
				VPSRAW(Imm(1), w, w)
				VPAND(fields, w, w)
				VPSHUFB(apart, w, w)
				VPERMQ(Imm(0xd8), w, w)
			}
			for half := range 2 {
				for _, w := range []reg.VecVirtual{even, v} {
					x, y := w.AsX(), YMM()
					if half == 1 {
						upper := XMM()
						VEXTRACTI128(Imm(1), w, upper)
						x = upper
					}
					VCVTPH2PS(x, y)
					VMULPS(up, y, y)
					put(y)
				}
			}
		}, func() {
			p, m := GP64(), GP32()
			Load(Param("nan"), p)
			VPMOVMSKB(seen, m)
			ORL(m, Mem{Base: p})
		}
}

// widenE2M1 takes eight codes of a word: their magnitudes stand in a table of
// eight lanes, of whose indices only the low three bits count.
func widenE2M1() (widener, func()) {
	p, sign, table, turn := GP64(), constant(1<<31), YMM(), 0
	Load(Param("scale"), p)
	m := GLOBL("magnitudesE2M1", RODATA|NOPTR)
	for i, v := range []float32{0, 0.5, 1, 1.5, 2, 3, 4, 6} {
		DATA(4*i, U32(math.Float32bits(v)))
	}
	VMOVUPS(m, table)
	return func(v reg.VecVirtual, put func(reg.VecVirtual)) {
		scale := YMM()
		VMOVUPS(Mem{Base: p, Disp: 32 * (turn / 2)}, scale)
		for c := range 8 {
			x, index, signs := YMM(), v, YMM()
			if c > 0 {
				index = YMM()
				VPSRLD(Imm(uint64(4*c)), v, index)
			}
			VPERMPS(table, index, x)
			if c < 7 {
				VPSLLD(Imm(uint64(28-4*c)), v, signs)
				VPAND(sign, signs, signs)
			} else {
				VPAND(sign, v, signs)
			}
			VPOR(signs, x, x)
			VMULPS(scale, x, x)
			put(x)
		}
		if turn++; turn == 4 {
			ADDQ(Imm(64), p)
		}
	}, nil
}

// evenWordsFirst is a shuffle that puts the even words of each half of a vector
// before the odd ones.
func evenWordsFirst() Mem {
	m := GLOBL("evenWordsFirst", RODATA|NOPTR)
	for half := range 2 {
		DATA(16*half, U64(0x0d0c_0908_0504_0100))
		DATA(16*half+8, U64(0x0f0e_0b0a_0706_0302))
	}
	return m
}

// widener makes of eight words the vectors that are put one after the other.
type widener func(v reg.VecVirtual, put func(reg.VecVirtual))

// constant is a vector of eight equal words.
func constant(v uint32) reg.VecVirtual {
	c, g := YMM(), GP32()
	MOVL(U32(v), g)
	VMOVD(g, c.AsX())
	VPBROADCASTD(c.AsX(), c)
	return c
}

func transpose(kind, what, param string, setup func() (widen widener, end func())) {
	name := "transpose" + kind + "AVX2"
	if param != "" {
		param = ", " + param
	}
	emit.Begin(name, "func(dst *uint32, ldd int, src *byte, lds int, n int, next *byte, hop int"+param+")",
		fmt.Sprintf("writes 8 rows (lds bytes apart) of n 4-byte words, a multiple of 4, not 0, as columns: element c of row r goes to dst[c·ldd+r]. The "+
			"words are %s. It prefetches two lines from next on, hop bytes further every fourth word.", what))
	dst, ldd := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64())
	src, lds := Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	n := Load(Param("n"), GP64())
	next, hop := Load(Param("next"), GP64()), Load(Param("hop"), GP64())
	SHLQ(Imm(2), ldd)
	lds3, half, ldd3 := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	LEAQ(Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	LEAQ(Mem{Base: src, Index: lds, Scale: 4}, half)
	widen, end := setup()
	puts := 0
	put := func(x reg.VecVirtual) { // to the next row of dst
		to := Mem{Base: dst}
		switch puts % 4 {
		case 1, 2:
			to.Index, to.Scale = ldd, uint8(puts%4)
		case 3:
			to.Index, to.Scale = ldd3, 1
		}
		VMOVDQU(x, to)
		if puts++; puts%4 == 0 {
			LEAQ(Mem{Base: dst, Index: ldd, Scale: 4}, dst.(reg.GPVirtual))
		}
	}
	Label("loop")
	PREFETCHT1(Mem{Base: next})
	PREFETCHT1(Mem{Base: next, Disp: 64})
	ADDQ(hop, next)
	for _, column := range turned8(func(i int) Mem { return strided([]reg.Register{src, half}[i/4], lds, lds3, i%4) }) {
		widen(column, put)
	}
	ADDQ(Imm(16), src)
	ADDQ(Imm(16), half)
	SUBQ(Imm(4), n)
	JNZ(LabelRef("loop"))
	if end != nil {
		end()
	}
	emit.End()
}

// turned8 turns 8 rows of 4 words and returns the columns in order.
func turned8(row func(i int) Mem) (columns [4]reg.VecVirtual) {
	var r [4]reg.VecVirtual // rows i and i+4
	for i := range r {
		r[i] = YMM()
		VBROADCASTI128(row(i), r[i])
		VINSERTI128(Imm(1), row(i+4), r[i], r[i])
	}
	for i := range 2 {
		a, b := YMM(), YMM()
		if i == 0 {
			VPUNPCKLDQ(r[1], r[0], a)
			VPUNPCKLDQ(r[3], r[2], b)
		} else {
			VPUNPCKHDQ(r[1], r[0], a)
			VPUNPCKHDQ(r[3], r[2], b)
		}
		columns[2*i], columns[2*i+1] = YMM(), YMM()
		VPUNPCKLQDQ(b, a, columns[2*i])
		VPUNPCKHQDQ(b, a, columns[2*i+1])
	}
	return columns
}
