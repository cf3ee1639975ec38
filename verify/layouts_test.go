package verify_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

func eval(t *testing.T, dir string) runtime.Evaluation {
	m, err := runtime.Load(dir, runtime.Options{})
	require.NoError(t, err)
	defer func() { _ = m.Close() }()
	ids := make([]int, 48)
	for i := range ids {
		ids[i] = (i*i*7 + 31*i + 5) % 900
	}
	out, err := m.Evaluate(context.Background(), [][]int{ids}, runtime.EvalOptions{Logits: true, Keys: true, MTP: 2})
	require.NoError(t, err)
	return out[0]
}

// rms is the distance in units of want's size.
func rms(want, got []float32) float64 {
	var d, n float64
	for i := range want {
		d += math.Pow(float64(got[i]-want[i]), 2)
		n += math.Pow(float64(want[i]), 2)
	}
	return math.Sqrt(d / n)
}

// Every layout that the converter writes of GLM-5 runs, MTP layer included,
// and stays as near to the source as its number of bits allows.
func TestGLM5Layouts(t *testing.T) {
	for _, name := range []string{"nano-glm5", "nano-glm52"} {
		dir := testkit.Shared(t, "reference/"+name)
		src, err := safetensors.OpenDir(dir)
		require.NoError(t, err)
		defer src.Close()
		want := eval(t, dir)
		for _, c := range []struct {
			scheme quant.Scheme
			format quant.Format
			limit  float64
		}{
			{layout.W8A8, layout.Ascend, 0.12},
			{layout.W4A8, layout.Ascend, 0.12},
			{layout.FP8Block, layout.HFFP8, 0.12},
			{layout.FP8, layout.CompressedTensors, 0.12},
			{layout.FP8Block, layout.CompressedTensors, 0.12},
			{layout.W8A8, layout.CompressedTensors, 0.12},
			{layout.W4A8, layout.CompressedTensors, 0.12},
		} {
			t.Run(name+"/"+string(c.scheme)+"/"+string(c.format), func(t *testing.T) {
				p, err := quant.NewPlan(src, c.scheme, c.format, quant.Options{})
				require.NoError(t, err)
				out := t.TempDir()
				_, err = convert.Run(context.Background(), p, src, out, convert.Options{})
				require.NoError(t, err)
				got := eval(t, out)
				d := rms(want.Logits, got.Logits)
				t.Logf("logits %.3g, draft %.3g", d, rms(want.MTP[0], got.MTP[0]))
				assert.Less(t, d, c.limit)
				assert.Less(t, rms(want.MTP[0], got.MTP[0]), c.limit)
				assert.Positive(t, d)
			})
		}
	}
}
