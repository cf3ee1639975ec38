package kernel

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/quant/numeric"
)

// TestRoundedInputs: MXFP4 inputs are what compressed-tensors makes of weights
// with the same numbers; MXFP8 never clips and moves a value by half a step at
// most; NVFP4 has eight magnitudes below a local scale; a static scale saturates.
func TestRoundedInputs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, k := rapid.IntRange(1, 3).Draw(t, "rows"), 32*rapid.IntRange(1, 3).Draw(t, "columns/32")
		x := rapid.SliceOfN(rapid.Float32Range(-100, 100), m*k, m*k).Draw(t, "x")
		for i := range x {
			x[i] = numeric.RoundBF16(x[i])
		}
		q, _, err := numeric.Quantize(numeric.Spec{Code: numeric.E2M1, Rule: numeric.MX, Arith: numeric.Compat, BlockCols: 32}, x, m, k, nil)
		require.NoError(t, err)
		want := make([]float32, m*k)
		q.Dequant(want, 0, m)
		assert.Equal(t, want, RoundMX(x, m, k, numeric.E2M1, nil))

		eight := RoundMX(x, m, k, numeric.E4M3, nil)
		local := RoundNVFP4(x, m, k, numeric.AbsMax(x)/2688+0x1p-126, nil)
		static := RoundStaticE4M3(x, m, k, 0.125, nil)
		for i, v := range x {
			top := numeric.AbsMax(x[i/32*32 : i/32*32+32])
			assert.LessOrEqual(t, math.Abs(float64(eight[i]-v)), max(math.Abs(float64(v))/16, float64(top)/448*0x1p-9), "MXFP8 of %v below %v", v, top)
			assert.LessOrEqual(t, math.Abs(float64(local[i]-v)), float64(numeric.AbsMax(x[i/16*16:i/16*16+16]))*0.26+1e-30, "NVFP4 of %v", v)
			assert.LessOrEqual(t, math.Abs(float64(static[i])), 56.0, "448 · 0.125")
		}
		assert.Equal(t, x[k:], append([]float32(nil), x...)[k:], "the input is not touched")
	})
}
