package companion

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

const configFile = "config.json"

// facts are the fields of a parsed config that describe the model, with the
// keys of either naming generation that say them. Fields that are absent here
// are no part of the model (Notes, Raw), or a conversion's to change
// (quantization, dtype, the number of MTP layers).
var facts = []struct {
	field string
	keys  []string
}{
	{"Family", []string{"model_type"}},
	{"VocabSize", []string{"vocab_size"}},
	{"HiddenSize", []string{"hidden_size"}},
	{"Layers", []string{"num_hidden_layers"}},
	{"Heads", []string{"num_attention_heads"}},
	{"KVHeads", []string{"num_key_value_heads"}},
	{"HeadDim", []string{"head_dim"}},
	{"AttentionBias", []string{"attention_bias"}},
	{"UseQKNorm", []string{"use_qk_norm"}},
	{"IntermediateSize", []string{"intermediate_size"}},
	{"RMSNormEps", []string{"rms_norm_eps"}},
	{"TieEmbeddings", []string{"tie_word_embeddings"}},
	{"MaxPositions", []string{"max_position_embeddings"}},
	{"EOS", []string{"eos_token_id"}},
	{"MoEIntermediateSize", []string{"moe_intermediate_size"}},
	{"Experts", []string{"n_routed_experts", "num_local_experts", "num_experts"}},
	{"ExpertsPerToken", []string{"num_experts_per_tok"}},
	{"SharedExperts", []string{"n_shared_experts"}},
	{"Dense", []string{"mlp_layer_types", "first_k_dense_replace"}},
	{"NGroup", []string{"n_group"}},
	{"TopKGroup", []string{"topk_group"}},
	{"NormTopK", []string{"norm_topk_prob"}},
	{"RoutedScaling", []string{"routed_scaling_factor"}},
	{"RopeTheta", []string{"rope_parameters.rope_theta", "rope_theta"}},
	{"RopeWidth", []string{"rope_parameters.partial_rotary_factor", "partial_rotary_factor", "qk_rope_head_dim"}},
	{"RopeInterleaved", []string{"rope_interleave"}},
	{"MRopeSections", []string{"rope_parameters.mrope_section", "rope_scaling.mrope_section"}},
	{"QLoraRank", []string{"q_lora_rank"}},
	{"KVLoraRank", []string{"kv_lora_rank"}},
	{"QKNopeHeadDim", []string{"qk_nope_head_dim"}},
	{"QKRopeHeadDim", []string{"qk_rope_head_dim"}},
	{"VHeadDim", []string{"v_head_dim"}},
	{"IndexHeads", []string{"index_n_heads"}},
	{"IndexHeadDim", []string{"index_head_dim"}},
	{"IndexTopK", []string{"index_topk"}},
	{"IndexerInterleaved", []string{"indexer_rope_interleave"}},
	{"IndexerFull", []string{"indexer_types", "index_topk_pattern", "index_topk_freq", "index_skip_topk_offset"}},
	{"IndexShareForMTP", []string{"index_share_for_mtp_iteration"}},
}

// said are keys whose meaning is in facts or in the checks of the parser, and
// keys that a conversion may change. Their spelling is no difference.
var said = func() map[string]bool {
	m := map[string]bool{"architectures": true, "qk_head_dim": true, "rope_scaling.type": true, "rope_scaling.rope_type": true,
		"rope_parameters.rope_type": true, "rope_parameters.type": true, "hidden_act": true, "mlp_bias": true, "scoring_func": true,
		"topk_method": true, "moe_layer_freq": true}
	for k := range changeable {
		m[k] = true
	}
	for _, f := range facts {
		for _, k := range f.keys {
			m[k] = true
		}
	}
	return m
}()

// changeable are keys that a conversion may change.
var changeable = map[string]bool{"num_nextn_predict_layers": true, "dtype": true, "torch_dtype": true, "quantization_config": true, "compression_config": true}

