package glm

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// fields returns the config as a map to edit.
func fields(t testing.TB, raw []byte) map[string]any {
	t.Helper()
	var f map[string]any
	require.NoError(t, json.Unmarshal(raw, &f))
	return f
}

func encode(t testing.TB, f any) []byte {
	t.Helper()
	raw, err := json.Marshal(f)
	require.NoError(t, err)
	return raw
}

// edited parses cfg's file after a change.
func edited(t testing.TB, cfg *Config, edit func(map[string]any)) *Config {
	t.Helper()
	f := fields(t, cfg.Raw)
	edit(f)
	out, err := ParseConfig(encode(t, f))
	require.NoError(t, err)
	return out
}

// small returns a preset shrunk to two layers (the first one dense), four
// experts and narrow widths.
func small(t testing.TB, preset string) *Config {
	t.Helper()
	p, err := LookupPreset(preset)
	require.NoError(t, err)
	f := fields(t, p.JSON)
	text := f
	if sub, ok := f["text_config"].(map[string]any); ok {
		text = sub
	}
	for k, v := range map[string]any{
		"num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 100, "intermediate_size": 48, "first_k_dense_replace": 1,
		"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "num_attention_heads": 4,
		"num_key_value_heads": 2, "head_dim": 16,
	} {
		text[k] = v
	}
	if _, ok := text["q_lora_rank"]; ok {
		for k, v := range map[string]any{
			"num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 20, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8,
			"qk_head_dim": 20, "v_head_dim": 14,
		} {
			text[k] = v
		}
	}
	if _, ok := text["index_n_heads"]; ok {
		text["index_n_heads"], text["index_head_dim"] = 2, 10
		text["mlp_layer_types"] = []string{"dense", "sparse"}
	}
	if _, ok := text["indexer_types"]; ok {
		text["indexer_types"] = []string{"full", "shared"}
		text["index_skip_topk_offset"] = 1
	}
	if v, ok := f["vision_config"].(map[string]any); ok {
		v["hidden_size"], v["num_heads"], v["depth"], v["out_hidden_size"], v["intermediate_size"] = 8, 2, 2, 32, 24
		v["image_size"] = 28
		rope, _ := text["rope_parameters"].(map[string]any)
		if rope == nil {
			rope = text["rope_scaling"].(map[string]any)
		}
		rope["mrope_section"] = []int{1, 1, 2}
	}
	cfg, err := ParseConfig(encode(t, f))
	require.NoError(t, err)
	return cfg
}
