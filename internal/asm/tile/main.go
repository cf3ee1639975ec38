// Command tile generates the vector twins of runtime/kernel's int8 tile kernels.
//
// Every kernel computes an m × n block of dot products over k elements, all
// rows contiguous along k: acc[i][j] = Σ x[i·ldx+·]·w[j·ldw+·]. A row of x or w
// is read once per block; the m·n sums stay in registers. The order of a sum
// is the same in every block shape, so a result does not depend on m and n.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

func main() {
	ConstraintExpr("!purego")
	for _, m := range []int{1, 2, 3} {
		for _, n := range []int{1, 4} {
			int8AVX2(m, n)
		}
	}
	for _, m := range []int{1, 2, 4} {
		for _, n := range []int{1, 4} {
			int8VNNI(m, n)
		}
	}
	Generate()
}

// block is the frame that all kernels share: pointers to the rows.
type block struct {
	y, ldy reg.GPVirtual
	x, w   emit.Rows
	k, add reg.GPVirtual
}

// begin declares the function and loads its parameters.
func begin(name string, m, n int, doc string) block {
	emit.Begin(name, "func(y *int32, ldy int, x *int8, ldx int, w *int8, ldw int, k int, add int)", doc)
	b := block{y: GP64(), ldy: GP64(), k: GP64(), add: GP64()}
	Load(Param("y"), b.y)
	Load(Param("ldy"), b.ldy)
	SHLQ(Imm(2), b.ldy)
	b.x = emit.NewRows("x", "ldx", m, 1)
	b.w = emit.NewRows("w", "ldw", n, 1)
	Load(Param("k"), b.k)
	return b
}

type accs [][]reg.VecVirtual

func zeroed(m, n int, vec func() reg.VecVirtual) accs {
	a := make(accs, m)
	for i := range a {
		for range n {
			v := vec()
			emit.Zero(v)
			a[i] = append(a[i], v)
		}
	}
	return a
}
