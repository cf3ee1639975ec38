//go:build !purego

package diff

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVectors: the vector kernel gives plain Go's bits, whatever the weights.
func TestVectors(t *testing.T) {
	if !vectors {
		t.Skip("SKIPPED: this processor or GLMCONV_CPU has no vector kernels to compare")
	}
	defer func() { vectors = true }()
	r := rand.New(rand.NewPCG(3, 4))
	special := []float32{0, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32, math.SmallestNonzeroFloat32}
	for round := range 2000 {
		n := r.IntN(70)
		draw := func() []float32 {
			w := make([]float32, n)
			for i := range w {
				w[i] = float32(r.NormFloat64())
				if round%3 == 0 && r.IntN(9) == 0 {
					w[i] = special[r.IntN(len(special))]
				}
			}
			return w
		}
		x, y, z := draw(), draw(), draw()
		for i := range y {
			if r.IntN(2) == 0 {
				y[i] = x[i]
			}
		}
		if round%2 == 0 {
			z = nil
		}
		var got, want totals
		for range 2 { // goes on with what is there
			vectors = true
			got.add(x, y, z)
			vectors = false
			want.add(x, y, z)
		}
		require.Equal(t, bits(want), bits(got), "x=%v y=%v z=%v", x, y, z)
	}
}

// bits are the sums' bit patterns, all NaN the same.
func bits(t totals) (out []uint64) {
	for _, s := range [][4]float64{t.size, t.diff, t.ownSize, t.ownDiff, t.off, {t.top}} {
		for _, v := range s {
			if v != v {
				v = math.NaN()
			}
			out = append(out, math.Float64bits(v))
		}
	}
	return out
}

func BenchmarkTotals(b *testing.B) {
	const n = 1 << 16
	x, y, z := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range x {
		x[i] = float32(i%251) - 125
		y[i], z[i] = x[i]+0.5, x[i]+0.5
	}
	for _, v := range []bool{true, false} {
		b.Run(map[bool]string{true: "vector", false: "plain"}[v], func(b *testing.B) {
			was := vectors
			vectors = v && was
			defer func() { vectors = was }()
			b.SetBytes(4 * n)
			var t totals
			for b.Loop() {
				t.add(x, y, z)
			}
		})
	}
}
