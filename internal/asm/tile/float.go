package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const f32Doc = "computes a block of %d × %d float32 dot products in %d lanes of fused multiply-adds; with add they are added to y."

func f32AVX2(m, n int, masks Mem) {
	name := fmt.Sprintf("tileF32x%dx%dAVX2", m, n)
	b := begin(name, "float32", "float32", m, n, 4, fmt.Sprintf(f32Doc, m, n, 8))
	a := zeroed(m, n, YMM, false)
	step := func(load func(mem Mem, to reg.VecVirtual)) {
		x := make([]reg.VecVirtual, m)
		for i := range x {
			x[i] = YMM()
			load(at(b.x, i), x[i])
		}
		for j := range n {
			w := YMM()
			load(at(b.w, j), w)
			for i := range x {
				VFMADD231PS(x[i], w, a[i][j])
			}
		}
	}
	SUBQ(Imm(8), b.k)
	JL(LabelRef("tail"))
	Label("loop")
	step(func(mem Mem, to reg.VecVirtual) { VMOVUPS(mem, to) })
	advance(b.x, 32)
	advance(b.w, 32)
	SUBQ(Imm(8), b.k)
	JGE(LabelRef("loop"))
	Label("tail")
	ADDQ(Imm(8), b.k)
	JZ(LabelRef("fold"))
	table, mask := GP64(), YMM()
	LEAQ(masks, table)
	NEGQ(b.k)
	VMOVUPS(Mem{Base: table, Disp: 32, Index: b.k, Scale: 4}, mask)
	for i := range m { // one row of x at a time: the mask takes a register
		x := YMM()
		VMASKMOVPS(at(b.x, i), mask, x)
		for j := range n {
			w := YMM()
			VMASKMOVPS(at(b.w, j), mask, w)
			VFMADD231PS(x, w, a[i][j])
		}
	}
	Label("fold")
	Load(Param("add"), b.add)
	store(b, a, true, false, func(v reg.VecVirtual) reg.VecVirtual { return v })
}

func f32AVX512(m, n int) {
	name := fmt.Sprintf("tileF32x%dx%dAVX512", m, n)
	b := begin(name, "float32", "float32", m, n, 4, fmt.Sprintf(f32Doc, m, n, 16))
	a := zeroed(m, n, ZMM, true)
	step := func(load func(mem Mem, to reg.VecVirtual)) {
		x := make([]reg.VecVirtual, m)
		for i := range x {
			x[i] = ZMM()
			load(at(b.x, i), x[i])
		}
		for j := range n {
			w := ZMM()
			load(at(b.w, j), w)
			for i := range x {
				VFMADD231PS(x[i], w, a[i][j])
			}
		}
	}
	SUBQ(Imm(16), b.k)
	JL(LabelRef("tail"))
	Label("loop")
	step(func(mem Mem, to reg.VecVirtual) { VMOVUPS(mem, to) })
	advance(b.x, 64)
	advance(b.w, 64)
	SUBQ(Imm(16), b.k)
	JGE(LabelRef("loop"))
	Label("tail")
	ADDQ(Imm(16), b.k)
	JZ(LabelRef("fold"))
	mask := tailMask(b.k)
	step(func(mem Mem, to reg.VecVirtual) { VMOVUPS_Z(mem, mask, to) })
	Label("fold")
	Load(Param("add"), b.add)
	store(b, a, true, true, func(v reg.VecVirtual) reg.VecVirtual {
		hi := YMM()
		VEXTRACTF64X4(Imm(1), v, hi)
		VADDPS(hi, v.AsY(), hi)
		return hi
	})
}

// tailMask has the lowest k bits set, k < 64.
func tailMask(k reg.GPVirtual) reg.OpmaskVirtual {
	ones, mask := GP64(), K()
	MOVQ(I64(-1), ones)
	BZHIQ(k, ones, ones)
	KMOVQ(ones, mask)
	return mask
}

// store folds the lanes of every sum, in halves, and writes the block. narrow
// turns an accumulator into eight lanes; wide says that it may lie in any of 32 registers.
func store(b block, a accs, float, wide bool, narrow func(reg.VecVirtual) reg.VecVirtual) {
	plus := func(x, y Op, to reg.VecVirtual) {
		if float {
			VADDPS(x, y, to)
		} else {
			VPADDD(x, y, to)
		}
	}
	half := func(v reg.VecVirtual) reg.VecVirtual { // [l0+l4, l1+l5, l2+l6, l3+l7]
		v = narrow(v)
		hi := XMM()
		if wide {
			VEXTRACTF32X4(Imm(1), v, hi) // reaches all 32 registers
		} else {
			VEXTRACTF128(Imm(1), v, hi)
		}
		plus(hi, v.AsX(), hi)
		return hi
	}
	for i, row := range a {
		out := Mem{Base: b.y}
		if i > 0 {
			ADDQ(b.ldy, b.y)
		}
		var r reg.VecVirtual
		if len(row) == 4 {
			r = XMM()
			s, t, u := pair(half(row[0]), half(row[1]), plus), pair(half(row[2]), half(row[3]), plus), XMM()
			VUNPCKLPD(t, s, r) // [s0 s1 t0 t1]
			VUNPCKHPD(t, s, u)
			plus(u, r, r)
		} else {
			h := half(row[0])
			r = XMM()
			VUNPCKHPD(h, h, r)
			plus(r, h, r) // [p0+p2, p1+p3]
			h2 := XMM()
			VMOVSHDUP(r, h2)
			plus(h2, r, r)
		}
		label := fmt.Sprintf("put%d", i)
		TESTQ(b.add, b.add)
		JZ(LabelRef(label))
		old := XMM()
		if len(row) == 4 {
			VMOVUPS(out, old)
		} else {
			VMOVSS(out, old)
		}
		plus(old, r, r)
		Label(label)
		if len(row) == 4 {
			VMOVUPS(r, out)
		} else {
			VMOVSS(r, out)
		}
	}
	VZEROUPPER()
	RET()
}

// pair folds two vectors of four: [p(p0+p2), q(p0+p2), p(p1+p3), q(p1+p3)].
func pair(p, q reg.VecVirtual, plus func(x, y Op, to reg.VecVirtual)) reg.VecVirtual {
	lo, hi := XMM(), XMM()
	VUNPCKLPS(q, p, lo)
	VUNPCKHPS(q, p, hi)
	plus(hi, lo, lo)
	return lo
}