// leftovers are keys that say nothing of the model: of training, of the
// library that wrote the file, of its defaults.
var leftovers = map[string]bool{"transformers_version": true, "_name_or_path": true, "_attn_implementation": true, "use_cache": true,
	"attention_dropout": true, "hidden_dropout": true, "initializer_range": true, "router_aux_loss_coef": true, "aux_loss_alpha": true,
	"seq_aux": true, "output_router_logits": true, "output_attentions": true, "output_hidden_states": true, "return_dict": true,
	"pretraining_tp": true, "ep_size": true, "gradient_checkpointing": true, "bos_token_id": true, "pad_token_id": true, "sep_token_id": true,
	"id2label": true, "label2id": true, "is_encoder_decoder": true, "chunk_size_feed_forward": true, "finetuning_task": true, "problem_type": true,
	"tokenizer_class": true, "unsloth_version": true, "unsloth_fixed": true, "torchscript": true, "_commit_hash": true, "use_bfloat16": true,
	"_from_model_config": true, "_experts_implementation": true, "moe_router_dtype": true}

// engineKeys are keys that no GLM has and that engines obey when they find
// them: a value other than the given one changes the model.
var engineKeys = map[string]struct{ neutral, why string }{
	"sliding_window":         {"null", "engines build sliding-window attention"},
	"use_sliding_window":     {"false", "engines build sliding-window attention"},
	"layer_types":            {"", "engines choose each layer's attention by it"},
	"attention_chunk_size":   {"null", "engines build chunked attention"},
	"rope_scaling.factor":    {"", "engines stretch positions"},
	"rope_parameters.factor": {"", "engines stretch positions"},
	"num_mtp_layers":         {"", "engines count MTP layers by it"},
	"mtp_num_layers":         {"", "engines count MTP layers by it"},
	"num_mtp_modules":        {"", "engines count MTP layers by it"},
	"n_predict":              {"", "engines count MTP layers by it"},
	"logit_scale":            {`"#1"`, "engines scale the logits"},
	"final_logit_softcapping": {
		"null", "engines bend the logits",
	},
	"attn_logit_softcapping": {"null", "engines bend the attention's scores"},
	"attention_multiplier":   {"", "engines scale the attention's scores"},
	"residual_multiplier":    {`"#1"`, "engines scale the residual stream"},
	"embedding_multiplier":   {`"#1"`, "engines scale the embeddings"},
	"auto_map":               {"null", "loaders run code of another model"},
}

// configs compares config.json: the models that it describes first, then keys
// that are no part of the description.
func (p pair) configs() ([]Difference, error) {
	a, b, list, ok, err := p.objects(configFile, "engines cannot load the model without it")
	if !ok {
		return list, err
	}
	x, errX := glm.ParseConfig(must(read(p.source, configFile)))
	y, errY := glm.ParseConfig(must(read(p.result, configFile)))
	u, v := map[string]any{}, map[string]any{}
	flatten(u, "", a)
	flatten(v, "", b)
	switch {
	case errX != nil:
		return nil, nil //nolint:nilerr // nothing to compare with
	case errY != nil:
		if list := changedKeys(u, v, errY); len(list) > 0 {
			return list, nil
		}
		d := Difference{File: configFile, Source: "a model that is known", Result: "none", Matters: true, Why: errY.Error()}
		if ce := glm.AsConfigError(errY); ce != nil {
			d.Path = ce.Field
			d.Source, d.Result = text(u, pathOf(u, v, ce.Field)), text(v, pathOf(v, u, ce.Field))
			d.Why = ce.Error()
		}
		return []Difference{d}, nil
	}
	out := models(x, y, u, v)
	out = append(out, bases(u, v)...)
	out = append(out, elementType(x, y, v)...)
	return append(out, otherKeys(u, v)...), nil
}

// elementType notes another element type. Whether it is the weights' own says
// who has seen them: see [Difference.ElementType].
func elementType(a, b *glm.Config, v map[string]any) []Difference {
	x, y := strings.TrimPrefix(a.DType, "torch."), strings.TrimPrefix(b.DType, "torch.")
	if x == y || x == "" || y == "" {
		return nil
	}
	path := keyOf([]string{"dtype", "torch_dtype"}, v)
	return []Difference{{File: configFile, Path: path, Source: x, Result: y, Why: "engines compute in it"}}
}

