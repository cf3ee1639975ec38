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
	h      []float32 // [n, n] with damping
	diff   []float32 // [n, n] C − H, its columns in the order; nil without
	solved bool      // diff is (C − H)H⁻¹, its columns not in the order
	order  []int     // columns by falling diagonal
	// root is U, with UᵀU = H⁻¹, on and above the diagonal and its transposed
	// inverse below [n, n], both in the order.
	root []float32
}

// GramBytes is the memory of a Gram and of the Basis made of it: H and C in float64;
// then H, a float64 factor and two float32 matrices, or that factor and three.
func GramBytes(n int, cross bool) int64 {
	cells, tiles := int64(n)*int64(n), 4*tokens*int64(n+copyCols)*copyLine/copyCols
	blocks := 4 * 8 * factorLine * int64(n)
	if cross {
		return cells*(8+8+4+4) + max(2*tiles, blocks)
	}
	return cells*(8+8+4) + max(tiles, blocks)
}

// NewBasis makes the basis of finished moments, which it takes for itself: they are
// empty afterwards. rows are those of all weights that will be solved with it.
func NewBasis(g *Gram, o Options, rows int, w *kernel.Workers) (*Basis, error) {
	n := g.N
	b := &Basis{n: n, Damp: o.Damp, passes: o.Passes, order: make([]int, n)}
	if b.Damp == 0 {
		b.Damp = defaultDamp
	}
	if b.passes == 0 {
		b.passes = defaultPasses
	}
	mean := 0.0
	for i := range n {
		mean += g.H[i*n+i]
		b.order[i] = i
	}
	if mean /= float64(n); mean == 0 {
		mean = 1 // no input at all: columns are rounded to nearest
	}
	if !(mean > 0) || math.IsInf(mean, 0) {
		return nil, ErrSingular
	}
	slices.SortStableFunc(b.order, func(i, j int) int { return cmp.Compare(g.H[j*n+j], g.H[i*n+i]) })
	b.differ(g, w)
	g.C = nil
	l := newCholesky(n)
	for try := 0; ; try++ {
		b.permute(l, g.H, mean, w)
		if l.factorise(w) {
			break
		}
		if try == tries {
			return nil, ErrSingular
		}
		b.Damp *= 10
	}
	b.moments(g.H, mean, w)
	g.H = nil
	b.roots(l, w)
	if b.diff != nil && rows > n {
		b.solve(w)
	}
	return b, nil
}

// differ sets C − H.
func (b *Basis) differ(g *Gram, w *kernel.Workers) {
	if g.C == nil {
		return
	}
	n := b.n
	b.diff = make([]float32, n*n)
	w.Each(n, 8, 4*n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			c, h, row := g.C[i*n:][:n], g.H[i*n:][:n], b.diff[i*n:][:n]
			for j, p := range b.order {
				row[j] = float32(c[p] - h[p])
			}
		}
	})
}

// moments sets H with damping.
func (b *Basis) moments(h []float64, mean float64, w *kernel.Workers) {
	n := b.n
	b.h = make([]float32, n*n)
	w.Each(n, 8, n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := b.h[i*n:][:n]
			for j, v := range h[i*n:][:n] {
				row[j] = float32(v)
			}
			row[i] = float32(damped(h[i*n+i], b.Damp, mean))
		}
	})
}

// damped is a diagonal element with damping; a column that never had an input
// weighs as much as the mean.
func damped(d, damp, mean float64) float64 {
	if d == 0 {
		d = mean
	}
	return d + damp*mean
}

// permute copies the lower half of H into the factor's place, columns in
// reverse order, with damping.
func (b *Basis) permute(l *cholesky, h []float64, mean float64, w *kernel.Workers) {
	n := b.n
	reverse := slices.Clone(b.order)
	slices.Reverse(reverse)
	w.Each(n, 8, 2*n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			p, row := reverse[i], l.a[i*l.ld:][:n]
			from := h[p*n:][:n]
			for j, q := range reverse[:i] {
				row[j] = from[q]
			}
			row[i] = damped(from[p], b.Damp, mean)
			clear(row[i+1:])
		}
	})
}

// roots sets U and its inverse: that of the factor of the reversed matrix, read
// backwards, is U; the factor itself, read backwards, is its inverse.
func (b *Basis) roots(l *cholesky, w *kernel.Workers) {
	n := b.n
	b.root = make([]float32, n*n)
	l.invert(w, func(i, column int, x []float64) {
		row := b.root[(n-1-i)*n:][:n-column]
		for k, v := range x {
			row[n-1-column-k] = float32(v)
		}
	})
	const square = 64 // columns of root are far apart
	w.Each((n+square-1)/square, 1, square*n, func(from, to int) {
		for lo := from * square; lo < min(to*square, n); lo += square {
			for at := lo; at < n; at += square {
				for j := lo; j < min(lo+square, n); j++ {
					row := b.root[(n-1-j)*n:][:n]
					for i := max(at, j+1); i < min(at+square, n); i++ {
						row[n-1-i] = float32(l.a[i*l.ld+j])
					}
				}
			}
		}
	})
}

// u is U, transposedU its transpose and inverseU its transposed inverse.
func (b *Basis) u() factor {
	f := plainly(b.root, b.n)
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		f.load(dst, t, deep, j, wide)
		if t == j {
			for r := 1; r < deep; r++ {
				clear(dst[r*copyLine:][:min(r, wide)])
			}
		}
	}, side: upper}
}

func (b *Basis) transposedU() factor {
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		kernel.Transpose(dst, copyLine, b.root[j*b.n+t:], b.n, wide, deep)
		clearAbove(dst, t, deep, j, wide)
	}, side: lower}
}

func (b *Basis) inverseU() factor {
	f := plainly(b.root, b.n)
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		f.load(dst, t, deep, j, wide)
		if t == j {
			for r := range min(deep, wide) {
				dst[r*copyLine+r] = 1 / dst[r*copyLine+r]
			}
		}
		clearAbove(dst, t, deep, j, wide)
	}, side: lower}
}

// clearAbove clears what lies above the diagonal of a block on it.
func clearAbove(dst []float32, t, deep, j, wide int) {
	for r := 0; t == j && r < deep; r++ {
		clear(dst[r*copyLine+min(r+1, wide):][:max(0, wide-r-1)])
	}
}

// half is what H adds up to with its transpose: H above the diagonal, half of what
// is on it.
func (b *Basis) half() factor {
	f := plainly(b.h, b.n)
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		f.load(dst, t, deep, j, wide)
		for r := 0; t == j && r < deep; r++ {
			clear(dst[r*copyLine:][:min(r, wide)])
			if r < wide {
				dst[r*copyLine+r] /= 2
			}
		}
	}, side: upper}
}

// solve multiplies diff by H⁻¹ once, where that is less than to do so with every row
// of the weights.
func (b *Basis) solve(w *kernel.Workers) {
	n := b.n
	b.solved = true
	w.Each(n, together, 2*n*n, func(from, to int) {
		for lo := from; lo < to; lo += 2 * together {
			m := min(2*together, to-lo)
			x := newBlocks(m, n)
			for r := range m {
				x.set(r, b.diff[(lo+r)*n:][:n])
			}
			y := b.divided(x, newBlocks(m, n))
			for r := range m {
				y.get(r, b.diff[(lo+r)*n:][:n])
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
	multiply(d, x, plainly(b.diff, n))
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
