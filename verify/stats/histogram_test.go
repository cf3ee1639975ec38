package stats

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestHistogram(t *testing.T) {
	bins, infinite := Histogram([]float64{0, 1e-12, 0.1, 0.11, math.NaN(), math.Inf(1), 1})
	assert.Equal(t, 2, infinite)
	assert.Equal(t, Bin{Lo: -9, Hi: -8.75, Count: 2}, bins[0])
	assert.Equal(t, Bin{Lo: 0, Hi: 0.25, Count: 1}, bins[len(bins)-1])
	n := 0
	for i, b := range bins {
		n += b.Count
		assert.InDelta(t, b.Lo+0.25, b.Hi, 1e-12)
		if i > 0 {
			assert.Equal(t, bins[i-1].Hi, b.Lo, "bars leave no gap")
		}
	}
	assert.Equal(t, 5, n)

	bins, infinite = Histogram(nil)
	assert.Empty(t, bins)
	assert.NotNil(t, bins)
	assert.Zero(t, infinite)
}
