package quant

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// TestCopiesOfEveryMTPLayer: the files of a plan are what VerifyOutput calls for,
// also with several MTP layers of which some hold their copies.
func TestCopiesOfEveryMTPLayer(t *testing.T) {
	info, err := glm.LookupPreset("glm-4.7-flash")
	require.NoError(t, err)
	for _, tc := range []struct {
		name   string
		layers int
		holds  []string // copies that the source has
	}{
		{"one layer", 1, nil},
		{"two layers", 2, nil},
		{"three, the first holds both", 3, []string{"model.layers.3.embed_tokens.weight", "model.layers.3.shared_head.head.weight"}},
		{"two, the second holds its head", 2, []string{"model.layers.4.shared_head.head.weight"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var fields map[string]any
			require.NoError(t, json.Unmarshal(info.JSON, &fields))
			fields["num_nextn_predict_layers"], fields["num_hidden_layers"], fields["n_routed_experts"], fields["num_experts_per_tok"] = tc.layers, 3, 8, 2
			raw, err := json.Marshal(fields)
			require.NoError(t, err)
			cfg, err := glm.ParseConfig(raw)
			require.NoError(t, err)
			tensors := slices.DeleteFunc(Published(cfg, true), func(in safetensors.Info) bool {
				row := slices.IndexFunc(cfg.Table(), func(r glm.Tensor) bool { return r.Name == in.Name })
				return cfg.Table()[row].Optional && !slices.Contains(tc.holds, in.Name)
			})
			p, err := newPlan(cfg, &layout.View{Tensors: tensors}, W8A8, layout.Ascend, Options{})
			require.NoError(t, err)
			want, err := p.Expected()
			require.NoError(t, err)
			var have []string
			for _, f := range p.Files {
				for _, o := range f.Plan.Tensors() {
					have = append(have, o.Name)
				}
			}
			assert.Len(t, have, len(want))
			for name := range want {
				assert.Contains(t, have, name)
			}
		})
	}
}
