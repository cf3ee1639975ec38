package rotation

import (
	"fmt"
	"math"
)

// Recognize returns a matrix R [n, n] in the form of Hadamard if it has that
// form, for any small matrix of signs, so that products are fast; else as Dense.
// The error says that R is not orthogonal, to 1e-3.
func Recognize(r []float32, n int) (Matrix, error) { return recognize(r, n, 1e-3) }

// recognize allows entries to be off by a part of those of a Hadamard matrix.
func recognize(r []float32, n int, off float64) (Matrix, error) {
	if len(r) != n*n || n == 0 {
		return nil, fmt.Errorf("rotation: %d values are no square matrix of %d rows", len(r), n)
	}
	for m := n & -n; m >= 1 && n/m <= 256; m /= 2 {
		if k := n / m; k > 1 && k%2 == 1 {
			continue // no order of a Hadamard matrix
		}
		if h := asHadamard(r, n, m, off); h != nil {
			return h, nil
		}
	}
	d := &Dense{n, r}
	return d, d.orthogonal()
}

// asHadamard reads signs and the small matrix from R and compares.
func asHadamard(r []float32, n, m int, off float64) *Hadamard {
	h := &Hadamard{n: n, m: m, k: n / m, signs: make([]float32, n)}
	unit := float32(1 / math.Sqrt(float64(n)))
	for i := range n {
		h.signs[i] = unit
		if r[i*n] < 0 {
			h.signs[i] = -unit
		}
	}
	if h.k > 1 {
		h.small = square(h.k)
		for q := range h.k {
			for a := range h.k {
				h.small[q][a] = 1
				if (r[a*m*n+q*m] < 0) != (h.signs[a*m] < 0) {
					h.small[q][a] = -1
				}
			}
		}
		h.places = places(h.small)
	}
	row := make([]float32, n)
	for i := range n {
		clear(row)
		row[i] = 1
		h.Row(row)
		for j, v := range row {
			if !(math.Abs(float64(v-r[i*n+j])) <= off*float64(unit)) {
				return nil
			}
		}
	}
	return h
}

// orthogonal tells whether R·Rᵀ is the unit matrix, by products with vectors of
// random signs: each finds a fault with probability one half and more.
func (d *Dense) orthogonal() error {
	for i := range 8 {
		h, err := NewHadamard(d.N, uint64(i+1)) //nolint:gosec // small
		if err != nil {
			return err
		}
		x := make([]float32, d.N)
		x[i%d.N] = 1
		h.Row(x)
		y := append([]float32(nil), x...)
		d.Row(y) // x·R
		var off float64
		for j := range d.N { // (x·R)·Rᵀ
			var dot float64
			for k, v := range d.R[j*d.N:][:d.N] {
				dot += float64(v) * float64(y[k])
			}
			off = max(off, math.Abs(dot-float64(x[j])))
		}
		if !(off <= 1e-3) {
			return fmt.Errorf("rotation: the matrix is not orthogonal (R·Rᵀ is off by %.2g)", off)
		}
	}
	return nil
}

// MaxSolved is the largest matrix that Solve finds: its cost grows with the cube.
const MaxSolved = 2048

// Solve returns the orthogonal R of size n that takes the rows of a nearest to
// those of b, b ≈ a·R, both [rows, n]: the polar factor of aᵀ·b, by Newton's
// iteration (Higham, Functions of Matrices, 8.3; here Newton–Schulz).
func Solve(a, b []float32, n int) (Matrix, error) {
	if n > MaxSolved {
		return nil, fmt.Errorf("rotation: a matrix of %d rows is not solved for, at most %d are", n, MaxSolved)
	}
	x := make([]float32, n*n)
	rows := len(a) / n
	parallel(n, func(i int) {
		to := x[i*n:][:n]
		for r := range rows {
			axpy(to, a[r*n+i], b[r*n:])
		}
	})
	var norm float64
	for _, v := range x {
		norm += float64(v) * float64(v)
	}
	if norm == 0 || math.IsNaN(norm) || math.IsInf(norm, 0) {
		return nil, fmt.Errorf("rotation: nothing to solve for")
	}
	scale := float32(1 / math.Sqrt(norm))
	for i := range x {
		x[i] *= scale
	}
	gram, next := make([]float32, n*n), make([]float32, n*n)
	for range 60 {
		product(gram, x, x, n, true)
		var off float64
		for i := range n {
			for j := range n {
				want := 0.0
				if i == j {
					want = 1
				}
				off = max(off, math.Abs(float64(gram[i*n+j])-want))
				gram[i*n+j] *= -0.5
			}
			gram[i*n+i] += 1.5
		}
		if off < 2e-6 {
			break
		}
		product(next, x, gram, n, false) // x·(3 − xᵀx)/2
		x, next = next, x
	}
	return recognize(x, n, 0.3) // rows were rounded: signs decide
}

// product is dst = aᵀ·b or a·b.
func product(dst, a, b []float32, n int, transposed bool) {
	parallel(n, func(i int) {
		to := dst[i*n:][:n]
		clear(to)
		for k := range n {
			f := a[i*n+k]
			if transposed {
				f = a[k*n+i]
			}
			axpy(to, f, b[k*n:])
		}
	})
}
