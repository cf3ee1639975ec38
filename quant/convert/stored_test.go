package convert

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// fp8Sources are checkpoints in FP8 as they are published, by the name of the
// full-precision model.
var fp8Sources = map[string]string{"nano-glm5": "reference/sources/nano-glm5-fp8", "nano-glm4moe": "reference/sources/nano-glm4moe-fp8"}

func openShared(t *testing.T, dir string) *safetensors.Checkpoint {
	t.Helper()
	src, err := safetensors.OpenDir(testkit.Shared(t, dir))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, src.Close()) })
	return src
}

// convertTo plans and converts, and opens the result.
func convertTo(t *testing.T, src *safetensors.Checkpoint, s quant.Scheme, f quant.Format, o quant.Options, co Options) (*quant.Plan, *safetensors.Checkpoint) {
	t.Helper()
	p, err := quant.NewPlan(src, s, f, o)
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "result")
	_, err = Run(t.Context(), p, src, dst, co)
	require.NoError(t, err)
	out, err := safetensors.OpenDir(dst)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, out.Close()) })
	return p, out
}

func tensorSum(t *testing.T, c *safetensors.Checkpoint, name string) string {
	t.Helper()
	info, ok := c.Info(name)
	require.True(t, ok, name)
	raw := make([]byte, info.Size)
	require.NoError(t, c.ReadAt(info, 0, raw))
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// declaredOf is what a checkpoint says of its modules.
func declaredOf(t *testing.T, c *safetensors.Checkpoint) func(string) format.Weight {
	t.Helper()
	var d *declaration.Declaration
	for _, name := range append([]string{"config.json"}, declaration.Files...) {
		raw, err := os.ReadFile(filepath.Join(c.Dir(), name))
		if d != nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		d, err = declaration.File(name, raw)
		require.NoError(t, err)
	}
	require.NotNil(t, d)
	return func(module string) format.Weight { return d.Of(module).Weights() }
}

// TestBF16OfFP8: every weight is the one that the tools of the field decode,
// rounded once; nothing of the quantization is left.
func TestBF16OfFP8(t *testing.T) {
	for model, dir := range fp8Sources {
		t.Run(model, func(t *testing.T) {
			src := openShared(t, dir)
			_, out := convertTo(t, src, quant.BF16, "", quant.Options{}, Options{})
			raw, err := os.ReadFile(testkit.Shared(t, dir+".expected.json"))
			require.NoError(t, err)
			var want struct {
				Dequantized map[string]struct{ BFloat16 string }
			}
			require.NoError(t, json.Unmarshal(raw, &want))
			require.NotEmpty(t, want.Dequantized)
			for module, w := range want.Dequantized {
				assert.Equal(t, w.BFloat16, tensorSum(t, out, module+".weight"), module)
			}
			cfg, err := glm.LoadConfig(out.Dir())
			require.NoError(t, err)
			assert.Empty(t, cfg.Quantization)
			assert.Equal(t, "bfloat16", cfg.DType)
			m, err := glm.Describe(cfg, out.Tensors())
			require.NoError(t, err)
			assert.Empty(t, m.Missing)
			assert.Empty(t, m.Unexpected)
			for _, e := range m.ByRole(glm.RouterBias) {
				assert.Equal(t, safetensors.F32, e.Source.DType, e.Name)
			}
			_, err = quant.NewPlan(out, quant.BF16, "", quant.Options{})
			assert.ErrorIs(t, err, quant.ErrImpossible, "BF16 already")
		})
	}
}

// TestRoundedOnce: codes of a conversion from FP8 are those of the decoded
// float32 values; compat goes through BF16 as the reference tools do.
func TestRoundedOnce(t *testing.T) {
	for model, dir := range fp8Sources {
		for _, scheme := range []quant.Scheme{quant.FP8, quant.FP8Block, quant.W8A8, quant.W4A16, quant.W4A8} {
			for _, arith := range []numeric.Arith{numeric.Best, numeric.Compat} {
				t.Run(model+"/"+string(scheme), func(t *testing.T) {
					src := openShared(t, dir)
					p, out := convertTo(t, src, scheme, "", quant.Options{Arith: arith, GroupSize: 32, Requantize: true}, Options{Workers: 2})
					rounders := p.Rounders()
					seen := 0
					for i := range p.Items {
						it := &p.Items[i]
						if it.Action != quant.Quantize || it.Stored == nil {
							continue
						}
						seen++
						m, err := layout.Read(src, *it.Stored)
						require.NoError(t, err)
						w := make([]float32, m.Rows*m.Cols)
						m.Dequant(w, 0, m.Rows)
						if arith == numeric.Compat {
							for i := range w {
								w[i] = numeric.RoundBF16(w[i])
							}
						}
						module := it.Weight.Tensor.Module
						want, _, err := rounders[module].Round(w, m.Rows, nil)
						require.NoError(t, err)
						s, err := layout.Lookup(out, module, layout.Hints{Declared: declaredOf(t, out)})
						require.NoError(t, err)
						got, err := layout.Read(out, s)
						require.NoError(t, err)
						assert.Equal(t, want.Codes, got.Codes, module)
					}
					assert.Positive(t, seen)
				})
			}
		}
	}
}
