package verify_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// noise fills tensors of BF16 and F32 with numbers that have nothing to do with
// what they held.
func noise(tensors ...*mutate.Tensor) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, x := range tensors {
		for i := range x.Data {
			switch {
			case x.DType == safetensors.BF16 && i%2 == 1:
				x.Data[i] = byte(math.Float32bits(float32(rng.NormFloat64()*0.02)) >> 24)
			case x.DType == safetensors.F32 && i%4 == 3:
				x.Data[i] = byte(math.Float32bits(float32(rng.NormFloat64())) >> 24)
			default:
				x.Data[i] = byte(rng.Uint32())
			}
		}
	}
}

// TestDamagedFiles: a file of which nothing is right is named before its tensors,
// and the others tell that the result is one of this source.
func TestDamagedFiles(t *testing.T) {
	isCopied := func(name string) bool {
		for _, s := range []string{"embed_tokens", "lm_head", "layernorm", "eh_proj", ".mlp.gate."} {
			if strings.Contains(name, s) {
				return true
			}
		}
		return false
	}
	for name, tc := range map[string]struct {
		scheme quant.Scheme // "": a copy
		bad    func(name string) bool
	}{
		"the copied tensors of int8": {quant.W8A8, isCopied},
		"most of a copy":             {"", func(name string) bool { return !strings.Contains(name, "layers.0.") }},
		"the trunk's layers of a copy": {"", func(name string) bool {
			return strings.Contains(name, "layers.1.") || strings.Contains(name, "layers.2.")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			src := testkit.Shared(t, "reference/nano-glm4moe")
			dst := filepath.Join(t.TempDir(), "copy")
			if tc.scheme != "" {
				dst = convertTo(t, src, tc.scheme, layout.CompressedTensors)
				require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
			} else {
				copyFolder(t, src, dst)
			}
			_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
				for name, x := range s {
					if x.File = "model-00001-of-00002.safetensors"; tc.bad(name) {
						x.File = "model-00002-of-00002.safetensors"
						noise(x)
					}
				}
				return true, nil
			})
			require.NoError(t, err)
			r, err := verify.Compare(t.Context(), src, dst, verify.Options{SkipForward: true})
			require.NoError(t, err)
			assert.Equal(t, verify.Fail, r.Verdict)
			assert.Contains(t, r.Cause, "model-00002-of-00002.safetensors: ")
			for _, f := range r.Failed {
				assert.NotContains(t, f.Where, "model-00001")
			}
		})
	}
}

// TestSomeWeightsOfALayer: four damaged experts are four faults, and no verdict on
// the layer whose other weights are right bit for bit.
func TestSomeWeightsOfALayer(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := filepath.Join(t.TempDir(), "copy")
	copyFolder(t, src, dst)
	_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
		for name, x := range s {
			if strings.HasPrefix(name, "model.layers.2.mlp.experts.") && strings.HasSuffix(name, ".down_proj.weight") && strings.ContainsAny(name[27:28], "0123") {
				noise(x)
			}
		}
		return true, nil
	})
	require.NoError(t, err)
	r, err := verify.Static(t.Context(), src, dst, verify.StaticOptions{})
	require.NoError(t, err)
	assert.Equal(t, verify.Fail, r.Verdict)
	require.NotEmpty(t, r.Failed)
	for _, f := range r.Failed {
		assert.NotContains(t, f.Where, "*")
	}
}

func copyFolder(t *testing.T, src, dst string) {
	require.NoError(t, os.CopyFS(dst, os.DirFS(src)))
	require.NoError(t, filepath.Walk(dst, func(path string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			err = os.Chmod(path, 0o600)
		}
		return err
	}))
}

// TestLayersThatWereNotRotated: a layer of the unrotated conversion is named as a
// whole, whether norms show it or not, at the front too, where rotations are
// solved for.
func TestLayersThatWereNotRotated(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm5")
	plain := convertTo(t, src, quant.W8A8, layout.Ascend)
	for name, tc := range map[string]struct {
		scheme quant.Scheme
		layer  string
		keep   string // tensors that stay
	}{
		"the first, int8":          {quant.W8A8, "model.layers.0.", "none"},
		"one with its norms, BF16": {quant.BF16, "model.layers.1.", "none"},
		"one but its norms, int8":  {quant.W8A8, "model.layers.2.", "norm"},
		"the MTP layer's, in BF16": {quant.BF16, "model.layers.3.", "norm"},
	} {
		t.Run(name, func(t *testing.T) {
			dst, from := rotateAs(t, src, tc.scheme, quant.Options{}), plain
			if tc.scheme == quant.BF16 {
				from = src
			}
			require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
			r, err := verify.Static(t.Context(), src, dst, verify.StaticOptions{})
			require.NoError(t, err)
			require.Equal(t, verify.Pass, r.Verdict, "%v", r.Failed)
			c, err := safetensors.OpenDir(from)
			require.NoError(t, err)
			defer c.Close()
			_, err = mutate.Edit(dst, func(s mutate.Set) (bool, error) {
				for name, x := range s {
					info, ok := c.Info(name)
					if !ok || !strings.HasPrefix(name, tc.layer) || strings.Contains(name, tc.keep) || info.Size != int64(len(x.Data)) {
						continue
					}
					if err := c.ReadAt(info, 0, x.Data); err != nil {
						return false, err
					}
				}
				return true, nil
			})
			require.NoError(t, err)
			r, err = verify.Static(t.Context(), src, dst, verify.StaticOptions{})
			require.NoError(t, err)
			assert.Equal(t, verify.Fail, r.Verdict)
			named := false
			for _, f := range r.Failed {
				named = named || f.Where == tc.layer+"*" && strings.Contains(f.Detail, "not rotated")
			}
			assert.True(t, named, "%v", r.Failed)
		})
	}
}
