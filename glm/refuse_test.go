package glm

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

func TestConfigRefusals(t *testing.T) {
	set := func(kv ...any) func(map[string]any) {
		return func(f map[string]any) {
			for i := 0; i < len(kv); i += 2 {
				f[kv[i].(string)] = kv[i+1]
			}
		}
	}
	drop := func(k string) func(map[string]any) { return func(f map[string]any) { delete(f, k) } }
	in := func(sub string, edit func(map[string]any)) func(map[string]any) {
		return func(f map[string]any) { edit(f[sub].(map[string]any)) }
	}
	yarn := map[string]any{"rope_type": "yarn", "factor": 4}
	for _, tc := range []struct {
		name, preset string
		edit         func(map[string]any)
		kind         error
		field        string
		says         string
	}{
		{"dense vision model", "glm-4.6v", set("model_type", "glm4v"), ErrUnsupported, "model_type", "dense GLM-4V"},
		{"glm5_next", "glm-5", set("model_type", "glm5_next"), ErrUnsupported, "model_type", "GLM-5.3-Flash"},
		{"glm5_next in full", "glm-5", set("model_type", "glm5_next"), ErrUnsupported, "model_type", "KDA linear attention"},
		{"bitsandbytes", "glm-4.5", set("quantization_config", map[string]any{"quant_method": "bitsandbytes"}), ErrUnsupported, "quantization_config", "bitsandbytes"},
		{"mxfp4 of GPT-OSS", "glm-4.5", set("quantization_config", map[string]any{"quant_method": "mxfp4"}), ErrUnsupported, "quantization_config", "GPT-OSS"},
		{"deepseek", "glm-5", set("model_type", "deepseek_v32"), ErrUnsupported, "model_type", "DeepSeek"},
		{"llama", "glm-5", set("model_type", "llama"), ErrUnsupported, "model_type", "Llama"},
		{"text part", "glm-4.5v", set("model_type", "glm4v_moe_text"), ErrUnsupported, "model_type", "text part"},
		{"unheard of", "glm-5", set("model_type", "zork"), ErrUnsupported, "model_type", "not a model family"},
		{"no type", "glm-5", drop("model_type"), ErrInvalid, "model_type", "missing"},
		{"type is a number", "glm-5", set("model_type", 5), ErrInvalid, "model_type", "string"},
		{"architecture", "glm-4.5", set("architectures", []string{"Glm4MoeForTokenClassification"}), ErrUnsupported, "architectures", "Glm4MoeForCausalLM"},
		{"yarn v4", "glm-4.5", set("rope_scaling", yarn), ErrUnsupported, "rope_scaling.rope_type", "rotary"},
		{"linear v4", "glm-4.5", set("rope_scaling", map[string]any{"type": "linear"}), ErrUnsupported, "rope_scaling.type", "rotary"},
		{"yarn v5", "glm-5", set("rope_parameters", yarn), ErrUnsupported, "rope_parameters.rope_type", "rotary"},
		{"no rope base", "glm-5", set("rope_parameters", map[string]any{"rope_type": "default"}), ErrInvalid, "rope_theta", "missing"},
		{"rope base zero", "glm-4.5", set("rope_theta", 0), ErrInvalid, "rope_theta", "above zero"},
		{"rotary too wide", "glm-4.5", set("partial_rotary_factor", 1.5), ErrInvalid, "partial_rotary_factor", "above 1"},
		{"rotary odd", "glm-4.5", set("partial_rotary_factor", 0.2), ErrInvalid, "partial_rotary_factor", "25"},
		{"rotary of mla", "glm-4.7-flash", set("partial_rotary_factor", 0.5), ErrUnsupported, "partial_rotary_factor", "64"},
		{"interleaved gqa", "glm-4.5", set("rope_interleave", true), ErrUnsupported, "rope_interleave", "half-split"},
		{"mrope on text", "glm-4.5", set("rope_scaling", map[string]any{"mrope_section": []int{8, 12, 12}}), ErrUnsupported, "rope_scaling.mrope_section",
			"glm4v_moe"},
		{"mrope sum", "glm-4.5v", in("text_config", set("rope_scaling", map[string]any{"mrope_section": []int{8, 12, 13}})), ErrInvalid,
			"text_config.rope_scaling.mrope_section", "33"},
		{"mrope absent", "glm-4.5v", in("text_config", drop("rope_scaling")), ErrInvalid, "text_config.rope_scaling.mrope_section", "missing"},
		{"gelu", "glm-4.5", set("hidden_act", "gelu"), ErrUnsupported, "hidden_act", "silu"},
		{"vision gelu", "glm-4.5v", in("vision_config", set("hidden_act", "gelu")), ErrUnsupported, "vision_config.hidden_act", "silu"},
		{"softmax router", "glm-5", set("scoring_func", "softmax"), ErrUnsupported, "scoring_func", "sigmoid"},
		{"greedy router", "glm-5", set("topk_method", "greedy"), ErrUnsupported, "topk_method", "noaux_tc"},
		{"bias in mla", "glm-5", set("attention_bias", true), ErrUnsupported, "attention_bias", "bias"},
		{"no hidden", "glm-4.5", drop("hidden_size"), ErrInvalid, "hidden_size", "missing"},
		{"null hidden", "glm-4.5", set("hidden_size", nil), ErrInvalid, "hidden_size", "missing"},
		{"no head_dim", "glm-4.5", drop("head_dim"), ErrInvalid, "head_dim", "missing"},
		{"no q rank", "glm-5", drop("q_lora_rank"), ErrInvalid, "q_lora_rank", "missing"},
		{"no indexer", "glm-5", drop("index_n_heads"), ErrInvalid, "index_n_heads", "missing"},
		{"no dense count", "glm-4.5", drop("first_k_dense_replace"), ErrInvalid, "first_k_dense_replace", "missing"},
		{"another text model", "glm-4.5v", in("text_config", set("model_type", "llama")), ErrUnsupported, "text_config.model_type", "glm4v_moe_text"},
		{"no text part", "glm-4.5v", drop("text_config"), ErrInvalid, "text_config", "needs"},
		{"no vision part", "glm-4.5v", drop("vision_config"), ErrInvalid, "text_config", "vision_config"},
		{"hidden 0", "glm-4.5", set("hidden_size", 0), ErrInvalid, "hidden_size", "between 1"},
		{"hidden negative", "glm-4.5", set("hidden_size", -5120), ErrInvalid, "hidden_size", "between 1"},
		{"hidden huge", "glm-4.5", set("hidden_size", 1<<40), ErrInvalid, "hidden_size", "between 1"},
		{"hidden fraction", "glm-4.5", set("hidden_size", 12.5), ErrInvalid, "hidden_size", "integer"},
		{"hidden text", "glm-4.5", set("hidden_size", "5120"), ErrInvalid, "hidden_size", "integer"},
		{"experts 0", "glm-4.5", set("n_routed_experts", 0), ErrInvalid, "n_routed_experts", "between 1"},
		{"layers huge", "glm-4.5", set("num_hidden_layers", 1000000), ErrInvalid, "num_hidden_layers", "between"},
		{"too many experts in all", "glm-4.5", set("num_hidden_layers", 1000, "n_routed_experts", 4000), ErrInvalid, "n_routed_experts", "more than any GLM"},
		{"top-k", "glm-4.5", set("num_experts_per_tok", 161), ErrInvalid, "num_experts_per_tok", "160"},
		{"groups", "glm-4.5", set("n_group", 7), ErrInvalid, "n_group", "divide"},
		{"group top-k", "glm-4.5", set("n_group", 2, "topk_group", 3), ErrInvalid, "topk_group", "n_group"},
		{"few in groups", "glm-4.5", set("n_group", 40, "topk_group", 1), ErrInvalid, "num_experts_per_tok", "topk_group"},
		{"heads", "glm-4.5", set("num_key_value_heads", 7), ErrInvalid, "num_key_value_heads", "96"},
		{"mla heads", "glm-5", set("num_key_value_heads", 8), ErrInvalid, "num_key_value_heads", "64"},
		{"qk_head_dim", "glm-5", set("qk_head_dim", 192), ErrInvalid, "qk_head_dim", "256"},
		{"layer types short", "glm-5", set("mlp_layer_types", []string{"dense"}), ErrInvalid, "mlp_layer_types", "78"},
		{"layer types odd", "glm-5", set("num_hidden_layers", 1, "mlp_layer_types", []string{"moe"}), ErrUnsupported, "mlp_layer_types", "moe"},
		{"dense beyond layers", "glm-4.5", set("first_k_dense_replace", 93), ErrInvalid, "first_k_dense_replace", "92"},
		{"indexer types short", "glm-5", set("indexer_types", []string{"full"}), ErrInvalid, "indexer_types", "78"},
		{"pattern short", "glm-5", set("index_topk_pattern", "FS"), ErrInvalid, "index_topk_pattern", "78"},
		{"pattern letters", "glm-5", set("index_topk_pattern", strings.Repeat("X", 78)), ErrInvalid, "index_topk_pattern", "F nor S"},
		{"first indexer shared", "glm-5", set("index_topk_pattern", strings.Repeat("S", 78)), ErrInvalid, "index_topk_pattern", "layer 0"},
		{"frequency 0", "glm-5", set("index_topk_freq", 0), ErrInvalid, "index_topk_freq", "between"},
		{"indexer narrow", "glm-5", set("index_head_dim", 32), ErrInvalid, "index_head_dim", "64"},
		{"vision width", "glm-4.5v", in("vision_config", set("out_hidden_size", 5120)), ErrInvalid, "vision_config.out_hidden_size", "4096"},
		{"vision heads", "glm-4.5v", in("vision_config", set("num_heads", 7)), ErrInvalid, "vision_config.num_heads", "1536"},
		{"vision patches", "glm-4.5v", in("vision_config", set("patch_size", 15)), ErrInvalid, "vision_config.patch_size", "336"},
		{"eos", "glm-4.5", set("eos_token_id", []any{1, "x"}), ErrInvalid, "eos_token_id", "token id"},
		{"tie is text", "glm-4.5", set("tie_word_embeddings", "no"), ErrInvalid, "tie_word_embeddings", "true or false"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := LookupPreset(tc.preset)
			require.NoError(t, err)
			f := fields(t, p.JSON)
			tc.edit(f)
			_, err = ParseConfig(encode(t, f))
			require.Error(t, err)
			require.ErrorIs(t, err, tc.kind)
			ce := AsConfigError(err)
			require.NotNil(t, ce)
			assert.True(t, ce.Field == tc.field || strings.HasSuffix(ce.Field, "."+tc.field), "field %s", ce.Field)
			assert.ErrorContains(t, err, tc.says)
			if tc.field == "model_type" && tc.kind == ErrUnsupported {
				assert.Contains(t, ce.Hint(), "glm_moe_dsa")
			}
		})
	}
}

