package rotation

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHadamardIsOrthogonal: of all sizes that models have, and of some that have
// no Hadamard matrix; fast products are those of the matrix.
func TestHadamardIsOrthogonal(t *testing.T) {
	for _, n := range []int{1, 2, 12, 20, 24, 28, 32, 36, 44, 60, 64, 80, 96, 128, 192, 13, 26, 52, 320} {
		h, err := NewHadamard(n, 1)
		require.NoError(t, err)
		r := make([]float32, n*n)
		Rows(h, 0, n, r)
		for i := range n {
			for j := range n {
				var dot float64
				for k := range n {
					dot += float64(r[i*n+k]) * float64(r[j*n+k])
				}
				want := 0.0
				if i == j {
					want = 1
				}
				require.InDelta(t, want, dot, 1e-5, "n %d: %d %d", n, i, j)
			}
		}
		d := &Dense{n, r}
		const w = 3
		x := make([]float32, n*w)
		for i := range x {
			x[i] = rand.Float32() - 0.5
		}
		a, b := append([]float32(nil), x...), append([]float32(nil), x...)
		h.Apply(a, w)
		d.Apply(b, w)
		assert.InDeltaSlice(t, widened(b), widened(a), 1e-5)
		h.Row(x[:n])
	}
	_, err := NewHadamard(0, 1)
	require.Error(t, err)
}

func widened(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// TestHadamardSpreads: sizes of GLM models have one matrix over all of them: a
// single outlier is spread over every channel.
func TestHadamardSpreads(t *testing.T) {
	for _, n := range []int{4096, 5120, 6144, 2048, 512, 256} {
		h, err := NewHadamard(n, 1)
		require.NoError(t, err)
		x := make([]float32, n)
		x[7] = 1
		h.Row(x)
		for _, v := range x {
			require.InDelta(t, 1/math.Sqrt(float64(n)), math.Abs(float64(v)), 1e-6)
		}
	}
}

// TestTwoPasses: rows that are mixed in two passes are those mixed in one, up to
// rounding.
func TestTwoPasses(t *testing.T) {
	for _, n := range []int{32, 64, 128, 384, 640, 6144} {
		h, err := NewHadamard(n, 1)
		require.NoError(t, err)
		for _, cols := range []int{1, 16, 33, 70} {
			x := make([]float32, n*cols)
			for i := range x {
				x[i] = rand.Float32() - 0.5
			}
			want := append([]float32(nil), x...)
			h.Apply(want, cols)
			for i := range BlockRows {
				h.apart(x, i, cols, nil)
			}
			for at := 0; at < n; at += BlockRows {
				together(x[at*cols:], x[at*cols:], cols)
			}
			require.InDeltaSlice(t, widened(want), widened(x), 3e-6, "n %d, %d columns", n, cols)
		}
	}
}
