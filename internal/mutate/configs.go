package mutate

import (
	"encoding/json"
	"slices"
)

// modelKeys are the keys of config.json that decide what the model computes, at
// the top or in text_config, and another value of each.
var modelKeys = []struct {
	path  []string
	other any
}{
	{[]string{"hidden_act"}, "gelu"}, {[]string{"rms_norm_eps"}, json.Number("1e-06")}, {[]string{"num_experts_per_tok"}, json.Number("3")},
	{[]string{"n_group"}, json.Number("2")}, {[]string{"topk_group"}, json.Number("2")}, {[]string{"norm_topk_prob"}, false},
	{[]string{"routed_scaling_factor"}, json.Number("1.7")}, {[]string{"rope_theta"}, json.Number("10000")},
	{[]string{"rope_parameters", "rope_theta"}, json.Number("10000")}, {[]string{"partial_rotary_factor"}, json.Number("1.0")},
	{[]string{"rope_scaling"}, map[string]any{"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 1024}},
	{[]string{"rope_scaling", "mrope_section"}, []any{6, 6, 4}},
	{[]string{"max_position_embeddings"}, json.Number("512")}, {[]string{"eos_token_id"}, []any{json.Number("7")}},
	{[]string{"tie_word_embeddings"}, true}, {[]string{"attention_bias"}, false}, {[]string{"use_qk_norm"}, true},
	{[]string{"first_k_dense_replace"}, json.Number("2")}, {[]string{"mlp_layer_types"}, []any{"dense"}}, {[]string{"n_routed_experts"}, json.Number("7")},
	{[]string{"n_shared_experts"}, json.Number("2")}, {[]string{"num_hidden_layers"}, json.Number("2")}, {[]string{"num_attention_heads"}, json.Number("8")},
	{[]string{"num_key_value_heads"}, json.Number("4")}, {[]string{"head_dim"}, json.Number("32")}, {[]string{"hidden_size"}, json.Number("256")},
	{[]string{"intermediate_size"}, json.Number("192")}, {[]string{"moe_intermediate_size"}, json.Number("64")}, {[]string{"vocab_size"}, json.Number("1080")},
	{[]string{"q_lora_rank"}, json.Number("32")}, {[]string{"kv_lora_rank"}, json.Number("32")}, {[]string{"qk_nope_head_dim"}, json.Number("16")},
	{[]string{"qk_rope_head_dim"}, json.Number("32")}, {[]string{"v_head_dim"}, json.Number("16")}, {[]string{"index_n_heads"}, json.Number("1")},
	{[]string{"index_head_dim"}, json.Number("16")}, {[]string{"index_topk"}, json.Number("7")}, {[]string{"rope_interleave"}, false},
	{[]string{"indexer_rope_interleave"}, false}, {[]string{"scoring_func"}, "softmax"}, {[]string{"topk_method"}, "greedy"},
	{[]string{"model_type"}, "llama"}, {[]string{"image_token_id"}, json.Number("1021")}, {[]string{"video_token_id"}, json.Number("1021")},
	{[]string{"image_start_token_id"}, json.Number("990")}, {[]string{"num_nextn_predict_layers"}, json.Number("0")},
	{[]string{"vision_config", "depth"}, json.Number("1")}, {[]string{"vision_config", "num_heads"}, json.Number("4")},
	{[]string{"vision_config", "patch_size"}, json.Number("7")}, {[]string{"vision_config", "spatial_merge_size"}, json.Number("1")},
	{[]string{"vision_config", "temporal_patch_size"}, json.Number("1")}, {[]string{"vision_config", "image_size"}, json.Number("112")},
	{[]string{"vision_config", "rms_norm_eps"}, json.Number("1e-3")}, {[]string{"vision_config", "attention_bias"}, true},
	{[]string{"vision_config", "hidden_act"}, "gelu"}, {[]string{"vision_config", "hidden_size"}, json.Number("32")},
	{[]string{"vision_config", "intermediate_size"}, json.Number("96")}, {[]string{"vision_config", "out_hidden_size"}, json.Number("64")},
	{[]string{"vision_config", "in_channels"}, json.Number("1")}, {[]string{"torch_dtype"}, "float16"}, {[]string{"dtype"}, "float16"},
}

// ofConfig are faults of config.json: each key of the model with another value,
// and lost where it has no default that says the same.
func ofConfig() []Fault {
	var out []Fault
	for _, k := range modelKeys {
		last := k.path[len(k.path)-1]
		name := ""
		for i, key := range k.path {
			if i > 0 {
				name += "."
			}
			name += key
		}
		out = append(out, Fault{Name: "another " + name, Apply: jsonFile(configName, func(m map[string]any) bool {
			for _, o := range []map[string]any{objectAt(m, "text_config"), m} {
				inner := objectAt(o, k.path[:len(k.path)-1]...)
				if last == "head_dim" && o["kv_lora_rank"] != nil {
					return false // nobody reads it there
				}
				if old, ok := inner[last]; ok && !same(old, k.other) {
					inner[last] = k.other
					return true
				}
			}
			return false
		}), Says: []string{last}})
	}
	for _, key := range []string{"rope_theta", "num_experts_per_tok", "n_routed_experts", "hidden_size",
		"num_hidden_layers", "eos_token_id", "attention_bias", "head_dim", "vocab_size", "model_type", "index_topk", "qk_rope_head_dim", "routed_scaling_factor"} {
		out = append(out, Fault{Name: "no " + key, Apply: lost(key), Says: []string{key}})
	}
	return append(out,
		Fault{Name: "of another architecture", Apply: jsonFile(configName, set([]any{"LlamaForCausalLM"}, "architectures")), Says: []string{"architectures", "LlamaForCausalLM"}},
		Fault{Name: "cut short", Apply: textFile(configName, func(s string) string { return s[:len(s)-20] }), Says: []string{configName}},
		Fault{Name: "lost", Apply: without(configName), Says: []string{configName}})
}

func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && slices.Equal(x, y)
}

// defaults are what readers of config.json take where a key is absent
// (docs/facts/families.md 1): leaving one of these out changes nothing.
var defaults = map[string][]any{"norm_topk_prob": {true}, "routed_scaling_factor": {json.Number("1.0")}, "rms_norm_eps": {json.Number("1e-05")},
	"first_k_dense_replace": {json.Number("1")}, "partial_rotary_factor": {json.Number("0.5")}, "attention_bias": {false}}

// lost removes a key where its absence means something else.
func lost(key string) func(Made) (bool, error) {
	return jsonFile(configName, func(m map[string]any) bool {
		for _, o := range []map[string]any{objectAt(m, "text_config"), m} {
			old, ok := o[key]
			text := m["vision_config"] != nil && o["vision_config"] == nil
			if !ok || key == "model_type" && text || key == "head_dim" && o["kv_lora_rank"] != nil || slices.ContainsFunc(defaults[key], func(d any) bool { return same(d, old) }) {
				continue
			}
			delete(o, key)
			return true
		}
		return false
	})
}
