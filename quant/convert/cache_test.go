package convert_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// cached converts a reference model with int8 caches.
func cached(t *testing.T, name string, o quant.Options, workers int) (string, *quant.Plan, error) {
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/"+name))
	require.NoError(t, err)
	t.Cleanup(func() { _ = src.Close() })
	o.KV = quant.KVC8
	p, err := quant.NewPlan(src, quant.W8A8, layout.Ascend, o)
	if err != nil {
		return "", nil, err
	}
	dst := filepath.Join(t.TempDir(), "result")
	_, err = convert.Run(t.Context(), p, src, dst, convert.Options{Workers: workers})
	require.NoError(t, err)
	again, err := convert.Run(t.Context(), p, src, dst, convert.Options{Workers: workers})
	require.NoError(t, err)
	assert.True(t, again.AlreadyDone)
	return dst, p, nil
}

func floatsOf(t *testing.T, c *safetensors.Checkpoint, name string) []float32 {
	info, ok := c.Info(name)
	require.True(t, ok, name)
	raw, x := make([]byte, info.Size), make([]float32, info.Elements())
	require.NoError(t, c.ReadAt(info, 0, raw))
	require.NoError(t, layout.DecodeFloats(x, raw, info.DType))
	return x
}

// TestIndexerCache: layers behind the dense one have the same orthogonal matrix for
// queries and keys; the description names them; bytes depend on nothing else.
func TestIndexerCache(t *testing.T) {
	dst, _, err := cached(t, "nano-glm52", quant.Options{}, 1)
	require.NoError(t, err)
	other, _, err := cached(t, "nano-glm52", quant.Options{}, 3)
	require.NoError(t, err)
	for _, name := range []string{"quant_model_weights-00001-of-00001.safetensors", layout.DescriptionName} {
		a, err := os.ReadFile(filepath.Join(dst, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(other, name))
		require.NoError(t, err)
		assert.Equal(t, a, b, name)
	}
	c, err := safetensors.OpenDir(dst)
	require.NoError(t, err)
	defer c.Close()
	q := floatsOf(t, c, "model.layers.1.self_attn.indexer.q_rot")
	assert.Equal(t, q, floatsOf(t, c, "model.layers.1.self_attn.indexer.k_rot"))
	n := int(math.Sqrt(float64(len(q))))
	for i := range n {
		for j := range n {
			dot := 0.0
			for k := range n {
				dot += float64(q[i*n+k]) * float64(q[j*n+k])
			}
			want := 0.0
			if i == j {
				want = 1
			}
			require.InDelta(t, want, dot, 0.01)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dst, layout.DescriptionName))
	require.NoError(t, err)
	var desc map[string]any
	require.NoError(t, json.Unmarshal(raw, &desc))
	for key, want := range map[string]any{
		"indexer_quant_type":                           "INT8_DYNAMIC",
		"model.layers.0.self_attn.indexer.quant_type":  nil, // dense
		"model.layers.1.self_attn.indexer.quant_type":  "INT8_DYNAMIC",
		"model.layers.2.self_attn.indexer.quant_type":  nil, // shares that of layer 1
		"model.layers.3.self_attn.indexer.quant_type":  nil, // MTP
		"model.layers.0.self_attn.quant_type":          nil,
		"model.layers.1.self_attn.quant_type":          "INT8_DYNAMIC",
		"model.layers.2.self_attn.quant_type":          "INT8_DYNAMIC",
		"model.layers.1.self_attn.indexer.q_rot":       "FLOAT",
		"model.layers.1.self_attn.indexer.wq_b.weight": "W8A8_DYNAMIC",
		"model.layers.1.self_attn.indexer.kv_cache":    nil,
		"kv_cache_type":                                 nil,
		"model.layers.2.self_attn.indexer.q_rot":        nil,
		"model.layers.1.self_attn.kv_a_layernorm.quant": nil,
	} {
		assert.Equal(t, want, desc[key], key)
	}
	m, err := quant.ReadManifest(dst)
	require.NoError(t, err)
	assert.Equal(t, quant.KVC8, m.KV)
}

// TestGroupedCache: scales and zero points cover the channels' ranges, in every
// layer and in the MTP layer, whose engine reads the same description.
func TestGroupedCache(t *testing.T) {
	ranges := map[string][]quant.Range{}
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/nano-glm4moe"))
	require.NoError(t, err)
	defer src.Close()
	k, ok := src.Info("model.layers.0.self_attn.k_proj.weight")
	require.True(t, ok)
	for _, l := range []string{"0", "1", "2", "3"} {
		for _, m := range []string{"k_proj", "v_proj"} {
			list := make([]quant.Range, k.Shape[0])
			for i := range list {
				list[i] = quant.Range{Lo: -float32(i), Hi: 2}
			}
			ranges["model.layers."+l+".self_attn."+m] = list
		}
	}
	_, _, err = cached(t, "nano-glm4moe", quant.Options{}, 1)
	require.ErrorIs(t, err, layout.ErrImpossible, "without ranges")
	dst, _, err := cached(t, "nano-glm4moe", quant.Options{CacheRanges: ranges}, 2)
	require.NoError(t, err)
	c, err := safetensors.OpenDir(dst)
	require.NoError(t, err)
	defer c.Close()
	for _, module := range []string{"model.layers.0.self_attn.k_proj", "model.layers.3.self_attn.v_proj"} {
		scale, offset := floatsOf(t, c, module+".kv_cache_scale"), floatsOf(t, c, module+".kv_cache_offset")
		for i, s := range scale {
			assert.InDelta(t, float64(i+2)/255, s, 1e-6)
			assert.InDelta(t, -128, float64(-float32(i)/s+offset[i]), 0.5, "the least value is the least code")
		}
	}
}

// TestCachesThatNobodyReads are refused.
func TestCachesThatNobodyReads(t *testing.T) {
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/nano-glm4moe"))
	require.NoError(t, err)
	defer src.Close()
	_, err = quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{KV: quant.KVC8})
	require.ErrorIs(t, err, layout.ErrImpossible)
	_, err = quant.NewPlan(src, quant.W8A8, layout.Ascend, quant.Options{KV: "fp8"})
	require.ErrorIs(t, err, quant.ErrImpossible)
	_, err = quant.PlanPublished("glm-4.7-flash", quant.W8A8, layout.Ascend, quant.Options{KV: quant.KVC8})
	require.ErrorIs(t, err, layout.ErrImpossible)
}
