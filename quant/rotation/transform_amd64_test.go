//go:build !purego

package rotation

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVectors: vector kernels give plain Go's bits, of rows, of columns and in
// two passes.
func TestVectors(t *testing.T) {
	if !vectors {
		t.Skip("SKIPPED: this processor or GLMCONV_CPU has no vector kernels to compare")
	}
	defer func() { vectors = true }()
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 2, 8, 12, 24, 64, 96, 128, 192, 256, 320, 384, 448, 512, 768, 1024, 2048, 6144} {
		h, err := NewHadamard(n, 5)
		require.NoError(t, err)
		for _, cols := range []int{1, 7, 8, 16, 33} {
			x := make([]float32, n*cols)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			for what, fn := range map[string]func(x []float32){
				"row":     func(x []float32) { h.Row(x[:n]) },
				"columns": func(x []float32) { h.Apply(x, cols) },
				"two passes": func(x []float32) {
					for i := range BlockRows {
						if h.m%BlockRows == 0 {
							h.apart(x, i, cols, nil)
						}
					}
					for at := 0; at+BlockRows <= n; at += BlockRows {
						together(x[at*cols:], x[at*cols:], cols)
					}
				},
			} {
				a, b := append([]float32(nil), x...), append([]float32(nil), x...)
				vectors = true
				fn(a)
				vectors = false
				fn(b)
				require.Equal(t, b, a, "%s: n %d, %d columns", what, n, cols)
			}
		}
	}
}

// BenchmarkTransforms: a row of GLM-5's hidden size, and a strip of its columns.
func BenchmarkTransforms(b *testing.B) {
	h, err := NewHadamard(6144, 1)
	require.NoError(b, err)
	x := make([]float32, 6144*2048)
	b.Run("row", func(b *testing.B) {
		b.SetBytes(4 * 6144)
		for b.Loop() {
			h.Row(x[:6144])
		}
	})
	b.Run("apart", func(b *testing.B) {
		b.SetBytes(4 * 6144 * 2048 / BlockRows)
		for b.Loop() {
			h.apart(x, 3, 2048, nil)
		}
	})
	b.Run("together", func(b *testing.B) {
		b.SetBytes(4 * BlockRows * 256)
		for b.Loop() {
			together(x, x[:BlockRows*256], 256)
		}
	})
}
