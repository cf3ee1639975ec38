package quant

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
)

// Recipe is how a published Ascend checkpoint was quantized, module by module
// (docs/facts/ascend.md 3.1, 5.2). All of them are rotated.
type Recipe struct {
	Name   string
	Of     string // the release that it is published for
	Scheme Scheme
	Static bool           // attention has static inputs: Options.Ranges are needed
	MTP    layout.MTPMode // MTPQuantize, or MTPFloat
	KV     KVMode

	indexer, latents []int // layers whose caches stay as they are, of publishedDepth layers; nil: of all
}

// publishedDepth is the number of layers of all GLM-5 releases, without the MTP
// layer.
const publishedDepth = 78

// Recipes are those that msmodelslim ships for models with sparse attention.
var Recipes = []Recipe{
	{Name: "glm-5-w8a8", Of: "GLM-5", Scheme: W8A8, Static: true, MTP: layout.MTPQuantize},
	{Name: "glm-5-w4a8", Of: "GLM-5", Scheme: W4A8, MTP: layout.MTPFloat},
	{Name: "glm-5.1-w4a8", Of: "GLM-5.1", Scheme: W4A8, MTP: layout.MTPFloat},
	{Name: "glm-5.2-w8a8c8", Of: "GLM-5.2", Scheme: W8A8, Static: true, MTP: layout.MTPQuantize, KV: KVC8,
		indexer: []int{0, 1, 2, 70, 74, 78}, latents: []int{0, 1, 2, 74, 75, 76, 77, 78}},
	{Name: "glm-5.3-w8a8c8", Of: "GLM-5.3", Scheme: W8A8, MTP: layout.MTPQuantize, KV: KVC8,
		indexer: []int{0, 1, 2, 70, 74, 78}, latents: []int{0, 1, 2, 74, 75, 76, 77, 78}},
}

// olderCaches are the layers that GLM-5.1's recipes with int8 caches leave out.
var olderCaches = []int{0, 1, 2, 3, 4, 74, 75, 76, 77, 78}

// LookupRecipe returns the recipe of a name. The error is a *layout.ImpossibleError.
func LookupRecipe(name string) (*Recipe, error) {
	names := make([]string, len(Recipes))
	for i := range Recipes {
		if names[i] = Recipes[i].Name; names[i] == name {
			return &Recipes[i], nil
		}
	}
	return nil, &layout.ImpossibleError{What: fmt.Sprintf("unknown recipe %q", name), Rule: "the recipes are " + strings.Join(names, ", "), Nearest: "glm-5.1-w4a8 needs no statistics"}
}

// Apply sets the options that the recipe decides. The error, a
// *layout.ImpossibleError, says that the model is of another kind.
func (r *Recipe) Apply(cfg *glm.Config, o *Options) error {
	if !cfg.SparseAttention() {
		return &layout.ImpossibleError{What: "recipe " + r.Name + " for " + string(cfg.Family), Rule: "it names parts of " + string(glm.GlmMoeDsa),
			Nearest: "--scheme w8a8 --format ascend"}
	}
	o.MTP, o.KV = r.MTP, r.KV
	if r.KV == KVC8 {
		o.Caches = layersLeft(cfg, r.indexer, r.latents)
	}
	o.Notes = append(o.Notes, r.note(cfg))
	return nil
}

// note says what the recipe is and how its lists of layers are taken.
func (r *Recipe) note(cfg *glm.Config) string {
	note := "recipe " + r.Name + ": as msmodelslim quantizes " + r.Of
	if cfg.Layers == publishedDepth || r.KV == KVSame {
		return note
	}
	return note + fmt.Sprintf("; its layers are those of %d, of the %d here the first %d, the last %d and the MTP layer keep their caches", publishedDepth, cfg.Layers, firstDense(cfg), lastKept)
}

// lastKept is how many of the last layers keep their caches as they are in models
// of another depth than the published one.
const lastKept = 5

// layersLeft are the layers that published lists leave for int8 caches: in models
// of another depth all but the first dense ones, the last five and the MTP layer.
// A nil list means all layers.
func layersLeft(cfg *glm.Config, indexer, latents []int) *layout.Caches {
	left := func(kept []int) (out []int) {
		if kept == nil {
			return nil
		}
		for l := range cfg.Layers {
			keeps := slices.Contains(kept, l)
			if cfg.Layers != publishedDepth {
				keeps = l < firstDense(cfg) || l >= cfg.Layers-lastKept
			}
			if !keeps {
				out = append(out, l)
			}
		}
		return out
	}
	return &layout.Caches{Indexer: left(indexer), Latents: left(latents)}
}

// firstDense is the number of dense layers before the first with experts.
func firstDense(cfg *glm.Config) int {
	for i, dense := range cfg.Dense {
		if !dense {
			return i
		}
	}
	return cfg.Layers
}

// defaultCaches are the layers whose caches are in int8 where nobody names them:
// grouped-query attention in all layers, sparse attention as published for the
// release, in models too shallow for that all layers behind the dense ones but
// the MTP layer.
func defaultCaches(cfg *glm.Config) *layout.Caches {
	c := &layout.Caches{}
	if !cfg.LatentAttention() {
		for l := range cfg.Layers + cfg.MTPLayers {
			c.Static = append(c.Static, l)
		}
		return c
	}
	latents := cfg.SharedSelection() // since GLM-5.2
	if latents {
		r, _ := LookupRecipe("glm-5.2-w8a8c8")
		c = layersLeft(cfg, r.indexer, r.latents)
	} else {
		c = layersLeft(cfg, olderCaches, nil)
	}
	if !c.Empty() {
		return c
	}
	for l := min(firstDense(cfg), cfg.Layers-1); l < cfg.Layers; l++ {
		c.Indexer = append(c.Indexer, l)
		if latents {
			c.Latents = append(c.Latents, l)
		}
	}
	return c
}
