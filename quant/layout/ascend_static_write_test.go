package layout

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/quant/numeric"
)

// TestStaticInputs: scales are BF16 numbers that cover the range, hardly wider
// than needed, with reciprocals that BF16 holds better than those of most.
func TestStaticInputs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo, hi := rapid.Float32Range(-1e4, 1e4).Draw(t, "lo"), rapid.Float32Range(-1e4, 1e4).Draw(t, "hi")
		if lo > hi {
			lo, hi = hi, lo
		}
		in, err := NewStaticInput(lo, hi)
		require.NoError(t, err)
		assert.Equal(t, numeric.RoundBF16(in.Scale), in.Scale)
		lo, hi = min(lo, 0), max(hi, 0)
		need := float64(max((hi-lo)/255, 1.0/(1<<23)))
		assert.GreaterOrEqual(t, float64(in.Scale), need*(1-1e-6))
		assert.LessOrEqual(t, float64(in.Scale), need*1.03)
		for _, x := range []float32{lo, hi} { // ends are within half a step of what codes hold
			q := math.RoundToEven(float64(x/in.Scale)) + float64(in.Offset)
			assert.True(t, q >= -129 && q <= 128, "%g", q)
		}
		off := func(s float32) float64 { return math.Abs(float64(s)*float64(numeric.RoundBF16(1/s)) - 1) }
		plain := numeric.RoundBF16(float32(need))
		for plain < float32(need) {
			plain = nextBF16(plain)
		}
		assert.LessOrEqual(t, off(in.Scale), off(plain))
	})
	one, err := NewStaticInput(0, 255.0/128)
	require.NoError(t, err)
	assert.Equal(t, StaticInput{1.0 / 128, -128}, one, "powers of two are exact")
	_, err = NewStaticInput(0, float32(math.Inf(1)))
	require.Error(t, err)
	_, err = NewStaticInput(float32(math.NaN()), 1)
	require.Error(t, err)
}