func TestConfigGarbage(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"list":            "[]",
		"null":            "null",
		"number":          "7",
		"cut":             `{"model_type": "glm4_moe"`,
		"cut string":      `{"model_type": "glm4`,
		"two values":      `{} {}`,
		"trailing":        `{}x`,
		"duplicate":       `{"model_type": "glm4_moe", "hidden_size": 1, "hidden_size": 2}`,
		"escaped twin":    `{"a": 1, "\u0061": 2}`,
		"deep duplicate":  `{"rope_parameters": {"x": [{"a": 1, "a": 1}]}}`,
		"python infinity": `{"model_type": "glm4_moe", "rope_theta": Infinity}`,
		"not utf-8":       "{\"model_type\": \"\xff\"}",
		"deep":            strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000),
		"comma":           `{"a": 1,}`,
	} {
		_, err := ParseConfig([]byte(text))
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	_, err := ParseConfig([]byte(`{"a": {"x": 1, "y": 2, "x": 3}}`))
	assert.ErrorContains(t, err, `"x" twice`)
	_, err = ParseConfig([]byte(`{"a": {"x": 1}, "b": {"x": 1}, "model_type": "m"}`))
	assert.NotContains(t, err.Error(), "twice", "the same key in two objects is fine")
}

func TestRequireUnquantized(t *testing.T) {
	group := func(typ, bits, strategy string) string {
		return `{"quant_method": "compressed-tensors", "format": "f", "config_groups": {"g": {"weights": {"type": "` + typ + `", "num_bits": ` + bits + `, "strategy": "` + strategy + `"}}}}`
	}
	for _, tc := range []struct{ name, json, method string }{
		{"fp8 block", `{"quant_method": "fp8", "weight_block_size": [128, 128]}`, "fp8"},
		{"int8", group("int", "8", "channel"), "compressed-tensors"},
		{"nvfp4", group("float", "4", "tensor_group"), "compressed-tensors"},
		{"gptq", `{"quant_method": "gptq", "bits": 4}`, "gptq"},
		{"nameless", `{"bits": 4}`, "unknown"},
	} {
		for _, key := range []string{"quantization_config", "compression_config"} {
			p, err := LookupPreset("glm-5")
			require.NoError(t, err)
			text := strings.Replace(string(p.JSON), "{", `{"`+key+`": `+tc.json+`,`, 1)
			cfg, err := ParseConfig([]byte(text))
			require.NoError(t, err, tc.name)
			assert.Equal(t, tc.method, cfg.Quantization)
			assert.JSONEq(t, tc.json, string(cfg.QuantizationConfig))
			err = cfg.RequireUnquantized()
			require.ErrorIs(t, err, ErrQuantized)
			require.ErrorIs(t, err, ErrUnsupported)
			assert.ErrorContains(t, err, "already quantised ("+tc.method+")")
			assert.Equal(t, "convert from the BF16 release, or decode the weights first", AsConfigError(err).Advice)
		}
	}
}

