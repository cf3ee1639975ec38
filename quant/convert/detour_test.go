package convert

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
)

// TestNoDetour: rounded from the decoded values of an FP8 source, weights are
// nearer to them than when they pass through BF16 first: over the model, and in
// no scheme of any model the other way round (docs/accuracy.md has the figures).
func TestNoDetour(t *testing.T) {
	for model, dir := range fp8Sources {
		src := openShared(t, dir)
		_, bf16 := convertTo(t, src, quant.BF16, "", quant.Options{}, Options{Workers: 2})
		for _, c := range []struct {
			scheme quant.Scheme
			format quant.Format
		}{{quant.W8A8, layout.CompressedTensors}, {quant.W4A16, ""}, {quant.NVFP4A16, ""}, {quant.W4A8, layout.Ascend}} {
			t.Run(model+"/"+string(c.scheme), func(t *testing.T) {
				o := quant.Options{GroupSize: 32}
				if c.scheme.Micro() {
					o.GroupSize = 0
				}
				p, direct := convertTo(t, src, c.scheme, c.format, o, Options{Workers: 2})
				_, detour := convertTo(t, bf16, c.scheme, c.format, o, Options{Workers: 2})
				h := layout.Hints{Declared: declaredOf(t, direct)}
				var norm, near, far float64
				for i := range p.Items {
					it := &p.Items[i]
					if it.Action != quant.Quantize || it.Stored == nil {
						continue
					}
					read := func(s layout.Stored, r layout.TensorReader) []float32 {
						m, err := layout.Read(r, s)
						require.NoError(t, err)
						x := make([]float32, s.Rows*s.Cols)
						m.Dequant(x, 0, s.Rows)
						return x
					}
					want := read(*it.Stored, src)
					a, err := layout.Lookup(direct, it.Weight.Tensor.Module, h)
					require.NoError(t, err)
					b, err := layout.Lookup(detour, it.Weight.Tensor.Module, h)
					require.NoError(t, err)
					x, y := read(a, direct), read(b, detour)
					for k, w := range want {
						norm += float64(w) * float64(w)
						near += math.Pow(float64(x[k])-float64(w), 2)
						far += math.Pow(float64(y[k])-float64(w), 2)
					}
				}
				t.Logf("relative error %.5f direct, %.5f through BF16", math.Sqrt(near/norm), math.Sqrt(far/norm))
				assert.Positive(t, near)
				assert.Less(t, near, far)
			})
		}
	}
}
