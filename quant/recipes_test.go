package quant_test

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
)

// step is a processor of a recipe of msmodelslim: modules that a pattern of include
// and none of exclude matches get a scheme, unless one has it already.
type step struct {
	scheme           string
	include, exclude []string
}

// matches is fnmatch, whose * crosses dots; names hold no slash.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

func (s *step) takes(name string) bool { return matches(s.include, name) && !matches(s.exclude, name) }

var (
	attention = []string{"*kv_b_proj", "*wk", "*weights_proj"}
	noMTP     = "model.layers.78.*"
	w8a8      = []step{{"W8A8", []string{"*self_attn*"}, attention}, {"W8A8_DYNAMIC", []string{"*mlp*"}, []string{"*gate"}}}
	w4a8      = []step{
		{"W8A8_DYNAMIC", []string{"*self_attn*"}, append([]string{noMTP}, attention...)},
		{"W8A8_DYNAMIC", []string{"*mlp*"}, []string{noMTP, "*gate", "*mlp.experts.*"}},
		{"W4A8_DYNAMIC", []string{"*mlp.experts.*"}, []string{noMTP}},
	}
	dynamic = []step{{"W8A8_DYNAMIC", []string{"*self_attn*"}, attention}, {"W8A8_DYNAMIC", []string{"*mlp*"}, []string{"*gate"}}}
	indexer = &step{"INT8_DYNAMIC", []string{"*indexer*"}, []string{"model.layers.0.*", "model.layers.1.*", "model.layers.2.*", "model.layers.70.*", "model.layers.74.*", "model.layers.78.*"}}
	latents = &step{"INT8_DYNAMIC", []string{"*self_attn"}, []string{"*indexer*", "model.layers.0.*", "model.layers.1.*", "model.layers.2.*",
		"model.layers.74.*", "model.layers.75.*", "model.layers.76.*", "model.layers.77.*", "model.layers.78.*"}}
)

// published are msmodelslim's files lab_practice/glm_5/glm_5_w8a8.yaml,
// glm_5_w4a8.yaml, glm_5_1_w4a8.yaml and lab_practice/glm_5_2/glm_5_2_w8a8c8.yaml,
// glm_5_3_w8a8c8.yaml (115397a0): the processors that give schemes.
var published = []struct {
	recipe, preset   string
	steps            []step
	indexer, latents *step
	kind             string // model_quant_type
}{
	{"glm-5-w8a8", "glm-5", w8a8, nil, nil, "W8A8"},
	{"glm-5-w4a8", "glm-5", w4a8, nil, nil, "W8A8_DYNAMIC"},
	{"glm-5.1-w4a8", "glm-5.1", w4a8, nil, nil, "W8A8_DYNAMIC"},
	{"glm-5.2-w8a8c8", "glm-5.2", w8a8, indexer, latents, "W8A8"},
	{"glm-5.3-w8a8c8", "glm-5.3", dynamic, indexer, latents, "W8A8_DYNAMIC"},
}

// everyRange pretends that all inputs were seen.
func everyRange(cfg *glm.Config) map[string]quant.Range {
	out := map[string]quant.Range{}
	for _, t := range cfg.Table() {
		if t.Param == "weight" && t.Role.IsLinear() && !t.Role.IsExpert() {
			out[t.Module] = quant.Range{Lo: -1, Hi: 1}
		}
	}
	return out
}

// planRecipe plans a published release by a recipe.
func planRecipe(t *testing.T, preset, name string) (*quant.Plan, *glm.Config) {
	cfg, err := glm.Preset(preset)
	require.NoError(t, err)
	r, err := quant.LookupRecipe(name)
	require.NoError(t, err)
	var o quant.Options
	require.NoError(t, r.Apply(cfg, &o))
	if r.Static {
		o.Ranges = everyRange(cfg)
	}
	p, err := quant.PlanPublished(preset, r.Scheme, layout.Ascend, o)
	require.NoError(t, err)
	return p, cfg
}

// TestRecipesAsPublished: every weight has the scheme that msmodelslim's file gives
// it, every layer the caches, and the description says so.
func TestRecipesAsPublished(t *testing.T) {
	for _, tc := range published {
		t.Run(tc.recipe, func(t *testing.T) {
			p, cfg := planRecipe(t, tc.preset, tc.recipe)
			var desc map[string]any
			require.NoError(t, json.Unmarshal(p.Configs[layout.DescriptionName].Bytes(), &desc))
			for _, row := range cfg.Table() {
				if row.Param != "weight" {
					continue
				}
				want := "FLOAT"
				if row.Role.IsLinear() || row.Role == glm.Router || row.Role == glm.IndexerProj { // nn.Linear of decoder layers
					for _, s := range tc.steps {
						if row.Layer >= 0 && s.takes(row.Module) {
							want = s.scheme
						}
					}
				}
				if row.Role == glm.MTPProj || row.Role == glm.MTPHead {
					want = "FLOAT" // beside self_attn and mlp
				}
				if desc[row.Name] != want { // 60,000 rows
					t.Fatalf("%s is %v, want %s", row.Name, desc[row.Name], want)
				}
			}
			assert.Equal(t, tc.kind, desc["model_quant_type"])
			own := map[int]bool{}
			for _, row := range cfg.Table() {
				own[row.Layer] = own[row.Layer] || row.Role == glm.IndexerK
			}
			for l := range cfg.Layers + cfg.MTPLayers {
				attn := cfg.LayerPrefix(l) + "self_attn"
				has := tc.indexer != nil && own[l] && tc.indexer.takes(attn+".indexer")
				assert.Equal(t, has, desc[attn+".indexer.quant_type"] == "INT8_DYNAMIC", attn)
				assert.Equal(t, has, desc[attn+".indexer.q_rot"] == "FLOAT", attn)
				assert.Equal(t, has, desc[attn+".indexer.k_rot"] == "FLOAT", attn)
				// fnmatch of "model.layers.N.*" holds for the module itself.
				assert.Equal(t, tc.latents != nil && tc.latents.takes(attn), desc[attn+".quant_type"] == "INT8_DYNAMIC", attn)
			}
			assert.Equal(t, tc.indexer != nil, desc["indexer_quant_type"] == "INT8_DYNAMIC")
			assert.True(t, slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, tc.recipe) }))
		})
	}
}

// TestRecipesElsewhere: another depth has its own first and last layers, another
// family has no recipe.
func TestRecipesElsewhere(t *testing.T) {
	cfg, err := glm.Preset("glm-5.2")
	require.NoError(t, err)
	cfg.Layers = 30
	cfg.Dense = cfg.Dense[:30]
	r, err := quant.LookupRecipe("glm-5.2-w8a8c8")
	require.NoError(t, err)
	var o quant.Options
	require.NoError(t, r.Apply(cfg, &o))
	for _, list := range [][]int{o.Caches.Indexer, o.Caches.Latents} {
		require.Len(t, list, 22)
		assert.Equal(t, []int{3, 24}, []int{list[0], list[21]})
	}
	require.Len(t, o.Notes, 1)
	assert.Contains(t, o.Notes[0], "of the 30 here the first 3, the last 5 and the MTP layer")
	other, err := glm.Preset("glm-4.5-air")
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(other, &o), layout.ErrImpossible)
	_, err = quant.LookupRecipe("glm-6")
	require.ErrorIs(t, err, layout.ErrImpossible)
}
