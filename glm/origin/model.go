package origin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// otherModel finds a config.json of another family than the tensors: a vision
// model's with a text model's tensors, or the reverse. It reports whether it
// found one; what names and shapes say then follows from it.
func (f *finder) otherModel() bool {
	c := f.Config
	tower, nested, flat := 0, 0, 0
	for _, t := range f.Tensors {
		switch {
		case strings.Contains(t.Name, "visual."):
			tower++
		case strings.Contains(t.Name, "language_model."):
			nested++
		case strings.HasPrefix(t.Name, "model.layers."):
			flat++
		}
	}
	const way = "take the config.json that belongs to the weights"
	switch {
	case c.Family == glm.Glm4vMoe && tower == 0 && nested == 0 && flat > 0:
		f.add(OtherModel, true, "config.json: model_type", way,
			"it says %s, and the tensors are a text model's: none of a vision tower, and %s named model.layers. as in glm4_moe", c.Family, plural(flat, "tensor"))
	case c.Family != glm.Glm4vMoe && tower > 0 && nested > 0 && flat == 0:
		f.add(OtherModel, true, "config.json: model_type", way,
			"it says %s, a text model, and the tensors are a vision model's: %s of a vision tower, and %d of its language_model", c.Family, plural(tower, "tensor"), nested)
	default:
		return false
	}
	return true
}

// size is a number in config.json that shapes of tensors show as well.
type size struct {
	key   string
	want  int
	ends  []string // of names
	dim   int
	trunk bool // of the dense or routed layers alone
}

// sizes finds a config.json of a model of other sizes: a number that every
// tensor that shows it belies, in one way.
func (f *finder) sizes() bool {
	c := f.Config
	list := []size{{"hidden_size", c.HiddenSize, []string{".input_layernorm.weight", ".post_attention_layernorm.weight"}, 0, false}}
	if !c.LatentAttention() {
		list = append(list, size{"num_attention_heads × head_dim", c.Heads * c.HeadDim, []string{".self_attn.q_proj.bias"}, 0, false},
			size{"num_key_value_heads × head_dim", c.KVHeads * c.HeadDim, []string{".self_attn.k_proj.bias", ".self_attn.v_proj.bias"}, 0, false})
	} else {
		list = append(list, size{"q_lora_rank", c.QLoraRank, []string{".self_attn.q_a_layernorm.weight"}, 0, false},
			size{"kv_lora_rank", c.KVLoraRank, []string{".self_attn.kv_a_layernorm.weight"}, 0, false},
			size{"num_attention_heads × v_head_dim", c.Heads * c.VHeadDim, []string{".self_attn.o_proj.weight"}, 1, false},
			size{"index_head_dim", c.IndexHeadDim, []string{".self_attn.indexer.k_norm.weight"}, 0, false},
			size{"index_n_heads", c.IndexHeads, []string{".self_attn.indexer.weights_proj.weight"}, 0, false})
	}
	list = append(list, size{"intermediate_size", c.IntermediateSize, []string{".mlp.gate_proj.weight", ".mlp.up_proj.weight"}, 0, false})
	if v := c.Vision; v != nil {
		list = append(list, size{"vision_config.hidden_size", v.HiddenSize, []string{"visual.post_conv_layernorm.weight"}, 0, false},
			size{"vision_config.patch_size", v.PatchSize, []string{"visual.patch_embed.proj.weight"}, 4, false},
			size{"vision_config.temporal_patch_size", v.TemporalPatch, []string{"visual.patch_embed.proj.weight"}, 2, false},
			size{"vision_config.intermediate_size", v.IntermediateSize, []string{"visual.merger.gate_proj.weight", "visual.merger.up_proj.weight"}, 0, false})
	}
	list = append(list, size{"moe_intermediate_size", c.MoEIntermediateSize, []string{".mlp.experts.0.gate_proj.weight", ".mlp.experts.0.up_proj.weight"}, 0, true})
	said := false
	for _, s := range list {
		if s.want == 0 {
			continue
		}
		if n, where := f.shown(s); n != 0 && n != int64(s.want) {
			f.add(ConfigSize, true, "config.json: "+s.key, "take the config.json that belongs to the weights",
				"it says %d, and the tensors say %d (%s): config.json is of a model of another size", s.want, n, where)
			said = true
			break // the rest follows from it, or is said next time
		}
	}
	return said
}

