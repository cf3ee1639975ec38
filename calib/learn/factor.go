package learn

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/glmconv/glmconv/runtime/kernel"
)

// ErrSingular is returned where no damping makes the moments definite.
var ErrSingular = errors.New("learn: the second moments of the inputs are not definite")

// Options say how a basis is made. The zero value has the defaults.
type Options struct {
	Damp   float64 // of the mean of diag H, added to it (0: 0.003)
	Passes int     // of coordinate descent at most (0: 8; -1: none)
}

const (
	defaultDamp   = 0.003
	defaultPasses = 8
	// tries is how often damping grows by ten before ErrSingular.
	tries = 4
	// panel is how many columns are rounded before what they leave is taken from
	// the next in one product; copyCols is a multiple of it.
	panel = 64
)

// Basis is what all weights with the same inputs share.
type Basis struct {
	Damp float64 // that was needed, of the mean of diag H

	n      int
	passes int
	h      *table[float32] // with damping
	diag   []float32       // of h
	diff   *table[float32] // C − H, its columns in the order; nil without
	solved bool            // diff is (C − H)H⁻¹, its columns not in the order
	order  []int           // columns by falling diagonal
	// root is U, with UᵀU = H⁻¹, on and above the diagonal and its transposed
	// inverse below, both in the order.
	root *table[float32]
	disk *disk // of these matrices; nil: in memory
}

// Close removes the files of a basis.
func (b *Basis) Close() error {
	if b == nil || b.disk == nil {
		return nil
	}
	for _, t := range []*table[float32]{b.h, b.diff, b.root} {
		t.close()
	}
	b.disk.Interrupted = nil // what matters is whether they are gone
	return b.disk.failed()
}

// GramBytes is the memory of a Gram and of the Basis made of it: H and C in float64;
// then H, a float64 factor and two float32 matrices, or that factor and three.
func GramBytes(n int, cross bool) int64 {
	cells, tiles := int64(n)*int64(n), 4*tokens*int64(n+copyCols)*copyLine/copyCols
	blocks := 4 * 8 * factorLine * int64(n) // of four workers: see inverting
	if cross {
		return cells*(8+8+4+4) + max(2*tiles, blocks)
	}
	return cells*(8+8+4) + max(tiles, blocks)
}

// NewBasis makes the basis of finished moments, which it takes for itself: they are
// empty afterwards. rows are those of all weights that will be solved with it. Of
// moments in files the basis is in files too; errors are then also those of the files.
func NewBasis(g *Gram, o Options, rows int, w *kernel.Workers) (_ *Basis, err error) {
	n := g.N
	b := &Basis{n: n, Damp: o.Damp, passes: o.Passes, order: make([]int, n), disk: g.disk}
	h := g.h
	if h == nil {
		h = &table[float64]{n: n, mem: g.H}
	}
	defer func() {
		if err != nil {
			h.close()
			_, _ = g.Close(), b.Close()
			if first := b.disk.failed(); !errors.Is(err, first) {
				err = errors.Join(err, first)
			}
		}
	}()
	if b.Damp == 0 {
		b.Damp = defaultDamp
	}
	if b.passes == 0 {
		b.passes = defaultPasses
	}
	diag, mean := g.diagonal(), 0.0
	for i, d := range diag {
		mean += d
		b.order[i] = i
	}
	if err := b.disk.failed(); err != nil {
		return nil, err
	}
	if mean /= float64(n); mean == 0 {
		mean = 1 // no input at all: columns are rounded to nearest
	}
	if !(mean > 0) || math.IsInf(mean, 0) {
		return nil, ErrSingular
	}
	slices.SortStableFunc(b.order, func(i, j int) int { return cmp.Compare(diag[j], diag[i]) })
	b.differ(g, h, w)
	g.H, g.h = nil, nil
	if b.disk != nil {
		err = b.factorFiles(h, mean, w)
	} else {
		err = b.factor(h, mean, w)
	}
	if err != nil {
		return nil, err
	}
	if b.diff != nil && rows > n {
		b.solve(w)
	}
	return b, b.disk.failed()
}

// factor sets root and h of moments in memory, which are empty afterwards.
func (b *Basis) factor(h *table[float64], mean float64, w *kernel.Workers) error {
	l := newCholesky(b.n)
	for try := 0; ; try++ {
		b.permute(l.a, l.ld, 0, b.n, h, mean, w)
		if l.factorise(w) {
			break
		}
		if try == tries {
			return ErrSingular
		}
		b.Damp *= 10
	}
	b.moments(h, mean, w)
	b.roots(l, w)
	return nil
}

// bandOf is how many rows of a matrix whose rows take some bytes are held at a time:
// all of one in memory.
func (b *Basis) bandOf(each int) int {
	if b.disk == nil {
		return b.n
	}
	return min(b.disk.rows(int64(each), copyCols/4, b.n+copyCols), b.n)
}

// differ sets C − H and drops C.
func (b *Basis) differ(g *Gram, h *table[float64], w *kernel.Workers) {
	c := g.c
	if g.disk == nil && g.C != nil {
		c = &table[float64]{n: b.n, mem: g.C}
	}
	if c == nil {
		return
	}
	n, rows := b.n, b.bandOf(20*b.n)
	b.diff = newTable[float32](n, b.disk)
	x, y, z := b.buffer64(rows), b.buffer64(rows), b.buffer(rows)
	for at := 0; at < n; at += rows {
		k := min(rows, n-at)
		cs, hs := c.view(at, k, x), h.view(at, k, y)
		out := z
		if b.disk == nil {
			out = b.diff.mem
		}
		w.Each(k, 8, 4*n, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				c, h, row := cs[i*n:][:n], hs[i*n:][:n], out[i*n:][:n]
				for j, p := range b.order {
					row[j] = float32(c[p] - h[p])
				}
			}
		})
		b.diff.keep(at, k, out)
	}
	c.close()
	g.C, g.c = nil, nil
}

