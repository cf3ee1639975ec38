package verify_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// wide writes a model with a preset's widths of MLPs and experts, and a smaller
// hidden size.
func wide(t *testing.T, preset string, edit map[string]any) string {
	t.Helper()
	p, err := glm.LookupPreset(preset)
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(p.JSON, &c))
	c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["vocab_size"] = 256, 4, 2, 256
	for k, v := range edit {
		c[k] = v
	}
	raw, err := json.Marshal(c)
	require.NoError(t, err)
	plan, err := synth.NewPlan(synth.Options{Config: raw, Layers: 2, Experts: 4, Vocab: 256, Seed: 3})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "source")
	require.NoError(t, plan.Write(t.Context(), dir))
	return dir
}

// TestAirWidths: GLM-4.5-Air's 10944-wide dense layer and 1408-wide experts
// convert in every scheme, whole, and are what our own rounding makes of them.
// What a layout or kernel cannot take stays as it is. The one scheme that no
// kernel can serve at 1408 is refused, and converts at a width that is a
// multiple of 256.
func TestAirWidths(t *testing.T) {
	src := wide(t, "glm-4.5-air", nil)
	wider := wide(t, "glm-4.5-air", map[string]any{"moe_intermediate_size": 1536})
	for _, s := range layout.Schemes {
		for _, f := range layout.Formats {
			if layout.Supported(s, f) != nil || s == layout.BF16 || s.Calibrated() {
				continue
			}
			from := src
			if s == layout.W4A8FP8 {
				c, err := safetensors.OpenDir(src)
				require.NoError(t, err)
				_, err = quant.NewPlan(c, s, f, quant.Options{})
				var impossible *layout.ImpossibleError
				require.True(t, errors.As(err, &impossible), "%v", err)
				assert.Contains(t, impossible.Rule, "1408")
				require.NoError(t, c.Close())
				from = wider
			}
			r, text := static(t, from, convertTo(t, from, s, f))
			require.Equal(t, verify.Pass, r.Verdict, "%s %s\n%s", s, f, text)
			assert.True(t, r.Oracle.Computed)
			assert.LessOrEqual(t, r.Oracle.MaxDiff, 1e-5)
			assert.GreaterOrEqual(t, r.Oracle.Modules, 3*4, "%s %s: all experts are quantised", s, f)
		}
	}
}