// ElementType reports whether a difference is of the type in which engines
// compute: a conversion may change it along with the weights, not by itself.
func (d Difference) ElementType() bool {
	return d.File == configFile && strings.HasSuffix(d.Path, "dtype")
}

// changedKeys are the keys of the model that differ where the result's file
// describes none: what the parser names may be another key that the changed one
// does not go with.
func changedKeys(u, v map[string]any, err error) (out []Difference) {
	for _, path := range paths(u, v) {
		key := strings.TrimPrefix(path, "text_config.")
		if !said[key] || changeable[key] || canonical(u[path]) == canonical(v[path]) {
			continue
		}
		out = append(out, Difference{File: configFile, Path: path, Source: text(u, path), Result: text(v, path), Matters: true, Why: err.Error()})
	}
	return out
}

func must(raw []byte, _ error) []byte { return raw }

// models compares what the two files describe, field by field.
func models(a, b *glm.Config, u, v map[string]any) (out []Difference) {
	x, y := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for _, f := range facts {
		p, q := x.FieldByName(f.field).Interface(), y.FieldByName(f.field).Interface()
		if f.field == "EOS" && asInts(p, q) || reflect.DeepEqual(p, q) {
			out = append(out, otherwise(f.keys, u, v)...)
			continue
		}
		if f.field == "HeadDim" && a.LatentAttention() && b.LatentAttention() {
			continue // such models have no head size of their own, and nobody reads the key
		}
		path, in := keyOf(f.keys, v), v
		if path == "" {
			path, in = keyOf(f.keys, u), u
		}
		if path == "" {
			path = f.keys[0]
		}
		d := Difference{File: configFile, Path: path, Source: text(u, pathOf(u, in, path)), Result: text(v, pathOf(v, in, path)), Matters: true}
		if d.Source == d.Result || d.Source == absent || d.Result == absent { // said by other keys, or by a default
			d.Source, d.Result = shown(u, f.keys, p), shown(v, f.keys, q)
		}
		out = append(out, d)
	}
	if a.Vision != nil && b.Vision != nil && *a.Vision != *b.Vision {
		out = append(out, visionKeys(u, v)...)
	}
	return out
}

// otherwise finds a key that both files have, with other values, although both
// describe the same model: another key says so too, and engines differ in which
// of the two they read.
func otherwise(keys []string, u, v map[string]any) (out []Difference) {
	if len(keys) < 2 {
		return nil
	}
	for _, k := range keys {
		for _, path := range []string{"text_config." + k, k} {
			a, b := u[path], v[path]
			if a == nil || b == nil || canonical(a) == canonical(b) {
				continue
			}
			out = append(out, Difference{File: configFile, Path: path, Source: text(u, path), Result: text(v, path), Matters: true,
				Why: "it contradicts another key, and engines differ in which of the two they read"})
		}
	}
	return out
}

// shown is what a side says: its own key and value, or the value it means.
func shown(m map[string]any, keys []string, value any) string {
	if path := keyOf(keys, m); path != "" {
		return text(m, path) + " (" + path + ")"
	}
	return fmt.Sprintf("%s, which means %v", absent, value)
}

func asInts(a, b any) bool {
	x, okX := a.([]int)
	y, okY := b.([]int)
	if !okX || !okY {
		return false
	}
	x, y = slices.Clone(x), slices.Clone(y)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(slices.Compact(x), slices.Compact(y))
}

// keyOf returns the path of the first of some keys that stands in a file, at
// the top or in text_config.
func keyOf(keys []string, m map[string]any) string {
	for _, k := range keys {
		for _, path := range []string{"text_config." + k, k} {
			if _, ok := m[path]; ok {
				return path
			}
		}
	}
	return ""
}

// pathOf finds in m the key that stands in other under path: at the same
// place, or at the other level.
func pathOf(m, _ map[string]any, path string) string {
	if _, ok := m[path]; ok {
		return path
	}
	if short, ok := strings.CutPrefix(path, "text_config."); ok {
		return short
	}
	if _, ok := m["text_config."+path]; ok {
		return "text_config." + path
	}
	return path
}

