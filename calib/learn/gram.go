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
	x    []float32 // [rows, n]
	rows int
}

// NewGram returns empty sums over inputs of n columns.
func NewGram(n int, cross bool) *Gram {
	g := &Gram{N: n, H: make([]float64, n*n)}
	g.served.x = make([]float32, tokens*n)
	if cross {
		g.C, g.float.x = make([]float64, n*n), make([]float32, tokens*n)
	}
	return g
}

// GramBytes is the memory of a Gram and of the Basis made of it.
func GramBytes(n int, cross bool) int64 {
	cells := int64(n) * int64(n)
	if cross {
		return cells*(8+8+8+4+4+4) + 4*tokens*int64(n)*2
	}
	return cells*(8+8+4+4) + 4*tokens*int64(n)
}

// Add adds inputs [rows, N]: as they will be served, and those of the float
// model at the same tokens, which are nil without C. How rows are cut into calls
// changes no bit.
func (g *Gram) Add(served, float []float32, rows int, w *kernel.Workers) {
	g.Count += float64(rows)
	for rows > 0 {
		n := min(rows, tokens-g.served.rows)
		at := g.served.rows * g.N
		copy(g.served.x[at:], served[:n*g.N])
		served = served[n*g.N:]
		if g.C != nil {
			copy(g.float.x[at:], float[:n*g.N])
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
	product(g.H, g.served.x, g.served.x, t, g.N, w)
	if g.C != nil {
		product(g.C, g.float.x, g.served.x, t, g.N, w)
	}
}

// product adds aᵀ·b to sum [n, n]; a and b are [t, n].
func product(sum []float64, a, b []float32, t, n int, w *kernel.Workers) {
	const rows = 32
	w.Each((n+rows-1)/rows, 1, rows*n*t, func(lo, hi int) {
		left, out := make([]float32, rows*t), make([]float32, rows*n)
		for i := lo * rows; i < min(hi*rows, n); i += rows {
			m := min(rows, n-i)
			for r := range m {
				for k := range t {
					left[r*t+k] = a[k*n+i+r]
				}
			}
			kernel.PanelF32(out, n, left, t, b, n, m, n, t, false)
			for j, v := range out[:m*n] {
				sum[i*n+j] += float64(v)
			}
		}
	})
}

// Finish closes the sums: H and C become means over the tokens.
func (g *Gram) Finish(w *kernel.Workers) {
	g.flush(w)
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
