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
			h.m, h.k, h.small = m, n/m, small
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
	for i, s := range h.signs {
		x[i] *= s
	}
	for lo := 0; lo < h.n; lo += h.m {
		walsh(x[lo : lo+h.m])
	}
	h.mix(x, h.m)
}

// Apply implements Matrix: Rᵀ·x is the product x·R of every column.
func (h *Hadamard) Apply(x []float32, w int) {
	for i, s := range h.signs {
		row := x[i*w:][:w]
		for j := range row {
			row[j] *= s
		}
	}
	for lo := 0; lo < h.n; lo += h.m {
		stages(x[lo*w:][:h.m*w], w)
	}
	h.mix(x, h.m*w)
}

// mix combines the k parts of x, of n values each: sums and differences of
// neighbouring parts first, which every row needs one of.
func (h *Hadamard) mix(x []float32, n int) {
	if h.small == nil {
		return
	}
	const block = 64
	pairs, out := make([]float32, h.k*block), make([]float32, h.k*block)
	for at := 0; at < n; at += block {
		width := min(block, n-at)
		for a := 0; a < h.k; a += 2 {
			p := x[a*n+at:][:width]
			if a+1 == h.k { // no order of a Hadamard matrix, and tried nevertheless
				copy(pairs[a*block:], p)
				continue
			}
			q := x[(a+1)*n+at:][:width]
			sum, diff := pairs[a*block:][:width], pairs[(a+1)*block:][:width]
			for i, v := range p {
				sum[i], diff[i] = v+q[i], v-q[i]
			}
		}
		for r, row := range h.small {
			h.row(out[r*block:][:width], pairs, row)
		}
		for r := range h.k {
			copy(x[r*n+at:][:width], out[r*block:])
		}
	}
}

// row writes a row of the small matrix times the parts, from their sums and
// differences: two pairs at a time.
func (h *Hadamard) row(to, pairs, signs []float32) {
	block := len(pairs) / h.k
	of := func(a int) []float32 {
		if a+1 == h.k || signs[a] == signs[a+1] {
			return pairs[a*block:][:len(to)]
		}
		return pairs[(a+1)*block:][:len(to)]
	}
	clear(to)
	for a := 0; a < h.k; a += 4 {
		p, s := of(a), signs[a]
		if a+2 >= h.k {
			for i, v := range p {
				to[i] += s * v
			}
			continue
		}
		q, t := of(a+2), signs[a+2]
		for i, v := range p {
			to[i] += s*v + t*q[i]
		}
	}
}

// walsh multiplies by the Walsh matrix of order len(x), a power of two.
func walsh(x []float32) {
	if len(x) < 8 {
		stages(x, 1)
		return
	}
	for i := 0; i < len(x); i += 8 {
		eight((*[8]float32)(x[i:]))
	}
	stages(x, 8)
}

// eight multiplies by the Walsh matrix of order 8.
func eight(x *[8]float32) {
	a, b, c, d, e, f, g, h := x[0]+x[1], x[0]-x[1], x[2]+x[3], x[2]-x[3], x[4]+x[5], x[4]-x[5], x[6]+x[7], x[6]-x[7]
	a, b, c, d, e, f, g, h = a+c, b+d, a-c, b-d, e+g, f+h, e-g, f-h
	x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7] = a+e, b+f, c+g, d+h, a-e, b-f, c-g, d-h
}

// stages multiplies runs of w values by the Walsh matrix whose order is their
// number, two stages at a time.
func stages(x []float32, w int) {
	d := w
	for ; 4*d <= len(x); d *= 4 {
		for i := 0; i < len(x); i += 4 * d {
			butterfly4(x[i:i+d], x[i+d:i+2*d], x[i+2*d:i+3*d], x[i+3*d:i+4*d])
		}
	}
	if d < len(x) {
		butterfly(x[:d], x[d:])
	}
}

// butterfly4 is two stages of butterflies: of a and b, c and d, then of what they
// leave.
func butterfly4(a, b, c, d []float32) {
	b, c, d = b[:len(a)], c[:len(a)], d[:len(a)]
	for i, t := range a {
		u, v, w := b[i], c[i], d[i]
		t, u, v, w = t+u, t-u, v+w, v-w
		a[i], b[i], c[i], d[i] = t+v, u+w, t-v, u-w
	}
}

func butterfly(a, b []float32) {
	b = b[:len(a)]
	for i, u := range a {
		v := b[i]
		a[i], b[i] = u+v, u-v
	}
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
