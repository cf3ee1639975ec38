package verify_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/glm"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
)

// shrunk writes a published model cut down to widths that every kernel takes.
func shrunk(t *testing.T, preset string) string {
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
	plan, err := synth.NewPlan(synth.Options{Config: raw, Layers: 4, Experts: 8, Vocab: 1024, Seed: 5})
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
				if layout.Supported(s, f) != nil {
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
