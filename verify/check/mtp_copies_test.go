package check

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// TestRoundedCopies: a copy of the head that was rounded to FP8 and widened, as
// FP8 releases have it, is a warning; the same distance as noise is an error.
func TestRoundedCopies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, tc := range map[string]struct {
		bad bool
		row func(x []float32)
	}{
		"rounded": {false, func(x []float32) {
			s := numeric.AbsMax(x) / numeric.E4M3Max
			for i := range x {
				x[i] = numeric.E4M3ToF32(numeric.F32ToE4M3(x[i]/s)) * s
			}
		}},
		"noise of 1 %": {true, func(x []float32) {
			for i := range x {
				x[i] *= 1 + 0.01*float32(rng.NormFloat64())
			}
		}},
		"rounded to fewer bits": {true, func(x []float32) {
			s := numeric.AbsMax(x) / 7
			for i := range x {
				x[i] = float32(int(x[i]/s)) * s
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, "nano-glm4moe")
			retensor(t, dir, one(containing("shared_head.head"), func(x tensor) []tensor {
				data := slices.Clone(x.data)
				row := make([]float32, x.Shape[1])
				for lo := 0; lo < len(data); lo += 2 * len(row) {
					require.NoError(t, layout.DecodeFloats(row, data[lo:lo+2*len(row)], x.DType))
					tc.row(row)
					for i, v := range numeric.AppendBF16(nil, row) {
						data[lo+i] = v
					}
				}
				x.data = data
				return []tensor{x}
			}))
			r := examine(t, dir, Options{Copies: true})
			require.True(t, r.Has("mtp-copy-stale"), r.Text())
			assert.Equal(t, !tc.bad, r.OK, r.Text())
		})
	}
}
