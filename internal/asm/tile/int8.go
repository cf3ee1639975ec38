package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// int8AVX2 widens to 16 bits and multiplies pairs: exact. k must be a multiple
// of 16.
func int8AVX2(m, n int) {
	name := fmt.Sprintf("tileInt8x%dx%dAVX2", m, n)
	b := begin(name, m, n,
		fmt.Sprintf("computes a block of %d × %d exact int8 dot products; k is a multiple of 16; with add they are added to y.", m, n))
	a := zeroed(m, n, YMM)
	Label("loop")
	x := make([]reg.VecVirtual, m)
	for i := range x {
		x[i] = YMM()
		VPMOVSXBW(b.x.At(i), x[i])
	}
	for j := range n {
		w := YMM()
		VPMOVSXBW(b.w.At(j), w)
		for i := range x {
			p := YMM()
			if i == m-1 {
				p = w
			}
			VPMADDWD(x[i], w, p)
			VPADDD(p, a[i][j], a[i][j])
		}
	}
	b.x.Advance(16)
	b.w.Advance(16)
	SUBQ(Imm(16), b.k)
	JNZ(LabelRef("loop"))
	Load(Param("add"), b.add)
	store(b, a, false, func(v reg.VecVirtual) reg.VecVirtual { return v })
}

// int8VNNI multiplies x+128 (unsigned) with w and takes 128·Σw off again; sums
// wrap modulo 2^32 on the way and end exact.
func int8VNNI(m, n int) {
	name := fmt.Sprintf("tileInt8x%dx%dVNNI", m, n)
	b := begin(name, m, n,
		fmt.Sprintf("computes a block of %d × %d exact int8 dot products; with add they are added to y.", m, n))
	a := zeroed(m, n, ZMM)
	sums := zeroed(1, n, ZMM)[0] // 128·Σw by row of w
	flip, c := ZMM(), GP32()
	MOVL(U32(0x80808080), c)
	VPBROADCASTD(c, flip)
	step := func(load func(mem Mem, to reg.VecVirtual)) {
		x := make([]reg.VecVirtual, m)
		for i := range x {
			x[i] = ZMM()
			load(b.x.At(i), x[i])
			VPXORD(flip, x[i], x[i])
		}
		for j := range n {
			w := ZMM()
			load(b.w.At(j), w)
			for i := range x {
				VPDPBUSD(w, x[i], a[i][j])
			}
			VPDPBUSD(w, flip, sums[j])
		}
	}
	SUBQ(Imm(64), b.k)
	JL(LabelRef("tail"))
	Label("loop")
	step(func(mem Mem, to reg.VecVirtual) { VMOVDQU64(mem, to) })
	b.x.Advance(64)
	b.w.Advance(64)
	SUBQ(Imm(64), b.k)
	JGE(LabelRef("loop"))
	Label("tail")
	ADDQ(Imm(64), b.k)
	JZ(LabelRef("fold"))
	mask := tailMask(b.k)
	step(func(mem Mem, to reg.VecVirtual) { VMOVDQU8_Z(mem, mask, to) })
	Label("fold")
	for i := range a {
		for j := range a[i] {
			VPSUBD(sums[j], a[i][j], a[i][j])
		}
	}
	Load(Param("add"), b.add)
	store(b, a, true, func(v reg.VecVirtual) reg.VecVirtual {
		hi := YMM()
		VEXTRACTI64X4(Imm(1), v, hi)
		VPADDD(hi, v.AsY(), hi)
		return hi
	})
}