// TestOtherGLM: GLMs of other architectures are told from models that are none.
func TestOtherGLM(t *testing.T) {
	for name, want := range map[string]bool{"glm5_next": true, "glm5_next_text": true, "glm4": true, "glm46v": true, "glm_ocr": true, "chatglm": true,
		"llama": false, "glm4_moe": false, "glm_moe_dsa": false, "": false, "unheard": false} {
		assert.Equal(t, want, OtherGLM(name), name)
	}
}

// TestDeclarationOfMergedWeights: a quantization that is refused by name is let
// pass where no tensor has codes, and only there.
func TestDeclarationOfMergedWeights(t *testing.T) {
	cfg, err := Preset("glm-4.5-air")
	require.NoError(t, err)
	raw := append([]byte(`{"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true},`), bytes.TrimPrefix(bytes.TrimSpace(cfg.Raw), []byte("{"))...)
	float := []safetensors.Info{{Name: "model.embed_tokens.weight", DType: safetensors.BF16, Shape: []int64{8, 8}}}
	codes := append(slices.Clone(float), safetensors.Info{Name: "model.layers.0.self_attn.q_proj.weight", DType: safetensors.U8, Shape: []int64{32, 1}})

	_, err = ParseConfig(raw)
	require.ErrorIs(t, err, ErrUnsupported)
	_, err = ParseConfigOf(raw, codes)
	require.ErrorIs(t, err, ErrUnsupported)
	_, err = ParseConfigOf(raw, nil)
	require.ErrorIs(t, err, ErrUnsupported, "nothing is known of the tensors")
	got, err := ParseConfigOf(raw, float)
	require.NoError(t, err)
	assert.Equal(t, "bitsandbytes", got.Quantization)
	assert.ErrorContains(t, got.StaleQuantization(float), "bitsandbytes")
}
