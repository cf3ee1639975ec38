package rotation

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRecognizeAndSolve: matrices are found again from themselves and from what
// they did to rows, also where the rows were rounded.
func TestRecognizeAndSolve(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{16, 24, 40, 64} {
		h, err := NewHadamard(n, 9)
		require.NoError(t, err)
		r := make([]float32, n*n)
		Rows(h, 0, n, r)
		m, err := Recognize(append([]float32(nil), r...), n)
		require.NoError(t, err)
		assert.IsType(t, &Hadamard{}, m)
		again := make([]float32, n*n)
		Rows(m, 0, n, again)
		assert.InDeltaSlice(t, widened(r), widened(again), 1e-6)

		a := make([]float32, 4*n*n)
		for i := range a {
			a[i] = float32(rng.NormFloat64()) * float32(1+i%n%7)
		}
		b := append([]float32(nil), a...)
		for at := 0; at < len(b); at += n {
			h.Row(b[at:][:n])
		}
		for i := range b {
			b[i] += float32(rng.NormFloat64()) * 1e-5
		}
		m, err = Solve(a, b, n)
		require.NoError(t, err)
		Rows(m, 0, n, again)
		assert.InDeltaSlice(t, widened(r), widened(again), 1e-3)
	}
	r := make([]float32, 16)
	_, err := Recognize(r, 4)
	require.ErrorContains(t, err, "not orthogonal")
	_, err = Recognize(r, 5)
	require.Error(t, err)
	_, err = Solve(make([]float32, 8), make([]float32, 8), 4)
	require.Error(t, err)
	_, err = Solve(nil, nil, MaxSolved+1)
	require.ErrorContains(t, err, "not solved")
}
