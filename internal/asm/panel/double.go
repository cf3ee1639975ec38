package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// double takes x·w away from y for m rows and a panel of columns of float64.
func double(p path, m int) {
	emit.Begin(fmt.Sprintf("panelF64x%d%s", m, p.name), "func(y *float64, ldy int, x *float64, ldx int, w *float64, ldw int, k int)",
		fmt.Sprintf("computes y[i·ldy+j] −= Σ x[i·ldx+·]·w[·ldw+j] for %d rows and %d columns: a chain of fused multiply-adds over k > 0, which begins with y.",
			m, p.size*p.cols/8))
	y, ldy := Load(Param("y"), GP64()), Load(Param("ldy"), GP64())
	SHLQ(Imm(3), ldy)
	x := emit.NewRows("x", "ldx", m, 8)
	w, ldw := Load(Param("w"), GP64()), Load(Param("ldw"), GP64())
	SHLQ(Imm(3), ldw)
	k := Load(Param("k"), GP64())
	acc := p.block(m)
	old := GP64()
	MOVQ(y, old)
	p.each(acc, old, ldy, func(v reg.VecVirtual, mem Mem) { VMOVUPD(mem, v) })
	unrolled(k, 2, func(steps int) {
		for u := range steps {
			p.chain(float64s, acc, w, ldw, x, u)
		}
		x.Advance(8 * steps)
	})
	p.each(acc, y, ldy, func(v reg.VecVirtual, mem Mem) { VMOVUPD(v, mem) })
	emit.End()
}
