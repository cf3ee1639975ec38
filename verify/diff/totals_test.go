package diff

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestTotals: the sums are those of the definition, and do not depend on z.
func TestTotals(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var x, y, z []float32
	var size, diff, own, ownDiff, off, top float64
	for range 1003 {
		p, q, w := float32(rng.NormFloat64()), float32(rng.NormFloat64()), float32(rng.NormFloat64())
		x, y, z = append(x, p), append(y, q), append(z, w)
		a, b, c := float64(p), float64(q), float64(w)
		size += a * a
		diff += (b - a) * (b - a)
		own += c * c
		ownDiff += (c - a) * (c - a)
		off += (b - c) * (b - c)
		top = max(top, math.Abs(b-a))
	}
	var all, plain totals
	all.add(x, y, z)
	plain.add(x, y, nil)
	assert.InEpsilon(t, size, total(all.size), 1e-12)
	assert.InEpsilon(t, diff, total(all.diff), 1e-12)
	assert.InEpsilon(t, own, total(all.ownSize), 1e-12)
	assert.InEpsilon(t, ownDiff, total(all.ownDiff), 1e-12)
	assert.InEpsilon(t, off, total(all.off), 1e-12)
	assert.Equal(t, top, all.top)
	assert.Equal(t, all.size, plain.size)
	assert.Equal(t, all.diff, plain.diff)

	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	var same, other totals
	same.add([]float32{inf, nan, 1}, []float32{inf, nan, 1}, nil)
	assert.Zero(t, total(same.diff))
	other.add([]float32{1}, []float32{nan}, nil)
	assert.True(t, math.IsNaN(total(other.diff)))
}
