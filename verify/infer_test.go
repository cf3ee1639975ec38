package verify_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/verify"
)

// TestOracleOfOtherTools: checkpoints that llm-compressor wrote have no manifest;
// their arithmetic shows, and every weight is held to it.
func TestOracleOfOtherTools(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	for _, scheme := range []string{"FP8_DYNAMIC", "W4A8"} {
		dst := filepath.Join(t.TempDir(), "foreign")
		require.NoError(t, os.CopyFS(dst, os.DirFS(testkit.Shared(t, "reference/nano-glm4moe-quantized/"+scheme))))
		r, text := compare(t, src, dst, verify.Options{})
		require.Equal(t, verify.Pass, r.Verdict, text)
		assert.True(t, r.Oracle.Inferred)
		assert.True(t, r.Oracle.Computed)
		assert.Equal(t, r.Exact.Quantized, r.Oracle.Modules)
		assert.LessOrEqual(t, r.Oracle.MaxDiff, 1e-5)
		assert.Contains(t, text, "as llm-compressor rounds, inferred from 24 weights")

		// One weight that was rounded in another way.
		const module = "model.layers.1.mlp.experts.5.up_proj"
		_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
			w := s.Module(module)["weight"]
			for i := 0; i < len(w.Data); i += 50 {
				w.Data[i] ^= 1
			}
			return true, nil
		})
		require.NoError(t, err)
		r, text = static(t, src, dst)
		require.Equal(t, verify.Fail, r.Verdict, text)
		assert.Equal(t, module, r.Oracle.Worst)
		assert.Contains(t, text, module)
	}
}

// TestOracleIsInferred: of our own results without their manifests, the
// arithmetic shows too.
func TestOracleIsInferred(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	for _, c := range []struct {
		scheme quant.Scheme
		format quant.Format
	}{{quant.FP8, layout.CompressedTensors}, {quant.FP8Block, layout.HFFP8}, {quant.W8A8, layout.Ascend}, {quant.W4A8, layout.Ascend}, {quant.W4A16, layout.CompressedTensors}} {
		for _, arith := range []numeric.Arith{numeric.Best, numeric.Compat} {
			dst := convertAs(t, src, c.scheme, c.format, quant.Options{Arith: arith})
			require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
			r, text := static(t, src, dst)
			require.Equal(t, verify.Pass, r.Verdict, "%s %s %v\n%s", c.scheme, c.format, arith, text)
			assert.True(t, r.Oracle.Inferred, "%s %s %v\n%s", c.scheme, c.format, arith, text)
			assert.Zero(t, r.Oracle.MaxDiff)
		}
	}
}

// TestNoOracle: codes that were learnt from data agree with no rounding. The
// report says so, and their errors are held against what the encoding can cost.
func TestNoOracle(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
		for name, x := range s {
			if _, ok := s[name+"_scale"]; !ok {
				continue
			}
			for i := 0; i < len(x.Data); i += 20 {
				if v := int8(x.Data[i]); v > -100 && v < 100 {
					x.Data[i]++
				}
			}
		}
		return true, nil
	})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
	r, text := static(t, src, dst)
	require.Equal(t, verify.Pass, r.Verdict, text)
	assert.False(t, r.Oracle.Inferred)
	assert.False(t, r.Oracle.Computed)
	assert.Contains(t, text, "int8 channel: no rounding known here gives its codes")
	assert.Contains(t, text, "learnt from data")
}

// TestOracleOfQuarksForm: MX codes in Quark's files, and in the ascend layout,
// which look the same, are held to the exponents and values of the rule that
// wrote them; one row in a hundred of another row is seen.
func TestOracleOfQuarksForm(t *testing.T) {
	for name, c := range map[string]struct {
		src    string
		make   func(t *testing.T, src string) string
		module string
	}{
		"Quark": {"nano-glm4moe", func(t *testing.T, _ string) string { return testkit.Shared(t, "reference/foreign/quark-mxfp4") }, "model.layers.1.mlp.experts.5.down_proj"},
		"ascend": {"nano-glm52", func(t *testing.T, src string) string {
			return convertAs(t, src, quant.MXFP4, layout.Ascend, quant.Options{})
		}, "model.layers.2.mlp.experts.0.down_proj"},
	} {
		t.Run(name, func(t *testing.T) {
			src := testkit.Shared(t, "reference/"+c.src)
			dst := filepath.Join(t.TempDir(), "result")
			require.NoError(t, os.CopyFS(dst, os.DirFS(c.make(t, src))))
			require.NoError(t, os.RemoveAll(filepath.Join(dst, quant.ManifestName)))
			r, text := static(t, src, dst)
			require.True(t, r.Oracle.Inferred, text)
			require.LessOrEqual(t, r.Oracle.MaxDiff, 1e-5, text)

			_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
				w := s.Module(c.module)["weight"]
				row := len(w.Data) / int(w.Shape[0])
				copy(w.Data[:row], w.Data[row:2*row])
				return true, nil
			})
			require.NoError(t, err)
			r, text = static(t, src, dst)
			require.Equal(t, verify.Fail, r.Verdict, text)
			assert.Equal(t, c.module, r.Oracle.Worst, text)
		})
	}
}
