package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const transposeSig = "func(dst *uint32, ldd int, src *uint32, lds int, n int, flip uint32)"

// transpose8 turns blocks of 8 × 4 words: halves of four rows are put side by
// side in loading, two rounds of unpacking turn each. Eight rows a multiple of
// 4 KiB apart still fit in one set of the first-level cache, sixteen do not.
func transpose8() {
	TEXT("transpose8AVX2", NOSPLIT, transposeSig)
	Pragma("noescape")
	Doc("transpose8AVX2 computes dst[c·ldd+r] = src[r·lds+c] xor flip for 8 rows r and n columns c, a multiple of 4.")
	dst, ldd := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64())
	src, lds := Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	n := Load(Param("n"), GP64())
	SHLQ(Imm(2), ldd)
	SHLQ(Imm(2), lds)
	flip, f := YMM(), GP32()
	Load(Param("flip"), f)
	VMOVD(f, flip.AsX())
	VPBROADCASTD(flip.AsX(), flip)
	lds3, half := GP64(), GP64()
	LEAQ(Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	LEAQ(Mem{Base: src, Index: lds, Scale: 4}, half)
	row := func(base reg.Register, i int) Mem {
		m := Mem{Base: base}
		switch i {
		case 1, 2:
			m.Index, m.Scale = lds, uint8(i)
		case 3:
			m.Index, m.Scale = lds3, 1
		}
		return m
	}
	Label("loop")
	v := make([]reg.VecVirtual, 4)
	for i := range v {
		v[i] = YMM()
		VMOVDQU(row(src, i), v[i].AsX())
		VINSERTI128(Imm(1), row(half, i), v[i], v[i])
		VPXOR(flip, v[i], v[i])
	}
	a, b, c, d := YMM(), YMM(), YMM(), YMM()
	VPUNPCKLDQ(v[1], v[0], a)
	VPUNPCKHDQ(v[1], v[0], b)
	VPUNPCKLDQ(v[3], v[2], c)
	VPUNPCKHDQ(v[3], v[2], d)
	for _, pair := range [][2]reg.VecVirtual{{a, c}, {b, d}} {
		lo, hi := YMM(), YMM()
		VPUNPCKLQDQ(pair[1], pair[0], lo)
		VPUNPCKHQDQ(pair[1], pair[0], hi)
		for _, t := range []reg.VecVirtual{lo, hi} {
			VMOVDQU(t, Mem{Base: dst})
			ADDQ(ldd, dst)
		}
	}
	ADDQ(Imm(16), src)
	ADDQ(Imm(16), half)
	SUBQ(Imm(4), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
