package verify_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// shrunk writes a published model cut down to widths that every kernel takes.
func shrunk(t *testing.T, preset string) string {
	t.Helper()
	return shrunkAs(t, preset, synth.Options{Layers: 4})
}

func shrunkAs(t *testing.T, preset string, o synth.Options) string {
	t.Helper()
	p, err := glm.LookupPreset(preset)
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(p.JSON, &c))
	for k, v := range map[string]any{"hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 256, "num_attention_heads": 4,
		"num_key_value_heads": 4, "q_lora_rank": 128, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "qk_head_dim": 96,
		"v_head_dim": 64, "index_head_dim": 64, "index_n_heads": 2, "index_topk": 16} {
		if _, ok := c[k]; ok {
			c[k] = v
		}
	}
	raw, err := json.Marshal(c)
	require.NoError(t, err)
	o.Config, o.Experts, o.Vocab, o.Seed = raw, 8, 1024, 5
	plan, err := synth.NewPlan(o)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "source")
	require.NoError(t, plan.Write(t.Context(), dir))
	return dir
}

// TestEveryLayoutOfEveryFamily: what the converter writes of each text family,
// W4A8-FP8 included, is our own rounding of the source and runs, MTP layer and
// all, as near to the source as its bits allow.
func TestEveryLayoutOfEveryFamily(t *testing.T) {
	for _, preset := range []string{"glm-4.6", "glm-5", "glm-4.7-flash"} {
		src := shrunk(t, preset)
		want := eval(t, src)
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				if layout.Supported(s, f) != nil || s == layout.BF16 || s.Calibrated() {
					continue
				}
				dst := convertTo(t, src, s, f)
				r, text := static(t, src, dst)
				require.Equal(t, verify.Pass, r.Verdict, "%s %s %s\n%s", preset, s, f, text)
				assert.True(t, r.Oracle.Computed)
				got := eval(t, dst)
				d, m := rms(want.Logits, got.Logits), rms(want.MTP[0], got.MTP[0])
				t.Logf("%s %s %s: logits %.3g, drafts %.3g", preset, s, f, d, m)
				limit := 0.25 // random weights: near ties of experts and keys
				if s == layout.W4A8 || s == layout.W4A16 || s == layout.W4A8FP8 {
					limit = 0.4
				}
				assert.Less(t, d, limit)
				assert.Less(t, m, limit)
				assert.Positive(t, d)
			}
		}
	}
}

// TestSourcesOfEveryForm: however a source is stored, every tensor of it is
// accounted for: stacked experts, types that a layout widens, draft copies.
func TestSourcesOfEveryForm(t *testing.T) {
	for _, preset := range []string{"glm-4.6", "glm-5"} {
		for _, o := range []synth.Options{{}, {DType: safetensors.F16}, {DType: safetensors.F32}, {Fused: true, V5Config: true}, {Fused: true, DType: safetensors.F16, ShardBytes: 1 << 20}} {
			if preset == "glm-5" && !o.Fused {
				continue // the forms are the same for every family
			}
			o.Layers = 4
			src := shrunkAs(t, preset, o)
			for _, c := range []struct {
				s quant.Scheme
				f quant.Format
				o quant.Options
			}{
				{layout.W8A8, layout.Ascend, quant.Options{}}, {layout.W4A8, layout.Ascend, quant.Options{}}, {layout.W8A8, layout.CompressedTensors, quant.Options{}},
				{layout.FP8Block, layout.HFFP8, quant.Options{}}, {layout.FP8, layout.CompressedTensors, quant.Options{MTP: layout.MTPDrop}},
			} {
				r, text := static(t, src, convertAs(t, src, c.s, c.f, c.o))
				require.Equal(t, verify.Pass, r.Verdict, "%s %+v %s %s\n%s", preset, o, c.s, c.f, text)
				assert.Zero(t, r.Exact.Lost+r.Exact.Differing)
			}
		}
	}
}

// TestLostExpert: a stacked source has one name for many experts; one that is
// missing in the result is missed.
func TestLostExpert(t *testing.T) {
	src := shrunkAs(t, "glm-4.6", synth.Options{Layers: 4, Fused: true})
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	const expert = "model.layers.3.mlp.experts.5.up_proj"
	_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
		delete(s, expert+".weight")
		delete(s, expert+".weight_scale")
		return true, nil
	})
	require.NoError(t, err)
	r, text := static(t, src, dst)
	require.Equal(t, verify.Fail, r.Verdict)
	assert.Contains(t, text, expert+": is part of model.layers.3.mlp.experts.gate_up_proj in the source and not in the result")
}
