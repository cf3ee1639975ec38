package learn

import (
	"sync"

	"github.com/glmconv/glmconv/runtime/kernel"
)

// Matrices of moments are as wide as weights, often a power of two, and larger than
// caches: columns of a panel lie so far apart that they push each other out. What a
// product reads again and again is copied to a place where they do not.
const (
	copyRows = 256
	copyCols = 256
	copyLine = copyCols + 16 // what a row of a copy takes: no power of two
	// narrow are how many columns of a block on a diagonal are multiplied together.
	narrow = 64
	// direct is up to how many rows a product reads its factor in place.
	direct = 6
)

var copies = sync.Pool{New: func() any { return new([copyRows * copyLine]float32) }}

// factor is the right-hand side of products, read block by block.
type factor struct {
	// load writes rows t … t+deep and columns j … j+wide to dst, copyLine apart.
	load func(dst []float32, t, deep, j, wide int)
	side side
}

// side says where a factor has elements: what load writes elsewhere is not read,
// but for the square of narrow columns on its diagonal.
type side int

const (
	whole side = iota
	upper      // row t has columns t and above
	lower      // row t has columns up to t
)

// plainly is a matrix whose rows lie ld apart.
func plainly(w []float32, ld int) factor {
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		for r := range deep {
			copy(dst[r*copyLine:][:wide], w[(t+r)*ld+j:])
		}
	}}
}

// blocks are a matrix [rows, cols], block by block of copyCols columns, as products read
// them.
type blocks struct {
	rows, cols int
	x          []float32 // [blocks, rows, copyLine]
}

func newBlocks(rows, cols int) *blocks {
	return &blocks{rows, cols, make([]float32, (cols+copyCols-1)/copyCols*rows*copyLine)}
}

// block is that of column j.
func (g *blocks) block(j int) []float32 { return g.x[j/copyCols*g.rows*copyLine:][:g.rows*copyLine] }

// set writes row r, get reads it.
func (g *blocks) set(r int, x []float32) {
	for j := 0; j < len(x); j += copyCols {
		copy(g.block(j)[r*copyLine:][:copyCols], x[j:])
	}
}

func (g *blocks) get(r int, x []float32) {
	for j := 0; j < len(x); j += copyCols {
		copy(x[j:], g.block(j)[r*copyLine:][:copyCols])
	}
}

// multiply adds x times a factor to y, which have as many columns: an element is one
// chain over the columns of x, begun with what y holds.
func multiply(y, x *blocks, f factor) {
	for j := 0; j < y.cols; j += copyCols {
		multiplyBlock(y, x, f, j, x.cols)
	}
}

// multiplyBlock is multiply for the block of column j and the first k columns of x.
func multiplyBlock(y, x *blocks, f factor, j, k int) {
	buf := copies.Get().(*[copyRows * copyLine]float32)
	defer copies.Put(buf)
	wide := min(copyCols, y.cols-j)
	for t := 0; t < k; t += copyRows {
		deep := min(copyRows, k-t)
		if f.side == upper && t >= j+wide || f.side == lower && t+deep <= j {
			continue
		}
		f.load(buf[:], t, deep, j, wide)
		for i := 0; i < y.rows; i += together { // they stay in a cache beside the block
			m := min(together, y.rows-i)
			out, in := y.block(j)[i*copyLine:], x.block(t)[i*copyLine:]
			if f.side == whole || t != j {
				kernel.PanelF32(out, copyLine, in, copyLine, buf[:], copyLine, m, wide, deep, true)
			} else {
				f.side.diagonal(out, copyLine, in, copyLine, buf[:], m, wide, deep)
			}
		}
	}
}

// together are how many rows are multiplied with a block at a time.
const together = 96

// multiplyRows adds x [m, k] times w [k, n] to y [m, n], matrices whose rows lie a
// number of elements apart, in chains as those of multiply.
func multiplyRows(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int) {
	if m <= direct {
		kernel.PanelF32(y, ldy, x, ldx, w, ldw, m, n, k, true)
		return
	}
	buf := copies.Get().(*[copyRows * copyLine]float32)
	defer copies.Put(buf)
	for j := 0; j < n; j += copyCols {
		wide := min(copyCols, n-j)
		for t := 0; t < k; t += copyRows {
			deep := min(copyRows, k-t)
			plainly(w, ldw).load(buf[:], t, deep, j, wide)
			kernel.PanelF32(y[j:], ldy, x[t:], ldx, buf[:], copyLine, m, wide, deep, true)
		}
	}
}

// diagonal is a product with a block on the diagonal, without most of its other
// half.
func (s side) diagonal(y []float32, ldy int, x []float32, ldx int, block []float32, m, wide, deep int) {
	for j := 0; j < wide; j += narrow {
		n := min(narrow, wide-j)
		if s == upper {
			kernel.PanelF32(y[j:], ldy, x, ldx, block[j:], copyLine, m, n, min(j+n, deep), true)
		} else {
			kernel.PanelF32(y[j:], ldy, x[j:], ldx, block[j*copyLine+j:], copyLine, m, n, deep-j, true)
		}
	}
}

// multiplySome gathers the rows of a product that others do without, so that they are
// computed together: y += x·w for rows of y [rows, n] and x [rows, k]. w comes as
// runs of its rows, with how many come before.
func multiplySome(on []bool, y []float32, x []float32, n, k int, w func(func(at, k int, w []float32, ld int))) {
	var rows []int
	for i, v := range on {
		if v {
			rows = append(rows, i)
		}
	}
	if len(rows) == 0 {
		return
	}
	a, b := make([]float32, len(rows)*n), make([]float32, len(rows)*k)
	for i, r := range rows {
		copy(a[i*n:][:n], y[r*n:])
		copy(b[i*k:][:k], x[r*k:])
	}
	w(func(at, some int, w []float32, ld int) { multiplyRows(a, n, b[at:], k, w, ld, len(rows), n, some) })
	for i, r := range rows {
		copy(y[r*n:][:n], a[i*n:])
	}
}