// buffer is one for rows of a matrix in files; nil where it is in memory.
func (b *Basis) buffer(rows int) []float32 {
	if b.disk == nil {
		return nil
	}
	return make([]float32, rows*b.n)
}

func (b *Basis) buffer64(rows int) []float64 {
	if b.disk == nil {
		return nil
	}
	return make([]float64, rows*b.n)
}

// moments sets H with damping, and drops it as it was.
func (b *Basis) moments(h *table[float64], mean float64, w *kernel.Workers) {
	n, rows := b.n, b.bandOf(12*b.n)
	b.h, b.diag = newTable[float32](n, b.disk), make([]float32, n)
	x, z := b.buffer64(rows), b.buffer(rows)
	for at := 0; at < n; at += rows {
		k := min(rows, n-at)
		hs, out := h.view(at, k, x), z
		if b.disk == nil {
			out = b.h.mem
		}
		w.Each(k, 8, n, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				row, from := out[i*n:][:n], hs[i*n:][:n]
				for j, v := range from {
					row[j] = float32(v)
				}
				row[at+i] = float32(damped(from[at+i], b.Damp, mean))
				b.diag[at+i] = row[at+i]
			}
		})
		b.h.keep(at, k, out)
	}
	h.close()
}

// damped is a diagonal element with damping; a column that never had an input
// weighs as much as the mean.
func damped(d, damp, mean float64) float64 {
	if d == 0 {
		d = mean
	}
	return d + damp*mean
}

// permute copies rows from … to of the lower half of H, columns in reverse order, with
// damping, into rows that lie ld apart.
func (b *Basis) permute(dst []float64, ld, from, to int, h *table[float64], mean float64, w *kernel.Workers) {
	reverse := slices.Clone(b.order)
	slices.Reverse(reverse)
	w.Each(to-from, 8, 2*b.n, func(lo, hi int) {
		buf := b.buffer64(1)
		for i := from + lo; i < from+hi; i++ {
			p, row := reverse[i], dst[(i-from)*ld:][:b.n]
			h := h.view(p, 1, buf)
			for j, q := range reverse[:i] {
				row[j] = h[q]
			}
			row[i] = damped(h[p], b.Damp, mean)
			clear(row[i+1:])
		}
	})
}

// roots sets U and its inverse: that of the factor of the reversed matrix, read
// backwards, is U; the factor itself, read backwards, is its inverse.
func (b *Basis) roots(l *cholesky, w *kernel.Workers) {
	n := b.n
	b.root = newTable[float32](n, nil)
	root := b.root.mem
	l.invert(w, func(i, column int, x []float64) {
		row := root[(n-1-i)*n:][:n-column]
		for k, v := range x {
			row[n-1-column-k] = float32(v)
		}
	})
	const square = 64 // columns of root are far apart
	w.Each((n+square-1)/square, 1, square*n, func(from, to int) {
		for lo := from * square; lo < min(to*square, n); lo += square {
			for at := lo; at < n; at += square {
				for j := lo; j < min(lo+square, n); j++ {
					row := root[(n-1-j)*n:][:n]
					for i := max(at, j+1); i < min(at+square, n); i++ {
						row[n-1-i] = float32(l.a[i*l.ld+j])
					}
				}
			}
		}
	})
}

// solve multiplies diff by H⁻¹ once, where that is less than to do so with every row
// of the weights.
func (b *Basis) solve(w *kernel.Workers) {
	n := b.n
	b.solved = true
	step := 2 * together
	if b.disk != nil { // a matrix is read for each of them
		w = b.disk.workers(w, 12*together*int64(n))
		step = b.disk.rows(10*int64(n)*int64(max(w.N, 1)), together, 4*together)
	}
	w.Each(n, together, 2*n*n, func(from, to int) {
		buf := b.buffer(1)
		for lo := from; lo < to && b.disk.failed() == nil; lo += step {
			m := min(step, to-lo)
			x := newBlocks(m, n)
			for r := range m {
				x.set(r, b.diff.view(lo+r, 1, buf))
			}
			y := b.divided(x, newBlocks(m, n))
			for r := range m {
				row := buf
				if b.disk == nil {
					row = b.diff.view(lo+r, 1, nil)
				}
				y.get(r, row)
				b.diff.keep(lo+r, 1, row)
			}
		}
	})
}

// divided is x·H⁻¹ with columns in the order, on the way to those of the weight. y
// is zero; both are overwritten.
func (b *Basis) divided(x, y *blocks) *blocks {
	multiply(y, x, b.transposedU())
	clear(x.x)
	multiply(x, y, b.u())
	from, to := make([]float32, b.n), make([]float32, b.n)
	for r := range x.rows {
		x.get(r, from)
		for i, p := range b.order {
			to[p] = from[i]
		}
		x.set(r, to)
	}
	return x
}

// correct returns W* = W + W(C − H)(H + λI)⁻¹ for rows of w; w itself without C.
func (b *Basis) correct(w []float32, rows int) []float32 {
	out := slices.Clone(w)
	if b.diff == nil {
		return out
	}
	n := b.n
	x, d := newBlocks(rows, n), newBlocks(rows, n)
	for r := range rows {
		x.set(r, w[r*n:][:n])
	}
	multiply(d, x, whollyOf(b.diff))
	if !b.solved {
		clear(x.x)
		d = b.divided(d, x)
	}
	row := make([]float32, n)
	for r := range rows {
		d.get(r, row)
		kernel.Add(out[r*n:][:n], row)
	}
	return out
}
