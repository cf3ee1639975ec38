package learn

import (
	"math"

	"github.com/glmconv/glmconv/runtime/kernel"
)

const (
	// factorBlock is how many columns of a factor are eliminated together.
	factorBlock = 64
	// factorLine is how far apart rows of such blocks lie: no power of two.
	factorLine = factorBlock + 8
	// factorDeep and factorRows are what one product takes: it stays in caches.
	factorDeep = 192
	factorRows = 96
)

// cholesky is the factor L of a definite matrix [n, n], LLᵀ, in float64.
type cholesky struct {
	n, ld int
	// a is the matrix [n, ld], then L below and on the diagonal; what is above it is 0,
	// or anything.
	a []float64
	// inverse are the inverses of the blocks on the diagonal, negated, below each
	// other [n, factorLine].
	inverse []float64
}

func newCholesky(n int) *cholesky {
	ld := n + 8 // no power of two
	return &cholesky{n: n, ld: ld, a: make([]float64, n*ld), inverse: make([]float64, n*factorLine)}
}

// factorise replaces the lower half by its Cholesky factor, and reports whether
// there is one. It goes from left to right: a block of columns takes away what
// those before it make, then its own rows are solved.
func (c *cholesky) factorise(w *kernel.Workers) bool { return c.eliminate(c.n, w) }

// eliminate does that with the first columns of a, which need not have more.
func (c *cholesky) eliminate(wide int, w *kernel.Workers) bool {
	n, ld, a := c.n, c.ld, c.a
	before, turned := make([]float64, wide*factorLine), make([]float64, factorBlock*factorLine)
	for lo := 0; lo < wide; lo += factorBlock {
		hi := min(lo+factorBlock, wide)
		transposed(before, a[lo*ld:], ld, hi-lo, lo)
		w.Each(n-lo, 6, lo*factorBlock, func(from, to int) {
			minus(a[(lo+from)*ld+lo:], ld, a[(lo+from)*ld:], ld, before, to-from, hi-lo, lo)
		})
		if !c.diagonal(lo, hi) {
			return false
		}
		transposed(turned, c.inverse[lo*factorLine:], factorLine, hi-lo, hi-lo)
		w.Each(n-hi, 6, factorBlock*factorBlock, func(from, to int) {
			rows := make([]float64, factorRows*factorLine)
			for at := hi + from; at < hi+to; at += factorRows {
				m := min(factorRows, hi+to-at)
				for r := range m {
					row := a[(at+r)*ld+lo:][:hi-lo]
					copy(rows[r*factorLine:], row)
					clear(row)
				}
				minus(a[at*ld+lo:], ld, rows, factorLine, turned, m, hi-lo, hi-lo)
			}
		})
	}
	return true
}

// diagonal factorises the block of rows and columns lo … hi and inverts its factor.
func (c *cholesky) diagonal(lo, hi int) bool {
	for i := lo; i < hi; i++ {
		row := c.a[i*c.ld+lo:][:hi-lo]
		for j := range i - lo {
			l := c.a[(lo+j)*c.ld+lo:]
			row[j] = (row[j] - dot(row[:j], l[:j])) / l[j]
		}
		d := row[i-lo] - dot(row[:i-lo], row[:i-lo])
		if !(d > 0) || math.IsInf(d, 0) {
			return false
		}
		row[i-lo] = math.Sqrt(d)
		clear(row[i-lo+1:])
	}
	for i := lo; i < hi; i++ { // row i: −(1 at i − Σ L[i][j]·row j) / L[i][i]
		inv, l := c.inverse[i*factorLine:][:hi-lo], c.a[i*c.ld+lo:]
		clear(inv)
		inv[i-lo] = -1
		for j := range i - lo {
			axpy(inv[:j+1], -l[j], c.inverse[(lo+j)*factorLine:][:j+1])
		}
		for j := range inv[:i-lo+1] {
			inv[j] /= l[i-lo]
		}
	}
	return true
}

// invert calls row for every row of L⁻¹, or parts of it, in any order and at the
// same time: elements from column on, none above the diagonal.
func (c *cholesky) invert(w *kernel.Workers, row func(i, column int, x []float64)) {
	n := c.n
	inverting(w, n).Each((n+factorBlock-1)/factorBlock, 1, n*n*factorBlock/2, func(from, to int) {
		inv, sum := make([]float64, n*factorLine), make([]float64, factorBlock*factorLine)
		for lo := from * factorBlock; lo < min(to*factorBlock, n); lo += factorBlock {
			width := min(factorBlock, n-lo)
			for at := lo; at < n; at += factorBlock { // what is left of it in these columns
				end := min(at+factorBlock, n)
				block := inv[at*factorLine : end*factorLine]
				clear(block)
				if at == lo {
					for i := range end - at {
						for k, v := range c.inverse[(at+i)*factorLine:][:i+1] {
							block[i*factorLine+k] = -v
						}
					}
				} else {
					clear(sum)
					minus(sum, factorLine, c.a[at*c.ld+lo:], c.ld, inv[lo*factorLine:], end-at, width, at-lo)
					minus(block, factorLine, c.inverse[at*factorLine:], factorLine, sum, end-at, width, end-at)
				}
				for i := at; i < end; i++ {
					row(i, lo, inv[i*factorLine:][:min(width, i-lo+1)])
				}
			}
		}
	})
}

// inverting are as many of some workers as memory has room for while a matrix of n
// columns is inverted, each of which holds 8·factorLine·n bytes: four (GramBytes), and
// what fits into the 4n² bytes that are free then.
func inverting(w *kernel.Workers, n int) *kernel.Workers {
	if w == nil {
		return nil
	}
	return &kernel.Workers{N: min(w.N, 4+n/(2*factorLine))}
}

// minus is kernel.SubF64 with a factor whose rows lie factorLine apart, part by
// part: to the same bits.
func minus(y []float64, ldy int, x []float64, ldx int, w []float64, m, n, k int) {
	for i := 0; i < m; i += factorRows {
		for t := 0; t < k; t += factorDeep {
			kernel.SubF64(y[i*ldy:], ldy, x[i*ldx+t:], ldx, w[t*factorLine:], factorLine, min(factorRows, m-i), n, min(factorDeep, k-t))
		}
	}
}

// transposed writes a [rows, cols] to dst [cols, factorLine], transposed.
func transposed(dst, a []float64, ld, rows, cols int) {
	for i := range rows {
		for c, v := range a[i*ld:][:cols] {
			dst[c*factorLine+i] = v
		}
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