// visionKeys names the keys of the vision tower and its tokens that differ.
func visionKeys(u, v map[string]any) (out []Difference) {
	for _, path := range paths(u, v) {
		if !strings.HasPrefix(path, "vision_config.") && !strings.HasSuffix(path, "_token_id") {
			continue
		}
		if canonical(u[path]) != canonical(v[path]) && !leftovers[path] && path != "eos_token_id" {
			out = append(out, Difference{File: configFile, Path: path, Source: text(u, path), Result: text(v, path), Matters: true})
		}
	}
	return out
}

// bases finds a rotary base beside the one in use, which other engines take.
func bases(u, v map[string]any) (out []Difference) {
	const key = "rope_theta"
	all := func(m map[string]any) map[string]string {
		found := map[string]string{}
		for path, value := range m {
			if (path == key || strings.HasSuffix(path, "."+key)) && !strings.HasPrefix(path, "vision_config.") && value != nil {
				found[path] = canonical(value)
			}
		}
		return found
	}
	x, y := all(u), all(v)
	distinct := func(m map[string]string) int {
		seen := map[string]bool{}
		for _, value := range m {
			seen[value] = true
		}
		return len(seen)
	}
	if distinct(y) < 2 || distinct(x) > 1 {
		return nil
	}
	for _, path := range paths(u, v) {
		value, ok := y[path]
		if !ok || x[path] == value || slices.Contains(valuesOf(x), value) {
			continue
		}
		out = append(out, Difference{File: configFile, Path: path, Source: text(u, path), Result: text(v, path), Matters: true,
			Why: "a second rotary base: which of the two counts depends on the engine"})
	}
	return out
}

func valuesOf(m map[string]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// harmless reports whether an engine's key says what the model is anyway.
func harmless(key string, value any, m map[string]any) bool {
	switch key {
	case "layer_types":
		list, ok := value.([]any)
		return ok && !slices.ContainsFunc(list, func(e any) bool { return e != "full_attention" })
	case "num_mtp_layers", "mtp_num_layers", "num_mtp_modules", "n_predict":
		path := keyOf([]string{"num_nextn_predict_layers"}, m)
		return path != "" && canonical(m[path]) == canonical(value)
	}
	return false
}

// otherKeys compares the keys that facts leave out.
func otherKeys(u, v map[string]any) (out []Difference) {
	for _, path := range paths(u, v) {
		key := strings.TrimPrefix(path, "text_config.")
		last := key[strings.LastIndexByte(key, '.')+1:]
		if said[key] || leftovers[last] || strings.HasPrefix(key, "quantization_config") || strings.HasPrefix(key, "compression_config") {
			continue
		}
		if strings.HasPrefix(path, "vision_config.") || strings.HasSuffix(path, "_token_id") || strings.HasSuffix(key, "rope_theta") {
			continue // visionKeys, bases
		}
		a, b := u[path], v[path]
		if other := pathOf(u, v, path); a == nil && other != path {
			a = u[other]
		}
		if other := pathOf(v, u, path); b == nil && other != path {
			b = v[other]
		}
		if canonical(a) == canonical(b) {
			continue
		}
		d := Difference{File: configFile, Path: path, Source: text(u, path), Result: text(v, path)}
		rule, known := engineKeys[key]
		if first, _, nested := strings.Cut(key, "."); nested && !known {
			rule, known = engineKeys[first]
		}
		switch {
		case known && b != nil && harmless(key, b, v):
			continue
		case known && rule.neutral != "" && (canonical(b) == rule.neutral || b == nil) && (canonical(a) == rule.neutral || a == nil):
			continue
		case known:
			d.Matters, d.Why = true, rule.why
		case a == nil: // an addition that nobody is known to read
		case b == nil && (a == false || canonical(a) == "[]"):
		default:
			d.Matters = true
		}
		out = append(out, d)
	}
	return out
}
