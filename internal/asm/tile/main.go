// Command tile generates the vector twins of runtime/kernel's tile kernels.
//
// Every kernel computes an m × n block of dot products over k elements, all
// rows contiguous along k: acc[i][j] = Σ x[i·ldx+·]·w[j·ldw+·]. A row of x or w
// is read once per block; the m·n sums stay in registers. The order of a sum
// is the same in every block shape, so a result does not depend on m and n.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("!purego")
	masks := maskTable()
	for _, m := range []int{1, 2, 3} {
		for _, n := range []int{1, 4} {
			f32AVX2(m, n, masks)
			int8AVX2(m, n)
		}
	}
	for _, m := range []int{1, 2, 4, 6} {
		for _, n := range []int{1, 4} {
			f32AVX512(m, n)
		}
	}
	for _, m := range []int{1, 2, 4} {
		for _, n := range []int{1, 4} {
			int8VNNI(m, n)
		}
	}
	Generate()
}

// maskTable holds eight ones and eight zeros: read from 4·(8−r) on it masks
// the first r lanes.
func maskTable() Mem {
	t := GLOBL("laneMasks", RODATA|NOPTR)
	for i := range 16 {
		v := U32(0)
		if i < 8 {
			v = 0xffffffff
		}
		DATA(4*i, v)
	}
	return t
}

// block is the frame that all kernels share: pointers to the rows.
type block struct {
	y, ldy reg.GPVirtual
	x, w   []reg.GPVirtual
	k, add reg.GPVirtual
}

// begin declares the function and loads its parameters. size is the bytes of
// an element of x and w. Rows are addressed as base + row·stride with at most
// two index registers, so that six rows do not take six pointers.
func begin(name, typ, acc string, m, n, size int, doc string) block {
	TEXT(name, NOSPLIT, fmt.Sprintf("func(y *%s, ldy int, x *%s, ldx int, w *%s, ldw int, k int, add int)", acc, typ, typ))
	Pragma("noescape")
	Doc(fmt.Sprintf("%s %s", name, doc))
	b := block{y: GP64(), ldy: GP64(), k: GP64(), add: GP64()}
	Load(Param("y"), b.y)
	Load(Param("ldy"), b.ldy)
	SHLQ(Imm(2), b.ldy)
	b.x = rows("x", "ldx", m, size)
	b.w = rows("w", "ldw", n, size)
	Load(Param("k"), b.k)
	return b
}

// rows returns the pointers that address r rows: the stride, and a base for
// every three rows (base, base+stride, base+2·stride).
func rows(p, stride string, r, size int) []reg.GPVirtual {
	base, ld := GP64(), GP64()
	Load(Param(p), base)
	Load(Param(stride), ld)
	for s := size; s > 1; s /= 2 {
		ADDQ(ld, ld)
	}
	out := []reg.GPVirtual{ld, base}
	for i := 3; i < r; i += 3 {
		next := GP64()
		LEAQ(Mem{Base: out[len(out)-1], Index: ld, Scale: 2}, next)
		ADDQ(ld, next)
		out = append(out, next)
	}
	return out
}

// at addresses row i.
func at(p []reg.GPVirtual, i int) Mem {
	m := Mem{Base: p[1+i/3]}
	if s := i % 3; s > 0 {
		m.Index, m.Scale = p[0], uint8(s)
	}
	return m
}

// advance moves all rows on.
func advance(p []reg.GPVirtual, bytes int) {
	for _, b := range p[1:] {
		ADDQ(Imm(uint64(bytes)), b)
	}
}

type accs [][]reg.VecVirtual

func zeroed(m, n int, vec func() reg.VecVirtual, wide bool) accs {
	a := make(accs, m)
	for i := range a {
		for range n {
			v := vec()
			if wide {
				VPXORD(v, v, v)
			} else {
				VPXOR(v, v, v)
			}
			a[i] = append(a[i], v)
		}
	}
	return a
}
