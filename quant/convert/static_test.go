package convert_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// TestStaticResult: attention with known ranges is written as static W8A8, the
// rest is dynamic; what is stored beside the codes is what they give.
func TestStaticResult(t *testing.T) {
	ranges := map[string]quant.Range{}
	for _, l := range []string{"0", "1", "2"} {
		for _, m := range []string{"q_a_proj", "kv_a_proj_with_mqa", "q_b_proj", "o_proj", "indexer.wq_b"} {
			ranges["model.layers."+l+".self_attn."+m] = quant.Range{Lo: -5, Hi: 5.5}
		}
	}
	ranges["model.layers.1.self_attn.kv_a_proj_with_mqa"] = quant.Range{Lo: -7, Hi: 5}
	delete(ranges, "model.layers.2.self_attn.q_a_proj") // then kv_a_proj is dynamic as well
	dst, err := rotated(t, "nano-glm5", quant.W8A8, quant.Options{Ranges: ranges}, 3)
	require.NoError(t, err)
	c, err := safetensors.OpenDir(dst)
	require.NoError(t, err)
	defer c.Close()
	static := 0
	var fused []*layout.StaticRows
	for _, info := range c.Tensors() {
		module, ok := strings.CutSuffix(info.Name, ".deq_scale")
		if !ok {
			continue
		}
		static++
		s, err := layout.Lookup(c, module, layout.Hints{})
		require.NoError(t, err)
		m, err := layout.Read(c, s)
		require.NoError(t, err)
		rows, err := layout.ReadStatic(c, s, 0, s.Rows)
		require.NoError(t, err)
		for r := range s.Rows {
			sum := 0
			for _, code := range m.Codes[r*s.Cols:][:s.Cols] {
				sum += int(int8(code))
			}
			require.Equal(t, int32(-rows.Offset*sum), rows.Bias[r])
			require.Equal(t, m.Scales[r]*rows.Scale, rows.Deq[r])
		}
		if module == "model.layers.1.self_attn.q_a_proj" || module == "model.layers.1.self_attn.kv_a_proj_with_mqa" {
			fused = append(fused, rows)
		}
	}
	assert.Equal(t, 13, static)
	require.Len(t, fused, 2)
	assert.Equal(t, fused[0].Scale, fused[1].Scale)
	assert.Equal(t, fused[0].Offset, fused[1].Offset)
	_, ok := c.Info("model.layers.2.self_attn.kv_a_proj_with_mqa.weight_scale")
	assert.True(t, ok)
}

// TestStaticGrouped: q, k, v and o of grouped-query attention have static inputs,
// one for q, k and v; quant_bias holds the biases, folded as the rows are.
func TestStaticGrouped(t *testing.T) {
	for name, prefix := range map[string]string{"nano-glm4moe": "model.layers.", "nano-glm45v": "model.language_model.layers."} {
		t.Run(name, func(t *testing.T) {
			src, err := safetensors.OpenDir(testkit.Shared(t, "reference/"+name))
			require.NoError(t, err)
			defer src.Close()
			ranges := map[string]quant.Range{}
			for i, m := range []string{"q_proj", "k_proj", "v_proj", "o_proj"} {
				ranges[prefix+"1.self_attn."+m] = quant.Range{Lo: -4 - float32(i), Hi: 3}
			}
			ranges[prefix+"0.self_attn.q_proj"] = quant.Range{Lo: -1, Hi: 1} // alone: dynamic
			p, err := quant.NewPlan(src, quant.W8A8, layout.Ascend, quant.Options{Ranges: ranges, Fold: quant.FoldGamma})
			require.NoError(t, err)
			dst := filepath.Join(t.TempDir(), "result")
			_, err = convert.Run(t.Context(), p, src, dst, convert.Options{Workers: 3})
			require.NoError(t, err)
			c, err := safetensors.OpenDir(dst)
			require.NoError(t, err)
			defer c.Close()
			_, ok := c.Info(prefix + "0.self_attn.q_proj.weight_scale")
			assert.True(t, ok)
			var first *layout.StaticRows
			for _, m := range []string{"q_proj", "k_proj", "v_proj", "o_proj"} {
				module := prefix + "1.self_attn." + m
				s, err := layout.Lookup(c, module, layout.Hints{})
				require.NoError(t, err)
				w, err := layout.Read(c, s)
				require.NoError(t, err)
				rows, err := layout.ReadStatic(c, s, 0, s.Rows)
				require.NoError(t, err)
				if first == nil {
					first = rows
				}
				if m != "o_proj" {
					assert.Equal(t, first.Scale, rows.Scale)
					assert.Equal(t, first.Offset, rows.Offset)
				}
				bias := make([]float32, s.Rows)
				if _, has := c.Info(module + ".bias"); has {
					bias = floatsOf(t, c, module+".bias")
				} else {
					require.Equal(t, "o_proj", m)
				}
				for r := range s.Rows {
					sum := 0
					for _, code := range w.Codes[r*s.Cols:][:s.Cols] {
						sum += int(int8(code))
					}
					assert.InDelta(t, float64(bias[r])/float64(rows.Deq[r])-float64(rows.Offset*sum), float64(rows.Bias[r]), 0.51, "%s row %d", module, r)
				}
			}
		})
	}
}

// TestStaticFingerprint: another range is another plan.
func TestStaticFingerprint(t *testing.T) {
	src, err := safetensors.OpenDir(testkit.Shared(t, filepath.Join("reference", "nano-glm5")))
	require.NoError(t, err)
	defer src.Close()
	print := func(hi float32) string {
		p, err := quant.NewPlan(src, quant.W8A8, layout.Ascend, quant.Options{Ranges: map[string]quant.Range{"model.layers.0.self_attn.o_proj": {Lo: -1, Hi: hi}}})
		require.NoError(t, err)
		return p.Fingerprint
	}
	assert.Equal(t, print(1), print(1))
	assert.NotEqual(t, print(1), print(2))
}
