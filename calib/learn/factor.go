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
	// panel is how many columns are rounded before what they leave is added to
	// the rest in one product.
	panel = 128
)

// Basis is what all weights with the same inputs share.
type Basis struct {
	Damp float64 // that was needed, of the mean of diag H

	n      int
	passes int
	h      []float32 // [n, n] with damping, in the order of the columns
	diff   []float32 // [n, n] C − H, nil without
	order  []int     // columns by falling diagonal
	lower  []float64 // [n, n] Cholesky factor of H in the reverse order
	upper  []float32 // [n, n] U with UᵀU = H⁻¹, in the order
}

// NewBasis makes the basis of finished moments.
func NewBasis(g *Gram, o Options, w *kernel.Workers) (*Basis, error) {
	n := g.N
	b := &Basis{n: n, Damp: o.Damp, passes: o.Passes, h: make([]float32, n*n), order: make([]int, n)}
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
	b.lower = make([]float64, n*n)
	for try := 0; ; try++ {
		b.permute(g.H, mean)
		if factorise(b.lower, n, w) {
			break
		}
		if try == tries {
			return nil, ErrSingular
		}
		b.Damp *= 10
	}
	for i, v := range g.H {
		b.h[i] = float32(v)
	}
	for i := range n {
		b.h[i*n+i] = float32(damped(g.H[i*n+i], b.Damp, mean))
	}
	if g.C != nil {
		b.diff = make([]float32, n*n)
		for i, v := range g.C {
			b.diff[i] = float32(v - g.H[i])
		}
	}
	b.invert(w)
	return b, nil
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
func (b *Basis) permute(h []float64, mean float64) {
	n := b.n
	for i := range n {
		p := b.order[n-1-i]
		row := b.lower[i*n:][:n]
		for j := range i {
			row[j] = h[p*n+b.order[n-1-j]]
		}
		row[i] = damped(h[p*n+p], b.Damp, mean)
		clear(row[i+1:])
	}
}

// factorBlock is how many columns of a factor are eliminated together.
const factorBlock = 64

// factorise replaces the lower half of a by its Cholesky factor, and reports
// whether there is one. It goes from left to right: a block of columns takes away
// what those before it make, then its own rows are solved.
func factorise(a []float64, n int, w *kernel.Workers) bool {
	before := make([]float64, n*factorBlock)
	for lo := 0; lo < n; lo += factorBlock {
		hi := min(lo+factorBlock, n)
		transposed(before, a, n, lo, hi, lo)
		w.Each(n-lo, 6, lo*factorBlock, func(from, to int) {
			from, to = lo+from, lo+to
			kernel.SubF64(a[from*n+lo:], n, a[from*n:], n, before, factorBlock, to-from, hi-lo, lo)
		})
		for i := lo; i < hi; i++ {
			eliminate(a, n, i, lo, i)
			row := a[i*n+lo : i*n+i]
			d := a[i*n+i] - dot(row, row)
			if !(d > 0) || math.IsInf(d, 0) {
				return false
			}
			a[i*n+i] = math.Sqrt(d)
			clear(a[i*n+i+1 : i*n+hi])
		}
		w.Each(n-hi, 1, factorBlock*factorBlock, func(from, to int) {
			for i := hi + from; i < hi+to; i++ {
				eliminate(a, n, i, lo, hi)
			}
		})
	}
	return true
}

// transposed writes rows lo..hi and columns 0..cols of a [n, n] to dst [cols,
// factorBlock], transposed.
func transposed(dst, a []float64, n, lo, hi, cols int) {
	for i := lo; i < hi; i++ {
		for c, v := range a[i*n:][:cols] {
			dst[c*factorBlock+i-lo] = v
		}
	}
}

// eliminate computes elements lo..hi of row i of the factor, whose block begins at
// lo.
func eliminate(a []float64, n, i, lo, hi int) {
	row := a[i*n+lo:][:hi-lo]
	for j := range row {
		row[j] = (row[j] - dot(row[:j], a[(lo+j)*n+lo:][:j])) / a[(lo+j)*n+lo+j]
	}
}

func dot(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += float64(x[0] * y[0])
		s1 += float64(x[1] * y[1])
		s2 += float64(x[2] * y[2])
		s3 += float64(x[3] * y[3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

func axpy(y []float64, p float64, x []float64) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] += float64(p * v)
	}
}

// invert fills upper: the inverse of the factor of the reversed matrix, read
// backwards, is U with UᵀU = H⁻¹. Columns are independent.
func (b *Basis) invert(w *kernel.Workers) {
	n := b.n
	b.upper = make([]float32, n*n)
	const cols = 64
	w.Each((n+cols-1)/cols, 1, n*n*cols/2, func(from, to int) {
		inv := make([]float64, n*cols)
		for lo := from * cols; lo < min(to*cols, n); lo += cols {
			width := min(cols, n-lo)
			clear(inv[lo*cols:])
			for at := lo; at < n; at += factorBlock {
				end := min(at+factorBlock, n)
				kernel.SubF64(inv[at*cols:], cols, b.lower[at*n+lo:], n, inv[lo*cols:], cols, end-at, width, at-lo)
				for i := at; i < end; i++ {
					row, l := inv[i*cols:][:width], b.lower[i*n:][:n]
					if i < lo+width {
						row[i-lo]++
					}
					for j := at; j < i; j++ {
						axpy(row, -l[j], inv[j*cols:][:width])
					}
					for k := range row {
						row[k] /= l[i]
						b.upper[(n-1-i)*n+n-1-lo-k] = float32(row[k])
					}
				}
			}
		}
	})
}

// correct returns W* = W + W(C − H)(H + λI)⁻¹ for rows of w; w itself without C.
func (b *Basis) correct(w []float32, rows int) []float32 {
	if b.diff == nil {
		return slices.Clone(w)
	}
	n := b.n
	d := make([]float32, rows*n)
	multiply(d, n, w, n, b.diff, n, rows, n, n, false)
	x := make([]float64, rows*n)
	for r := range rows {
		for i := range n {
			x[r*n+i] = float64(d[r*n+b.order[n-1-i]])
		}
	}
	left := make([]float64, n*factorBlock)
	for lo := 0; lo < n; lo += factorBlock { // L y = x
		hi := min(lo+factorBlock, n)
		transposed(left, b.lower, n, lo, hi, lo)
		kernel.SubF64(x[lo:], n, x, n, left, factorBlock, rows, hi-lo, lo)
		for i := lo; i < hi; i++ {
			l := b.lower[i*n+lo:][:i-lo+1]
			for r := range rows {
				y := x[r*n+lo:][:i-lo+1]
				y[i-lo] = (y[i-lo] - dot(l[:i-lo], y[:i-lo])) / l[i-lo]
			}
		}
	}
	for lo := (n - 1) / factorBlock * factorBlock; lo >= 0; lo -= factorBlock { // Lᵀ z = y
		hi := min(lo+factorBlock, n)
		for i := hi - 1; i >= lo; i-- {
			l := b.lower[i*n+lo:][:i-lo+1]
			for r := range rows {
				y := x[r*n+lo:][:i-lo+1]
				y[i-lo] /= l[i-lo]
				axpy(y[:i-lo], -y[i-lo], l[:i-lo])
			}
		}
		const wide = factorBlock
		for j := 0; j < lo; j += wide { // copied, as in multiply; lo is a multiple
			for i := lo; i < hi; i++ {
				copy(left[(i-lo)*wide:][:wide], b.lower[i*n+j:])
			}
			kernel.SubF64(x[j:], n, x[lo:], n, left, wide, rows, wide, hi-lo)
		}
	}
	out := make([]float32, rows*n)
	for r := range rows {
		for i := range n {
			p := b.order[n-1-i]
			out[r*n+p] = float32(float64(w[r*n+p]) + x[r*n+i])
		}
	}
	return out
}
