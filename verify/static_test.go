package verify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

func convertTo(t *testing.T, src string, scheme quant.Scheme, format quant.Format) string {
	t.Helper()
	return convertAs(t, src, scheme, format, quant.Options{})
}

func convertAs(t *testing.T, src string, scheme quant.Scheme, format quant.Format, o quant.Options) string {
	t.Helper()
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	plan, err := quant.NewPlan(c, scheme, format, o)
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "result")
	_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{Workers: 2, Version: "test"})
	require.NoError(t, err)
	return dst
}

func static(t *testing.T, src, dst string) (*verify.Result, string) {
	t.Helper()
	r, err := verify.Static(t.Context(), src, dst, verify.StaticOptions{Workers: 2})
	require.NoError(t, err)
	return r, report.Text(r)
}

func TestStaticOfTrainedModels(t *testing.T) {
	for model, format := range map[string]quant.Format{"nano-glm4moe": layout.CompressedTensors, "nano-glm5": layout.Ascend} {
		src := testkit.Shared(t, "reference/"+model)
		dst := convertTo(t, src, quant.W8A8, format)
		r, text := static(t, src, dst)
		require.Equal(t, verify.Pass, r.Verdict, text)
		assert.True(t, r.Oracle.Exact)
		assert.Zero(t, r.Exact.Lost+r.Exact.Differing)
		assert.Positive(t, r.Exact.Copied)
		assert.Len(t, r.Tensors, r.Exact.Quantized, text)
		if dir := os.Getenv("GLMCONV_REPORT_DIR"); dir != "" {
			f, err := os.Create(filepath.Join(dir, "static-"+model+".html"))
			require.NoError(t, err)
			require.NoError(t, report.HTML(f, r))
			require.NoError(t, f.Close())
		}
	}
}

// TestOracle: results of either arithmetic equal our own rounding of the source,
// and one code in a hundred off by one is seen, whatever the manifest says.
func TestOracle(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	for _, c := range []struct {
		scheme quant.Scheme
		format quant.Format
	}{{quant.FP8, layout.CompressedTensors}, {quant.FP8Block, layout.HFFP8}, {quant.W8A8, layout.CompressedTensors}, {quant.W8A8, layout.Ascend}, {quant.W4A8, layout.Ascend}, {quant.W4A8, layout.CompressedTensors}, {quant.W4A16, layout.CompressedTensors}} {
		for _, arith := range []numeric.Arith{numeric.Best, numeric.Compat} {
			dst := convertAs(t, src, c.scheme, c.format, quant.Options{Arith: arith})
			r, text := static(t, src, dst)
			require.Equal(t, verify.Pass, r.Verdict, text)
			assert.True(t, r.Oracle.Computed)
			assert.Zero(t, r.Oracle.MaxDiff, "%s %s: %s", c.scheme, c.format, r.Oracle.Worst)
			assert.Equal(t, r.Exact.Quantized, r.Oracle.Modules)
		}
	}

	dst := convertTo(t, src, quant.W8A8, layout.CompressedTensors)
	const module = "model.layers.1.self_attn.o_proj"
	_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
		w := s.Module(module)["weight"]
		for i := 0; i < len(w.Data); i += 100 {
			if int8(w.Data[i]) < 100 {
				w.Data[i]++
			}
		}
		return true, nil
	})
	require.NoError(t, err)
	r, text := static(t, src, dst)
	require.Equal(t, verify.Fail, r.Verdict, text)
	assert.Contains(t, text, module)
	assert.Equal(t, module, r.Oracle.Worst)
	assert.Greater(t, r.Oracle.MaxDiff, 1e-4)
}

func TestStaticOfAnotherSource(t *testing.T) {
	dst := convertTo(t, testkit.Shared(t, "reference/nano-glm4moe"), quant.W8A8, layout.CompressedTensors)
	r, text := static(t, testkit.Shared(t, "reference/tiny-glm4moe"), dst)
	require.Equal(t, verify.Fail, r.Verdict)
	assert.Contains(t, text, "FAIL")
	assert.NotEmpty(t, r.Cause)
}

func TestStaticOfNothing(t *testing.T) {
	_, err := verify.Static(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "absent"), verify.StaticOptions{})
	require.Error(t, err)
	assert.False(t, strings.Contains(err.Error(), "panic"))
}
