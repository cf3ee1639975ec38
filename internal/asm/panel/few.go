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
	f := beginFew(m, "AVX512")
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
		VMOVDQU32(f.row(4*g+i), v)
		return v
	})
	for col, v := range words {
		low := ZMM()
		VPSLLD(Imm(16), v, low)
		VPANDD(upper, v, v)
		for half, w := range []reg.VecVirtual{low, v} {
			for i := range acc {
				VFMADD231PS_BCST(f.x.At(i).Offset(4*(2*col+half)), w, acc[i])
			}
		}
	}
	f.turn()
	f.end(func(i int, y Mem) { VMOVUPS(acc[i], y) })
}

// fewBF16Narrow is fewBF16 in halves of 8 rows, in which a line of each row is
// turned in four squares, so that a set of the first-level cache has room for rows
// that are a multiple of 4 KiB long.
func fewBF16Narrow(m int) {
	f := beginFew(m, "AVX2")
	upper := constant(0xffff0000)
	var acc [2][]reg.VecVirtual
	for h := range acc {
		for range m {
			v := YMM()
			emit.Zero(v)
			acc[h] = append(acc[h], v)
		}
	}
	Label("loop")
	for h := range acc {
		for line := 0; line < 64; line += 16 {
			for col, w := range turned8(func(i int) Mem { return f.row(8*h + i).Offset(line) }) {
				even := YMM()
				VPSLLD(Imm(16), w, even)
				VPAND(upper, w, w)
				for half, w := range []reg.VecVirtual{even, w} {
					for i := range m {
						x := YMM()
						VBROADCASTSS(f.x.At(i).Offset(2*line+4*(2*col+half)), x)
						VFMADD231PS(x, w, acc[h][i])
					}
				}
			}
		}
	}
	f.turn()
	f.end(func(i int, y Mem) {
		VMOVUPS(acc[0][i], y)
		VMOVUPS(acc[1][i], y.Offset(32))
	})
}

// few is what the kernels for few tokens share.
type few struct {
	m         int
	x         emit.Rows
	lds, lds3 reg.Register
	bases     []reg.Register // of rows 0, 4, 8 and 12
	k         reg.Register
}

func beginFew(m int, isa string) *few {
	emit.Begin(fmt.Sprintf("fewBF16x%d%s", m, isa), "func(y *float32, ldy int, x *float32, ldx int, w *byte, ldw int, k int)",
		fmt.Sprintf("computes y[i·ldy+j] = Σ x[i·ldx+·]·w[j] for %d tokens and 16 rows of w, ldw bytes apart: a chain of fused multiply-adds over k, a "+
			"multiple of 32, not 0.", m))
	f := &few{m: m, x: emit.NewRows("x", "ldx", m, 4)}
	f.lds = Load(Param("ldw"), GP64())
	f.k = Load(Param("k"), GP64())
	f.lds3 = GP64()
	LEAQ(Mem{Base: f.lds, Index: f.lds, Scale: 2}, f.lds3)
	f.bases = quarters(Load(Param("w"), GP64()), f.lds)
	return f
}

// row addresses a row of weights.
func (f *few) row(i int) Mem { return strided(f.bases[i/4], f.lds, f.lds3, i%4) }

// turn ends a step of 32 columns.
func (f *few) turn() {
	f.x.Advance(128)
	for _, b := range f.bases {
		ADDQ(Imm(64), b)
	}
	SUBQ(Imm(32), f.k)
	JNZ(LabelRef("loop"))
}

// end has the sums of every token written.
func (f *few) end(put func(i int, y Mem)) {
	y, ldy := GP64(), Load(Param("ldy"), GP64())
	Load(Param("y"), y)
	for i := range f.m {
		put(i, Mem{Base: y})
		if i+1 < f.m {
			LEAQ(Mem{Base: y, Index: ldy, Scale: 4}, y)
		}
	}
	emit.End()
}