// shown returns the number that all tensors of full precision with one of the
// ends show, 0 if they do not agree or there are none.
func (f *finder) shown(s size) (n int64, where string) {
	for _, t := range f.Tensors {
		if !isFloat(t.DType) || len(t.Shape) <= s.dim || strings.Contains(t.Name, "visual.") != strings.HasPrefix(s.key, "vision_config.") ||
			!slices.ContainsFunc(s.ends, func(end string) bool { return strings.HasSuffix(t.Name, end) }) {
			continue
		}
		switch v := t.Shape[s.dim]; {
		case n == 0:
			n, where = v, fmt.Sprintf("%s is %v", t.Name, t.Shape)
		case n != v:
			return 0, ""
		}
	}
	return n, where
}

func isFloat(d safetensors.DType) bool {
	return d == safetensors.BF16 || d == safetensors.F16 || d == safetensors.F32
}

// indexers compares the layers that have an indexer of their own with what
// config.json says of them. Layers whose indexers were lost where the config is
// right are not spoken of: their tensors are missing.
func (f *finder) indexers() {
	c := f.Config
	has := make([]bool, c.Layers)
	var extra []int
	for _, t := range f.Tensors {
		if n, below, ok := f.layerOf(t.Name); ok && n < c.Layers && strings.HasPrefix(below, "self_attn.indexer.") {
			has[n] = true
		}
	}
	var lost []int
	for i, h := range has {
		switch own := c.SparseAttention() && c.IndexerFull[i]; {
		case h && !own:
			extra = append(extra, i)
		case own && !h:
			lost = append(lost, i)
		}
	}
	const where = "config.json: indexer_types"
	switch {
	case len(extra) > 0 && !c.SparseAttention():
		f.add(Indexers, false, "config.json: model_type", "take the config.json that belongs to the weights: these are of a model with sparse attention (glm_moe_dsa)",
			"it says %s, whose attention is dense, and indexers are stored for %s: engines leave them out or refuse them", c.Family, layersText(extra))
	case len(extra) > 0:
		f.add(Indexers, false, where, "take indexer_types, index_topk_freq and index_skip_topk_offset of the config.json that belongs to the weights",
			"it says that %s the indexer of a layer before, and the weights hold indexers of their own there: engines do not read them, and other keys are attended to", borrow(extra))
	case len(lost) > 0 && len(lost) < c.Layers && !f.scheduled():
		f.add(Indexers, true, where, "take indexer_types, index_topk_freq and index_skip_topk_offset of GLM-5.2's config.json, or of the model that this one was made of",
			"neither it nor index_topk_freq is there, so every layer needs an indexer of its own; the weights hold none for %s: the layers share indexers, and config.json lost which", layersText(lost))
	}
}

// scheduled tells whether config.json says which layers have an indexer.
func (f *finder) scheduled() bool {
	var keys map[string]json.RawMessage
	_ = json.Unmarshal(f.Config.Raw, &keys)
	for _, k := range []string{"indexer_types", "index_topk_freq", "index_topk_pattern"} {
		if v, ok := keys[k]; ok && string(v) != "null" {
			return true
		}
	}
	return false
}

func layersText(list []int) string {
	if len(list) == 1 {
		return "layer " + strconv.Itoa(list[0])
	}
	return fmt.Sprintf("%d layers, the first %d", len(list), list[0])
}

func borrow(list []int) string {
	if len(list) == 1 {
		return layersText(list) + " borrows"
	}
	return layersText(list) + ", borrow"
}

// layerOf returns the number of the layer that a tensor is in, and its name
// below.
func (f *finder) layerOf(name string) (n int, below string, ok bool) {
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(f.Config.LayerPrefix(0), "0."))
	if !ok {
		return 0, "", false
	}
	number, below, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	return n, below, err == nil && n >= 0
}

// mtpLayers finds more MTP layers declared than stored.
func (f *finder) mtpLayers(withGlue []int) {
	c := f.Config
	if n := len(withGlue); n > 0 && n < c.MTPLayers && withGlue[0] == c.Layers {
		f.add(MTPCount, true, "config.json: num_nextn_predict_layers", "set num_nextn_predict_layers to "+strconv.Itoa(n)+": engines draft several tokens with one layer all the same",
			"it says %d, and %s stored: layer %d and on would be run with weights that were never set", c.MTPLayers, isStored(n), c.Layers+n)
	}
}

func isStored(n int) string {
	if n == 1 {
		return "one MTP layer is"
	}
	return strconv.Itoa(n) + " MTP layers are"
}
