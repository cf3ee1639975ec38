package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// from takes a file of another reference model.
func from(model, name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		raw, err := os.ReadFile(filepath.Join(testkit.Shared(t, "reference/"+model), name))
		require.NoError(t, err)
		replace(t, dir, name, string(raw))
	}
}

func fill(b byte) func(tensor) []tensor {
	return func(x tensor) []tensor {
		for i := range x.data {
			x.data[i] = b
		}
		return []tensor{x}
	}
}

// modelMutations are a config.json, a tokenizer or a declaration of another
// model than the weights, and values that only such a mistake explains.
var modelMutations = []mutation{
	{"config of a vision model", "nano-glm4moe", from("nano-glm45v", "config.json"), "config-other-model", "model_type", true, nil},
	{"config of a text model", "nano-glm45v", from("nano-glm4moe", "config.json"), "config-other-model", "model_type", true, nil},
	{"config of a wider model", "nano-glm4moe", config(func(m map[string]any) { m["hidden_size"] = 256 }), "config-size", "hidden_size", true, nil},
	{"config with more heads", "nano-glm4moe", config(func(m map[string]any) { m["num_attention_heads"] = 8 }), "config-size", "num_attention_heads", true, nil},
	{"config with another rank", "nano-glm5", config(func(m map[string]any) { m["kv_lora_rank"] = 128 }), "config-size", "kv_lora_rank", true, nil},
	{"config of GLM-5.2 on GLM-5", "nano-glm5", from("nano-glm52", "config.json"), "config-indexers", "indexer_types", true, nil},
	{"config of GLM-5 on GLM-5.2", "nano-glm52", from("nano-glm5", "config.json"), "config-indexers", "indexer_types", true, nil},
	{"config of Flash on GLM-5", "nano-glm5", config(func(m map[string]any) {
		m["model_type"], m["architectures"] = "glm4_moe_lite", []any{"Glm4MoeLiteForCausalLM"}
	}), "config-indexers", "model_type", true, nil},
	{"three MTP layers", "nano-glm4moe w8a8 compressed-tensors", config(func(m map[string]any) { m["num_nextn_predict_layers"] = 3 }), "config-mtp-count", "num_nextn", true, nil},
	{"float16 of BF16 weights", "nano-glm4moe w8a8 compressed-tensors", config(func(m map[string]any) { m["torch_dtype"] = "float16" }), "config-dtype", "torch_dtype", false, nil},
	{"a type of codes", "nano-glm5", config(func(m map[string]any) { m["dtype"] = "int8" }), "config-dtype", "dtype", false, nil},
	{"tied, with a head", "nano-glm4moe", config(func(m map[string]any) { m["tie_word_embeddings"] = true }), "head-tied", "tie_word", false, nil},
	{"more tokens than rows", "nano-glm4moe", func(t *testing.T, dir string) {
		edit(t, dir, "tokenizer.json", func(m map[string]any) {
			m["added_tokens"] = append(m["added_tokens"].([]any), map[string]any{"id": 1500, "content": "<|new|>", "special": true})
		})
	}, "vocabulary", "tokenizer.json", true, nil},
	{"tokenizer not copied", "nano-glm4moe", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "tokenizer.json"))) }, "file-missing", "tokenizer.json", false, nil},
	{"preprocessor not copied", "nano-glm45v", func(t *testing.T, dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, "preprocessor_config.json")))
	}, "file-missing", "preprocessor", false, nil},
	{"router bias of zeros", fp8CT, tensors(one(ending("layers.2.mlp.gate.e_score_correction_bias"), fill(0))), "router-bias-zero", "layers.2", true, nil},
	{"adapter alone", "nano-glm4moe", func(t *testing.T, dir string) {
		for _, n := range []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", safetensors.IndexName} {
			require.NoError(t, os.Remove(filepath.Join(dir, n)))
		}
		replace(t, dir, "adapter_model.safetensors", "\x02\x00\x00\x00\x00\x00\x00\x00{}")
		replace(t, dir, "adapter_config.json", `{"peft_type":"LORA"}`)
	}, "adapter-alone", "adapter_model", true, nil},
	{"entries of other names", "nano-glm4moe w8a8 ascend", description(func(m map[string]any) {
		for k, v := range m {
			if rest, ok := strings.CutPrefix(k, "model.layers."); ok {
				delete(m, k)
				m["language_model.model.layers."+rest] = v
			}
		}
	}), "description-names", "description", true, map[string]string{"vllm-ascend": "refuses"}},
	{"4 bits over codes of 8", "nano-glm4moe w8a8 compressed-tensors", weights(func(w map[string]any) { w["num_bits"] = 4 }), "weight-encoding", "layers.0.self_attn.q_proj", true, nil},
	{"8 bits over codes of 4", "nano-glm4moe w4a8 compressed-tensors", weights(func(w map[string]any) { w["num_bits"] = 8 }), "weight-encoding", "layers.0.self_attn.q_proj", true, nil},
	{"MX scales of zero", "nano-glm4moe mxfp4 compressed-tensors", tensors(one(ending("layers.1.mlp.experts.3.up_proj.weight_scale"), fill(0))), "scale-zero", "experts.3.up_proj", true, nil},
	{"MX scales of NaN", "nano-glm4moe mxfp8 compressed-tensors", tensors(one(ending("layers.1.mlp.experts.3.up_proj.weight_scale"), fill(255))), "scale-nonfinite", "experts.3.up_proj", true, nil},
	{"NVFP4 scales of zero", "nano-glm4moe nvfp4a16 compressed-tensors", tensors(one(ending("layers.1.mlp.experts.3.up_proj.weight_scale"), fill(0))), "scale-zero", "experts.3.up_proj", true, nil},
	{"a cache of int8", "nano-glm4moe fp8 compressed-tensors", both(withCacheScales(3, 0.05), declaredCache(map[string]any{
		"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": false, "symmetric": true,
	})), "quant-config-suspect", "kv_cache_scheme", false, nil},
	{"a file named by a browser", "nano-glm4moe", func(t *testing.T, dir string) {
		require.NoError(t, os.Rename(filepath.Join(dir, "model-00002-of-00002.safetensors"), filepath.Join(dir, "model-00002-of-00002 (1).safetensors")))
	}, "file-elsewhere", "model-00002", true, nil},
	{"two rotary factors", "nano-glm4moe", config(func(m map[string]any) {
		m["rope_parameters"] = map[string]any{"rope_type": "default", "rope_theta": 1000000, "partial_rotary_factor": 1.0}
	}), "rope-two-bases", "partial_rotary_factor", true, nil},
	{"merged by QLoRA", "nano-glm4moe", config(func(m map[string]any) {
		m["quantization_config"] = map[string]any{"quant_method": "bitsandbytes", "load_in_4bit": true}
	}), "stale-quantization", "quantization_config", true, nil},
	{"ModelOpt's file left", "nano-glm4moe", from("foreign/modelopt-nvfp4", "hf_quant_config.json"), "stale-quantization", "hf_quant_config.json", true, nil},
	{"a description left", "nano-glm5", func(t *testing.T, dir string) {
		replace(t, dir, "quant_model_description.json", `{"model.layers.0.mlp.up_proj.weight": "W8A8_DYNAMIC", "version": "1.0.0"}`)
	}, "stale-quantization", "quant_model_description.json", true, nil},
	{"scales left beside decoded weights", "sources/nano-glm5-fp8", decoded, "scales-left", "weight_scale_inv", true, map[string]string{"sglang": "differs"}},
	{"scales left and no declaration", "sources/nano-glm5-fp8", func(t *testing.T, dir string) {
		decoded(t, dir)
		config(func(m map[string]any) { delete(m, "quantization_config") })(t, dir)
	}, "scales-left", "weight_scale_inv", true, nil},
	{"stale beside scales of a cache", "nano-glm4moe", func(t *testing.T, dir string) {
		config(func(m map[string]any) {
			m["quantization_config"] = map[string]any{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": []int{128, 128}}
		})(t, dir)
		withCacheScales(3, 0.1)(t, dir)
	}, "stale-quantization", "quantization_config", true, nil},
	{"stale in text_config", "nano-glm45v", config(func(m map[string]any) {
		m["text_config"].(map[string]any)["quantization_config"] = map[string]any{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": []int{128, 128}}
	}), "stale-quantization", "text_config.quantization_config", true, nil},
	{"stale under its other name", "nano-glm4moe", config(func(m map[string]any) {
		m["compression_config"] = map[string]any{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": []int{128, 128}}
	}), "stale-quantization", "compression_config", true, nil},
	{"names of llama.cpp", "nano-glm4moe", tensors(func(x tensor) []tensor {
		x.Name = strings.Replace(x.Name, "model.layers.", "blk.", 1)
		return []tensor{x}
	}), "foreign-names", "blk.", true, nil},
	{"names of nobody", "nano-glm4moe", tensors(func(x tensor) []tensor {
		x.Name = strings.ReplaceAll(x.Name, "layers", "h")
		return []tensor{x}
	}), "foreign-names", "model.h.", true, nil},
}

func init() { mutations = append(mutations, modelMutations...) }

// TestOneFaultOneError: what only follows from a fault is no error of its own.
func TestOneFaultOneError(t *testing.T) {
	for _, m := range modelMutations {
		switch m.name {
		case "config of a vision model", "config of a text model", "config of a wider model", "config of GLM-5 on GLM-5.2", "three MTP layers",
			"entries of other names", "names of nobody", "merged by QLoRA", "ModelOpt's file left", "a description left", "adapter alone":
		default:
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := good(t, m.base)
			_ = os.Remove(filepath.Join(dir, quant.ManifestName))
			m.damage(t, dir)
			r := examine(t, dir, Options{})
			for _, f := range r.Findings {
				if f.Severity == Error && f.Code != "quant-config-stale" {
					assert.Equal(t, m.code, f.Code, "%s: %s", f.Where, f.Detail)
				}
			}
		})
	}
}

// TestInspectOfALostShard: what is in a shard that is not there is not said to be
// lost by a fine-tune.
func TestInspectOfALostShard(t *testing.T) {
	dir := good(t, "nano-glm4moe")
	require.NoError(t, os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors")))
	in, err := Inspect(dir)
	require.NoError(t, err)
	text := strings.Join(in.Problems, "\n")
	assert.NotContains(t, text, "fine-tunes")
	assert.Contains(t, text, "does not exist")
}

// TestBrokenDescription: a description that cannot be read is one fault.
func TestBrokenDescription(t *testing.T) {
	dir := good(t, "nano-glm4moe w8a8 ascend")
	require.NoError(t, os.Remove(filepath.Join(dir, quant.ManifestName)))
	path := filepath.Join(dir, "quant_model_description.json")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	replace(t, dir, "quant_model_description.json", "\xef\xbb\xbf"+string(raw))
	r := examine(t, dir, Options{})
	for _, f := range r.Findings {
		if f.Severity != Info {
			assert.Equal(t, "description-invalid", f.Code, f.Detail)
		}
	}
	assert.False(t, r.OK)
}

// decoded stores the FP8 weights of a folder in full precision, of any values,
// and leaves their scales and the declaration.
func decoded(t *testing.T, dir string) {
	retensor(t, dir, func(x tensor) []tensor {
		if x.DType == safetensors.F8E4M3 {
			wide := make([]byte, 2*len(x.data))
			for i := range x.data {
				copy(wide[2*i:], float(safetensors.BF16, 0.01*float32(int8(x.data[i]))))
			}
			x.DType, x.data = safetensors.BF16, wide
		}
		return []tensor{x}
	})
}

// TestStalePlaces: the second finding of a declaration that was left over names
// the file and the key that it stands in.
func TestStalePlaces(t *testing.T) {
	dir := good(t, "nano-glm4moe")
	from("foreign/modelopt-nvfp4", "hf_quant_config.json")(t, dir)
	r := examine(t, dir, Options{})
	assert.True(t, r.Has("stale-quantization"), r.Text())
	assert.NotContains(t, r.Text(), "remove quantization_config", r.Text())
}
