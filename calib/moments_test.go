package calib

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSample: the inputs with the lowest keys are kept, in their order, however
// they came and in whatever parts.
func TestSample(t *testing.T) {
	const n, cols = 3 * samples, 3
	r := rand.New(rand.NewPCG(3, 4))
	order := r.Perm(n)
	one, two := newMoments(cols), newMoments(cols)
	for i, k := range order {
		x := []float32{float32(k), float32(k) / 2, 1}
		one.sample(x, uint64(k))
		if i < n/3 {
			two.sample(x, uint64(k))
		}
	}
	rest := newMoments(cols)
	for _, k := range order[n/3:] {
		rest.sample([]float32{float32(k), float32(k) / 2, 1}, uint64(k))
	}
	two.merge(rest)
	want := []float32{}
	for k := range samples {
		x := newMoments(cols)
		x.sample([]float32{float32(k), float32(k) / 2, 1}, 0)
		want = append(want, x.Sample()...)
	}
	require.True(t, slices.IsSorted(one.keys))
	assert.Equal(t, want, one.Sample())
	assert.Equal(t, want, two.Sample())
}

func BenchmarkSample(b *testing.B) {
	const cols = 6144
	x := make([]float32, cols)
	for b.Loop() {
		m := newMoments(cols)
		for i := range 4096 {
			m.sample(x, keyOf(i/128, i%128))
		}
	}
}
