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

	served, float tile // inputs that wait for a full tile
}

// tile holds up to tokens rows.
type tile struct {
	x    []float32 // [rows, line(n)]
	rows int
}

// line is how far apart rows of n values lie, so that a column of them does not
// push itself out of caches.
func line(n int) int { return n + 16 }

// NewGram returns empty sums over inputs of n columns.
func NewGram(n int, cross bool) *Gram {
	g := &Gram{N: n, H: make([]float64, n*n)}
	g.served.x = make([]float32, tokens*line(n))
	if cross {
		g.C, g.float.x = make([]float64, n*n), make([]float32, tokens*line(n))
	}
	return g
}

// GramBytes is the memory of a Gram and of the Basis made of it.
func GramBytes(n int, cross bool) int64 {
	cells, blocks := int64(n)*int64(n), 4*8*factorBlock*int64(n)
	if cross {
		return cells*(8+8+8+4+4+4) + 4*tokens*int64(n)*2 + blocks
	}
	return cells*(8+8+4+4) + 4*tokens*int64(n) + blocks
}

// Add adds inputs [rows, N]: as they will be served, and those of the float
// model at the same tokens, which are nil without C. How rows are cut into calls
// changes no bit.
func (g *Gram) Add(served, float []float32, rows int, w *kernel.Workers) {
	g.Count += float64(rows)
	for rows > 0 {
		n := min(rows, tokens-g.served.rows)
		for r := range n {
			at := (g.served.rows + r) * line(g.N)
			copy(g.served.x[at:][:g.N], served[r*g.N:])
			if g.C != nil {
				copy(g.float.x[at:][:g.N], float[r*g.N:])
			}
		}
		if served = served[n*g.N:]; g.C != nil {
			float = float[n*g.N:]
		}
		rows -= n
		if g.served.rows += n; g.served.rows == tokens {
			g.flush(w)
		}
	}
}

// flush adds the products of the tile.
func (g *Gram) flush(w *kernel.Workers) {
	t := g.served.rows
	if t == 0 {
		return
	}
	g.served.rows = 0
	product(g.H, g.served.x, g.served.x, t, g.N, true, w)
	if g.C != nil {
		product(g.C, g.float.x, g.served.x, t, g.N, false, w)
	}
}

// product adds aᵀ·b to sum [n, n]; a and b are [t, line(n)]. half leaves out what lies
// below the diagonal, but for some next to it.
func product(sum []float64, a, b []float32, t, n int, half bool, w *kernel.Workers) {
	const rows = 48
	ld := line(n)
	w.Each((n+rows-1)/rows, 1, rows*n*t, func(lo, hi int) {
		left, out := make([]float32, rows*t), make([]float32, rows*n)
		for i := lo * rows; i < min(hi*rows, n); i += rows {
			m := min(rows, n-i)
			for r := range m {
				for k := range t {
					left[r*t+k] = a[k*ld+i+r]
				}
			}
			first := 0
			if half {
				first = i
			}
			kernel.PanelF32(out, n, left, t, b[first:], ld, m, n-first, t, false)
			for r := range m {
				row := sum[(i+r)*n+first:][:n-first]
				for j, v := range out[r*n:][:n-first] {
					row[j] += float64(v)
				}
			}
		}
	})
}

// Finish closes the sums: H and C become means over the tokens.
func (g *Gram) Finish(w *kernel.Workers) {
	g.flush(w)
	for i := range g.N { // H is symmetric, half of it was summed
		for j := range i {
			g.H[i*g.N+j] = g.H[j*g.N+i]
		}
	}
	scale(g.H, g.Count)
	scale(g.C, g.Count)
	g.Count = 1
}

func scale(x []float64, by float64) {
	if by > 0 {
		for i := range x {
			x[i] /= by
		}
	}
}

// Shrink mixes means over all tokens into sums over an expert's own: as if it had
// seen tokens of the mixture besides (docs/facts/accuracy.md 3.3). prior is
// finished, g is not.
func (g *Gram) Shrink(prior *Gram, weight float64, w *kernel.Workers) {
	g.flush(w)
	for i, v := range prior.H {
		g.H[i] += float64(weight * v)
	}
	for i := range g.C {
		g.C[i] += float64(weight * prior.C[i])
	}
	g.Count += weight
}
