package learn

import "github.com/glmconv/glmconv/runtime/kernel"

// tokens is how many inputs are multiplied in float32 before their sum is added
// in float64.
const tokens = 256

// Gram are sums over inputs of a weight: H [n, n] of x̂ᵀx̂, and C of xᵀx̂ if the
// target is to be corrected.
type Gram struct {
	N     int       // columns
	Count float64   // tokens, or what weighs as many
	H     []float64 // [N, N]
	C     []float64 // [N, N], nil without

	served, float *blocks // inputs that wait until there are enough
	waiting       int     // of them

	from, to int  // rows that H and C hold: all, or a band of those in files
	begun    bool // a pass over the inputs
	// disk has the files of H and C; H and C are then bands of them. nil: in memory.
	disk *disk
	h, c *table[float64]
	diag []float64 // of finished moments in files
}

// NewGram returns empty sums over inputs of n columns.
func NewGram(n int, cross bool) *Gram {
	g := &Gram{N: n, to: n, H: make([]float64, n*n), served: newBlocks(tokens, n)}
	if cross {
		g.C, g.float = make([]float64, n*n), newBlocks(tokens, n)
	}
	return g
}

// Next begins a pass over the inputs, all of which are to be added in each: one where
// sums are in memory, one for each band of rows that memory has room for where they
// are in files. It reports whether there is one.
func (g *Gram) Next(w *kernel.Workers) bool {
	if g.disk != nil {
		return g.band(w)
	}
	first := !g.begun
	g.begun = true
	return first
}

// Add adds inputs [rows, N]: as they will be served, and those of the float
// model at the same tokens, which are nil without C. How rows are cut into calls
// changes no bit.
func (g *Gram) Add(served, float []float32, rows int, w *kernel.Workers) {
	if g.from == 0 { // they are the same in each pass
		g.Count += float64(rows)
	}
	for r := range rows {
		g.served.set(g.waiting, served[r*g.N:][:g.N])
		if g.C != nil {
			g.float.set(g.waiting, float[r*g.N:][:g.N])
		}
		if g.waiting++; g.waiting == tokens {
			g.flush(w)
		}
	}
}

// flush adds the products of those that wait.
func (g *Gram) flush(w *kernel.Workers) {
	t := g.waiting
	if t == 0 {
		return
	}
	g.waiting = 0
	g.product(g.H, g.served, t, true, w)
	if g.C != nil {
		g.product(g.C, g.float, t, false, w)
	}
}

// strip is how many rows of a product are computed together.
const strip = 48

// product adds aᵀ·x̂ of t rows to the rows of sum that are held. half leaves out what
// lies below the diagonal, but for some next to it.
func (g *Gram) product(sum []float64, a *blocks, t int, half bool, w *kernel.Workers) {
	n := g.N
	w.Each((g.to-g.from+strip-1)/strip, 1, strip*n*t, func(from, to int) {
		left := make([]float32, (to-from)*strip*t)
		out := make([]float32, strip*copyCols)
		for s := from; s < to; s++ {
			i := g.from + s*strip
			columns(left[(s-from)*strip*t:], a, i, min(strip, g.to-i), t)
		}
		for j := 0; j < n; j += copyCols {
			wide := min(copyCols, n-j)
			for s := from; s < to; s++ {
				i := g.from + s*strip
				if half && j+wide <= i {
					continue
				}
				m := min(strip, g.to-i)
				kernel.PanelF32(out, copyCols, left[(s-from)*strip*t:], t, g.served.block(j), copyLine, m, wide, t, false)
				for r := range m {
					kernel.AddWide(sum[(s*strip+r)*n+j:][:wide], out[r*copyCols:])
				}
			}
		}
	})
}

// columns writes m columns from i on as rows of t elements.
func columns(dst []float32, a *blocks, i, m, t int) {
	for m > 0 {
		block, at := a.block(i), i%copyCols
		wide := min(m, copyCols-at)
		kernel.Transpose(dst, t, block[at:], copyLine, t, wide)
		if i, m = i+wide, m-wide; m > 0 {
			dst = dst[wide*t:]
		}
	}
}

// Finish closes the sums: H and C become means over the tokens.
func (g *Gram) Finish(w *kernel.Workers) {
	if g.disk != nil {
		g.finishFiles(w)
		return
	}
	g.flush(w)
	g.served, g.float = nil, nil
	if n := g.N; g.Count > 0 {
		w.Each(n, 8, 2*n, func(lo, hi int) {
			divide(g.H[lo*n:hi*n], g.Count)
			if g.C != nil {
				divide(g.C[lo*n:hi*n], g.Count)
			}
		})
	}
	mirror(g.H, g.N, w)
	g.Count = 1
}

// mirror copies what lies above the diagonal below it, for half of H was summed:
// square by square, since a column of H lies in as many pages of memory.
func mirror(h []float64, n int, w *kernel.Workers) {
	const square = 64
	w.Each((n+square-1)/square, 1, square*n, func(from, to int) {
		for lo := from * square; lo < min(to*square, n); lo += square {
			for at := 0; at <= lo; at += square {
				for i := lo; i < min(lo+square, n); i++ {
					for j := at; j < min(at+square, i); j++ {
						h[i*n+j] = h[j*n+i]
					}
				}
			}
		}
	})
}

func divide(x []float64, by float64) {
	for i := range x {
		x[i] /= by
	}
}

// Shrink mixes means over all tokens into sums over an expert's own: as if it had
// seen tokens of the mixture besides (docs/facts/accuracy.md 3.3). prior is
// finished, g is not.
func (g *Gram) Shrink(prior *Gram, weight float64, w *kernel.Workers) {
	if g.disk != nil {
		g.shrinkFiles(prior, weight)
		return
	}
	g.flush(w)
	n := g.N
	w.Each(n, 8, 2*n, func(lo, hi int) {
		mix(g.H[lo*n:hi*n], prior.H[lo*n:hi*n], weight)
		if g.C != nil {
			mix(g.C[lo*n:hi*n], prior.C[lo*n:hi*n], weight)
		}
	})
	g.Count += weight
}

func mix(x, y []float64, weight float64) {
	for i, v := range y {
		x[i] += float64(weight * v)
	}
}
