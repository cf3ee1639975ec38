package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// fewBF16 multiplies m tokens with 16 rows of BF16 weights as they are stored:
// squares of 16 × 16 words are turned in registers and never written, since a
// panel that few tokens pass costs more than its product. The sums are those of a
// panel: one chain for each row, in order.
func fewBF16(m int) {
	emit.Begin(fmt.Sprintf("fewBF16x%dAVX512", m), "func(y *float32, ldy int, x *float32, ldx int, w *byte, ldw int, k int)",
		fmt.Sprintf("computes y[i·ldy+j] = Σ x[i·ldx+·]·w[j] for %d tokens and 16 rows of w, ldw bytes apart: a chain of fused multiply-adds over k, a multiple of 32, not 0.", m))
	x := emit.NewRows("x", "ldx", m, 4)
	lds := Load(Param("ldw"), GP64())
	k := Load(Param("k"), GP64())
	lds3 := GP64()
	LEAQ(Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	bases := quarters(Load(Param("w"), GP64()), lds)
	upper, c := ZMM(), GP32()
	MOVL(U32(0xffff0000), c)
	VPBROADCASTD(c, upper)
	acc := make([]reg.VecVirtual, m)
	for i := range acc {
		acc[i] = ZMM()
		emit.Zero(acc[i])
	}
	Label("loop")
	words := turned16(func(g, i int) reg.VecVirtual {
		v := ZMM()
		VMOVDQU32(strided(bases[g], lds, lds3, i), v)
		return v
	})
	for col, v := range words {
		low := ZMM()
		VPSLLD(Imm(16), v, low)
		VPANDD(upper, v, v)
		for half, w := range []reg.VecVirtual{low, v} {
			for i := range acc {
				VFMADD231PS_BCST(x.At(i).Offset(4*(2*col+half)), w, acc[i])
			}
		}
	}
	x.Advance(128)
	for _, b := range bases {
		ADDQ(Imm(64), b)
	}
	SUBQ(Imm(32), k)
	JNZ(LabelRef("loop"))
	y, ldy := Load(Param("y"), GP64()), Load(Param("ldy"), GP64())
	for i := range acc {
		VMOVUPS(acc[i], Mem{Base: y})
		if i+1 < m {
			LEAQ(Mem{Base: y, Index: ldy, Scale: 4}, y.(reg.GPVirtual))
		}
	}
	emit.End()
}
