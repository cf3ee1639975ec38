package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

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
func store(b block, a accs, wide bool, narrow func(reg.VecVirtual) reg.VecVirtual) {
	half := func(v reg.VecVirtual) reg.VecVirtual { // [l0+l4, l1+l5, l2+l6, l3+l7]
		v = narrow(v)
		hi := XMM()
		if wide {
			VEXTRACTF32X4(Imm(1), v, hi) // reaches all 32 registers
		} else {
			VEXTRACTF128(Imm(1), v, hi)
		}
		VPADDD(hi, v.AsX(), hi)
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
			s, t, u := pair(half(row[0]), half(row[1])), pair(half(row[2]), half(row[3])), XMM()
			VUNPCKLPD(t, s, r) // [s0 s1 t0 t1]
			VUNPCKHPD(t, s, u)
			VPADDD(u, r, r)
		} else {
			h := half(row[0])
			r = XMM()
			VUNPCKHPD(h, h, r)
			VPADDD(r, h, r) // [p0+p2, p1+p3]
			h2 := XMM()
			VMOVSHDUP(r, h2)
			VPADDD(h2, r, r)
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
		VPADDD(old, r, r)
		Label(label)
		if len(row) == 4 {
			VMOVUPS(r, out)
		} else {
			VMOVSS(r, out)
		}
	}
	emit.End()
}

// pair folds two vectors of four: [p(p0+p2), q(p0+p2), p(p1+p3), q(p1+p3)].
func pair(p, q reg.VecVirtual) reg.VecVirtual {
	lo, hi := XMM(), XMM()
	VUNPCKLPS(q, p, lo)
	VUNPCKHPS(q, p, hi)
	VPADDD(hi, lo, lo)
	return lo
}
