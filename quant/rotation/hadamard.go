package rotation

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Matrix is an orthogonal n×n matrix R.
type Matrix interface {
	Size() int
	// Apply replaces x, which holds n rows of w values, by Rᵀ·x.
	Apply(x []float32, w int)
	// Row replaces the row vector x of n values by x·R.
	Row(x []float32)
}

// Hadamard is R[i,j] = s_i·H_k[r,a]·(−1)^popcount(b∧c)/√n with i = a·m+b, j =
// r·m+c and n = k·m (docs/facts/ascend.md 3.3): random signs, a small Hadamard
// matrix of order k and a Walsh matrix of order m, so that a product takes
// n·(log₂ m + k) additions.
type Hadamard struct {
	n, m, k int
	signs   []float32 // already divided by √n
	small   [][]float32
	places  []int32 // of small, for vectors
}

// NewHadamard returns the matrix of size n with signs by a seed. Where no
// Hadamard matrix of size n can be made here, the result is block-diagonal with
// blocks of the largest power of two that divides n.
func NewHadamard(n int, seed uint64) (*Hadamard, error) {
	if n <= 0 {
		return nil, fmt.Errorf("rotation: no matrix of size %d", n)
	}
	h := &Hadamard{n: n, m: n & -n, k: n / (n & -n), signs: make([]float32, n)}
	scale := float32(1 / math.Sqrt(float64(h.m)))
	for m := h.m; h.k > 1 && m >= 1; m /= 2 {
		if small := order(n / m); small != nil {
			h.m, h.k, h.small, h.places = m, n/m, small, places(small)
			scale = float32(1 / math.Sqrt(float64(n)))
			break
		}
	}
	rng := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // signs, no secrets
	for i := range h.signs {
		h.signs[i] = scale
		if rng.Uint32()&1 == 1 {
			h.signs[i] = -scale
		}
	}
	return h, nil
}

// Size implements Matrix.
func (h *Hadamard) Size() int { return h.n }

// Row implements Matrix.
func (h *Hadamard) Row(x []float32) {
	multiply(x[:h.n], h.signs)
	h.unsigned(x)
}

// unsigned is Row of a vector that was multiplied by the signs.
func (h *Hadamard) unsigned(x []float32) {
	for lo := 0; lo < h.n; lo += h.m {
		walsh(x[lo : lo+h.m])
	}
	h.mix(x, h.m)
}

// Apply implements Matrix: Rᵀ·x is the product x·R of every column.
func (h *Hadamard) Apply(x []float32, w int) {
	for i, s := range h.signs {
		scale(x[i*w:][:w], s)
	}
	for lo := 0; lo < h.n; lo += h.m {
		stages(x[lo*w:][:h.m*w], w)
	}
	h.mix(x, h.m*w)
}

// order returns a Hadamard matrix of order k with entries ±1, nil where Paley's
// two constructions over prime fields have none.
func order(k int) [][]float32 {
	switch {
	case k == 1:
		return [][]float32{{1}}
	case k%4 != 0:
		return nil
	case prime(k-1) && (k-1)%4 == 3:
		return paley1(k - 1)
	case prime(k/2-1) && (k/2-1)%4 == 1:
		return paley2(k/2 - 1)
	}
	return nil
}

// jacobsthal is Q[i,j] = χ(i−j) over the field of q elements.
func jacobsthal(q int) [][]float32 {
	chi := make([]float32, q)
	for i := 1; i < q; i++ {
		chi[i] = -1
	}
	for i := 1; i < q; i++ {
		chi[i*i%q] = 1
	}
	m := square(q)
	for i := range q {
		for j := range q {
			m[i][j] = chi[(i-j+q)%q]
		}
	}
	return m
}

func square(n int) [][]float32 {
	m := make([][]float32, n)
	for i := range m {
		m[i] = make([]float32, n)
	}
	return m
}

// paley1 is I + S with S = [0 1; −1 Q], of order q+1.
func paley1(q int) [][]float32 {
	chi, h := jacobsthal(q), square(q+1)
	for i := range h {
		for j := range h {
			switch {
			case i == j, i == 0:
				h[i][j] = 1
			case j == 0:
				h[i][j] = -1
			default:
				h[i][j] = chi[i-1][j-1]
			}
		}
	}
	return h
}

// paley2 replaces the entries of C = [0 1; 1 Q]: 0 by [1 −1; −1 −1], ±1 by
// ±[1 1; 1 −1]; of order 2(q+1).
func paley2(q int) [][]float32 {
	chi, h := jacobsthal(q), square(2*(q+1))
	for i := range q + 1 {
		for j := range q + 1 {
			c := float32(1)
			if i > 0 && j > 0 {
				c = chi[i-1][j-1]
			}
			part := [2][2]float32{{c, c}, {c, -c}}
			if i == j {
				part = [2][2]float32{{1, -1}, {-1, -1}}
			}
			for r := range 2 {
				copy(h[2*i+r][2*j:], part[r][:])
			}
		}
	}
	return h
}

func prime(n int) bool {
	if n < 2 {
		return false
	}
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}

// Dense is a matrix that has no structure, row by row.
type Dense struct {
	N int
	R []float32 // [N, N]
}

// Size implements Matrix.
func (d *Dense) Size() int { return d.N }

// Row implements Matrix.
func (d *Dense) Row(x []float32) {
	y := make([]float32, d.N)
	for i, v := range x[:d.N] {
		axpy(y, v, d.R[i*d.N:])
	}
	copy(x, y)
}

// Apply implements Matrix.
func (d *Dense) Apply(x []float32, w int) {
	y := make([]float32, d.N*w)
	for i := range d.N {
		row := x[i*w:][:w]
		for j, r := range d.R[i*d.N:][:d.N] {
			axpy(y[j*w:][:w], r, row)
		}
	}
	copy(x, y)
}

func axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] += a * v
	}
}

// Rows writes rows lo … hi−1 of R itself to dst.
func Rows(r Matrix, lo, hi int, dst []float32) {
	n := r.Size()
	clear(dst[:(hi-lo)*n])
	for i := lo; i < hi; i++ {
		row := dst[(i-lo)*n:][:n]
		row[i] = 1
		r.Row(row)
	}
}
