package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// transpose16 turns blocks of 16 × 16 words: a line of each row is read once.
// Two rounds of unpacking turn the 4 × 4 words of each quarter, two rounds of
// shuffles the 4 × 4 quarters.
func transpose16() {
	emit.Begin("transposeWordsAVX512", "func(dst *uint32, ldd int, src *byte, lds int, n int, flip uint32)",
		"writes 16 rows (lds bytes apart) of n 4-byte words, a multiple of 16, not 0, as columns: word c of row r, xor flip, goes to dst[c·ldd+r].")
	dst, ldd := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64())
	lds := Load(Param("lds"), GP64())
	n := Load(Param("n"), GP64())
	flip, f := ZMM(), GP32()
	Load(Param("flip"), f)
	VPBROADCASTD(f, flip)
	SHLQ(Imm(2), ldd)
	lds3, ldd3 := GP64(), GP64()
	LEAQ(Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	bases := quarters(Load(Param("src"), GP64()), lds)
	Label("loop")
	rows := quarters(dst, ldd) // of the result
	words := turned16(func(g, i int) reg.VecVirtual {
		v := ZMM()
		VPXORD(strided(bases[g], lds, lds3, i), flip, v)
		return v
	})
	for c, v := range words {
		VMOVDQU32(v, strided(rows[c/4], ldd, ldd3, c%4))
	}
	LEAQ(Mem{Base: rows[3], Index: ldd, Scale: 4}, dst.(reg.GPVirtual))
	for _, b := range bases {
		ADDQ(Imm(64), b)
	}
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// quarters returns the addresses of rows 0, 4, 8 and 12, ld bytes apart from base on.
func quarters(base, ld reg.Register) []reg.Register {
	out := []reg.Register{base}
	for len(out) < 4 {
		b := GP64()
		LEAQ(Mem{Base: out[len(out)-1], Index: ld, Scale: 4}, b)
		out = append(out, b)
	}
	return out
}

// strided addresses row i < 4 from base on, ld bytes apart; ld3 is 3·ld.
func strided(base, ld, ld3 reg.Register, i int) Mem {
	m := Mem{Base: base}
	switch i {
	case 1, 2:
		m.Index, m.Scale = ld, uint8(i)
	case 3:
		m.Index, m.Scale = ld3, 1
	}
	return m
}

// turned16 turns 16 rows of 16 words, load reading row 4g+i, and returns the
// columns in order.
func turned16(load func(g, i int) reg.VecVirtual) (columns [16]reg.VecVirtual) {
	// Quarter L of t[g][j] holds column 4L+j of rows 4g … 4g+3.
	var t [4][4]reg.VecVirtual
	for g := range t {
		var r [4]reg.VecVirtual
		for i := range r {
			r[i] = load(g, i)
		}
		a, b, c, d := ZMM(), ZMM(), ZMM(), ZMM()
		VPUNPCKLDQ(r[1], r[0], a)
		VPUNPCKHDQ(r[1], r[0], b)
		VPUNPCKLDQ(r[3], r[2], c)
		VPUNPCKHDQ(r[3], r[2], d)
		for j := range t[g] {
			t[g][j] = ZMM()
		}
		VPUNPCKLQDQ(c, a, t[g][0])
		VPUNPCKHQDQ(c, a, t[g][1])
		VPUNPCKLQDQ(d, b, t[g][2])
		VPUNPCKHQDQ(d, b, t[g][3])
	}
	for j := range 4 {
		a, b, c, d := ZMM(), ZMM(), ZMM(), ZMM()
		VSHUFI32X4(Imm(0x44), t[1][j], t[0][j], a)
		VSHUFI32X4(Imm(0xee), t[1][j], t[0][j], b)
		VSHUFI32X4(Imm(0x44), t[3][j], t[2][j], c)
		VSHUFI32X4(Imm(0xee), t[3][j], t[2][j], d)
		for l, pair := range [][2]reg.VecVirtual{{a, c}, {a, c}, {b, d}, {b, d}} {
			v := ZMM()
			VSHUFI32X4(Imm([]uint64{0x88, 0xdd}[l%2]), pair[1], pair[0], v)
			columns[4*l+j] = v
		}
	}
	return columns
}
