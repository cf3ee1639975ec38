package check

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// mutation damages a good checkpoint in one way.
type mutation struct {
	name   string
	base   string
	damage func(t *testing.T, dir string)
	code   string
	where  string            // part of the finding's place
	bad    bool              // the report is negative
	loads  map[string]string // engine → answer
}

const (
	fp8CT    = "nano-glm4moe fp8 compressed-tensors"
	int8CT   = "nano-glm4moe w8a8 compressed-tensors"
	packedCT = "nano-glm4moe w4a16 compressed-tensors"
	blockHF  = "nano-glm5 fp8-block hf-fp8"
	int4Asc  = "nano-glm5 w4a8 ascend"
	int8Asc  = "nano-glm4moe w8a8 ascend"
)

func tensors(fn func(tensor) []tensor) func(*testing.T, string) {
	return func(t *testing.T, dir string) { retensor(t, dir, fn) }
}

func config(fn func(m map[string]any)) func(*testing.T, string) {
	return func(t *testing.T, dir string) { edit(t, dir, "config.json", fn) }
}

func description(fn func(m map[string]any)) func(*testing.T, string) {
	return func(t *testing.T, dir string) { edit(t, dir, "quant_model_description.json", fn) }
}

func quantConfig(fn func(q map[string]any)) func(*testing.T, string) {
	return config(func(m map[string]any) { fn(m["quantization_config"].(map[string]any)) })
}

func patch(t *testing.T, path string, fn func(raw []byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	write(t, path, fn(raw))
}

var silentAll = map[string]string{"vllm": "differs", "sglang": "differs"}

var mutations = []mutation{
	// Files and manifest.
	{"flipped byte", fp8CT, func(t *testing.T, dir string) {
		patch(t, shard(t, dir), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	}, "hash-mismatch", "", true, nil},
	{"flipped byte in the tokenizer", fp8CT, func(t *testing.T, dir string) {
		patch(t, filepath.Join(dir, "tokenizer.json"), func(b []byte) []byte { b[100] ^= 1; return b })
	}, "hash-mismatch", "tokenizer.json", true, nil},
	{"truncated shard", fp8CT, func(t *testing.T, dir string) {
		patch(t, shard(t, dir), func(b []byte) []byte { return b[:len(b)-100] })
	}, "shard-truncated", "model-00001", true, map[string]string{"vllm": "refuses", "sglang": "refuses"}},
	{"truncated shard, against the manifest", fp8CT, func(t *testing.T, dir string) {
		patch(t, shard(t, dir), func(b []byte) []byte { return b[:len(b)-100] })
	}, "file-size", "model-00001", true, nil},
	{"shard gone", fp8CT, func(t *testing.T, dir string) { require.NoError(t, os.Remove(shard(t, dir))) }, "shard-missing", "model-00001", true, nil},
	{"file gone", fp8CT, func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "tokenizer.json"))) }, "manifest-file-missing", "tokenizer.json", true, nil},
	{"extra shard", fp8CT, func(t *testing.T, dir string) {
		raw, err := os.ReadFile(shard(t, dir))
		require.NoError(t, err)
		replace(t, dir, "model-00009-of-00009.safetensors", string(raw))
	}, "file-not-in-manifest", "model-00009", true, nil},
	{"extra shard, other tool", "nano-glm5", func(t *testing.T, dir string) {
		raw, err := os.ReadFile(shard(t, dir))
		require.NoError(t, err)
		replace(t, dir, "model-00009-of-00009.safetensors", string(raw))
	}, "shard-unlisted", "model-00009", true, nil},
	{"note beside it", fp8CT, func(t *testing.T, dir string) { replace(t, dir, "notes.txt", "x") }, "file-changed", "notes.txt", false, nil},
	{"temporary file", fp8CT, func(t *testing.T, dir string) { replace(t, dir, ".model.safetensors.glmconv-tmp", "x") }, "temp-file", "glmconv-tmp", false, nil},
	{"temporary file of another tool", "nano-glm5", func(t *testing.T, dir string) { replace(t, dir, ".tmp8w0BT1", "x") }, "temp-file", ".tmp8w0BT1", false, nil},
	{"manifest is no JSON", fp8CT, func(t *testing.T, dir string) { replace(t, dir, quant.ManifestName, "{") }, "manifest-invalid", "", true, nil},
	{"unfinished", fp8CT, func(t *testing.T, dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, quant.ManifestName)))
		require.NoError(t, os.Mkdir(filepath.Join(dir, ".glmconv"), 0o755))
	}, "unfinished-conversion", "", true, nil},
	{"header damaged", "nano-glm5", func(t *testing.T, dir string) {
		patch(t, shard(t, dir), func(b []byte) []byte { b[9] = '!'; return b })
	}, "shard-invalid", "model-00001", true, map[string]string{"vllm": "refuses"}},
	{"consolidated file", "nano-glm5", func(t *testing.T, dir string) {
		replace(t, dir, "consolidated.safetensors", "\x02\x00\x00\x00\x00\x00\x00\x00{}")
	}, "consolidated-file", "", true, map[string]string{"vllm": "refuses", "sglang": "loads"}},

	// Index.
	{"mtp.safetensors unlisted", "tiny-glm4moe", func(t *testing.T, dir string) {
		edit(t, dir, safetensors.IndexName, func(m map[string]any) {
			w := m["weight_map"].(map[string]any)
			for k, v := range w {
				if v == "mtp.safetensors" {
					delete(w, k)
				}
			}
		})
	}, "mtp-file-unlisted", "mtp.safetensors", true, nil},
	{"index names too much", "nano-glm5", func(t *testing.T, dir string) {
		edit(t, dir, safetensors.IndexName, func(m map[string]any) {
			m["weight_map"].(map[string]any)["model.layers.9.norm.weight"] = "model-00001-of-00002.safetensors"
		})
	}, "index-tensor-missing", "model.layers.9.norm.weight", true, nil},
	{"index names too little", "nano-glm5", func(t *testing.T, dir string) {
		edit(t, dir, safetensors.IndexName, func(m map[string]any) { delete(m["weight_map"].(map[string]any), "lm_head.weight") })
	}, "index-tensor-unlisted", "lm_head.weight", true, nil},
	{"total_size", "nano-glm5", func(t *testing.T, dir string) {
		edit(t, dir, safetensors.IndexName, func(m map[string]any) { m["metadata"] = map[string]any{"total_size": 12} })
	}, "index-total-size", "", false, nil},
	{"index is no JSON", "nano-glm5", func(t *testing.T, dir string) { replace(t, dir, safetensors.IndexName, "[") }, "index-invalid", "", true, nil},
	{"no index", "nano-glm5", func(t *testing.T, dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, safetensors.IndexName)))
	}, "index-missing", "", false, nil},
	{"two files with the same tensor", "nano-glm5", func(t *testing.T, dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, safetensors.IndexName)))
		raw, err := os.ReadFile(shard(t, dir))
		require.NoError(t, err)
		replace(t, dir, "other.safetensors", string(raw))
	}, "duplicate-tensor", "", true, nil},
	{"stale index in an Ascend directory", int8Asc, func(t *testing.T, dir string) {
		replace(t, dir, safetensors.IndexName, `{"metadata":{},"weight_map":{"lm_head.weight":"model-00001-of-00001.safetensors"}}`)
	}, "stale-index", safetensors.IndexName, true, map[string]string{"vllm-ascend": "differs"}},
	{"left-over shard in an Ascend directory", int8Asc, func(t *testing.T, dir string) {
		raw, err := os.ReadFile(shard(t, dir))
		require.NoError(t, err)
		replace(t, dir, "model-00001-of-00001.safetensors", string(raw))
	}, "leftover-shard", "model-00001", true, map[string]string{"vllm-ascend": "differs"}},
	{"temporary Ascend shard", int8Asc, func(t *testing.T, dir string) { replace(t, dir, "quant_model_weights-00002-of-00000.safetensors", "x") }, "temp-file", "-of-00000", true, nil},

	// Config.
	{"no config", "nano-glm5", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "config.json"))) }, "config-missing", "", true, nil},
	{"config of nothing known", "nano-glm5", config(func(m map[string]any) { m["model_type"] = "llama" }), "config-invalid", "", true, nil},
	{"topk_method gone", "nano-glm5", config(func(m map[string]any) { delete(m, "topk_method") }), "config-key-missing", "topk_method", false, nil},
	{"indexer schedule gone", "nano-glm52", config(func(m map[string]any) { delete(m, "index_topk_freq"); delete(m, "index_topk_pattern") }), "config-key-missing", "index_topk_freq", false, nil},
	{"num_nextn_predict_layers gone", "nano-glm5", config(func(m map[string]any) { delete(m, "num_nextn_predict_layers") }), "config-mtp-undeclared", "", true, nil},
	{"MTP layer gone", fp8CT, tensors(one(containing("layers.3."), drop)), "config-mtp-absent", "num_nextn", true, map[string]string{"vllm": "loads", "sglang": "loads"}},
	{"MTP layer gone, BF16", "nano-glm4moe", tensors(one(containing("layers.3."), drop)), "config-mtp-absent", "num_nextn", true, map[string]string{"vllm": "loads"}},
	{"config of the source", fp8CT, config(func(m map[string]any) { delete(m, "quantization_config") }), "config-not-quantized", "", true, map[string]string{"vllm": "refuses", "sglang": "differs"}},
	{"quantization_config in an Ascend directory", int8Asc, config(func(m map[string]any) {
		m["quantization_config"] = map[string]any{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": []int{128, 128}}
	}), "config-ascend-quantization", "", true, nil},
	{"ignore is null", fp8CT, quantConfig(func(q map[string]any) { q["ignore"] = nil }), "quant-config-invalid", "", true, nil},
	{"unknown key in the arguments", fp8CT, quantConfig(func(q map[string]any) {
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["weights"].(map[string]any)["colour"] = 1
		}
	}), "quant-config-invalid", "", true, nil},
	{"activation_scheme gone", blockHF, quantConfig(func(q map[string]any) { delete(q, "activation_scheme") }), "quant-config-invalid", "", true, nil},
	{"unknown method", fp8CT, quantConfig(func(q map[string]any) { q["quant_method"] = "zork" }), "quant-method-unknown", "", true, map[string]string{"vllm": "not-judged"}},

	// Tensors.
	{"weight missing", fp8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight", "model.layers.1.self_attn.o_proj.weight_scale"), drop)), "tensor-missing", "o_proj", true, silentAll},
	{"an expert missing", fp8CT, tensors(one(containing("layers.2.mlp.experts.7."), drop)), "tensor-missing", "experts.7", true, silentAll},
	{"norm missing, BF16", "nano-glm5", tensors(one(named("model.norm.weight"), drop)), "tensor-missing", "model.norm.weight", true, map[string]string{"vllm": "refuses", "sglang": "differs"}},
	{"MTP tensor missing", fp8CT, tensors(one(named("model.layers.3.eh_proj.weight"), drop)), "mtp-incomplete", "eh_proj", true, silentAll},
	{"unknown tensor", "nano-glm5", tensors(one(named("model.norm.weight"), func(x tensor) []tensor { y := x; y.Name = "model.extra.weight"; return []tensor{x, y} })), "tensor-unexpected", "model.extra", false, nil},
	{"wrong shape", "nano-glm5", tensors(one(named("model.layers.0.self_attn.o_proj.weight"), shorter)), "tensor-shape", "o_proj", true, map[string]string{"vllm": "refuses"}},
	{"an expert too small", int8CT, tensors(one(named("model.layers.1.mlp.experts.3.up_proj.weight"), shorter)), "tensor-shape", "experts.3.up_proj", true, nil},
	{"wrong dtype", "nano-glm5", tensors(one(named("model.norm.weight"), retype(safetensors.I16))), "tensor-dtype", "model.norm", true, nil},
	{"scale missing", int8CT, tensors(one(named("model.layers.1.mlp.experts.3.up_proj.weight_scale"), drop)), "companion-missing", "experts.3.up_proj", true, silentAll},
	{"scale missing, block", blockHF, tensors(one(named("model.layers.1.self_attn.q_b_proj.weight_scale_inv"), drop)), "companion-missing", "q_b_proj", true, nil},
	{"scale too short", fp8CT, tensors(one(named("model.layers.1.self_attn.q_proj.weight_scale"), shorter)), "companion-shape", "q_proj", true, nil},
	{"scale without its second dimension", fp8CT, tensors(one(named("model.layers.1.self_attn.q_proj.weight_scale"), func(x tensor) []tensor { x.Shape = x.Shape[:1]; return []tensor{x} })), "companion-shape", "q_proj", true, map[string]string{"vllm": "refuses"}},
	{"scale of integers", fp8CT, tensors(one(named("model.layers.1.self_attn.q_proj.weight_scale"), retype(safetensors.I16))), "companion-dtype", "q_proj", true, nil},
	{"group scales in F32", packedCT, tensors(one(named("model.layers.1.mlp.experts.0.up_proj.weight_scale"), widen)), "companion-dtype", "up_proj", false, nil},
	{"stray scale on a plain weight", "nano-glm4moe", tensors(one(named("model.layers.1.self_attn.o_proj.weight"), func(x tensor) []tensor {
		return []tensor{x, {safetensors.Spec{Name: "model.layers.1.self_attn.o_proj.weight_scale", DType: safetensors.BF16, Shape: []int64{1}}, []byte{0, 0}}}
	})), "companion-unexpected", "o_proj.weight_scale", true, map[string]string{"vllm": "refuses"}},
	{"zero point on a symmetric weight", int8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight"), func(x tensor) []tensor {
		return []tensor{x, {safetensors.Spec{Name: "model.layers.1.self_attn.o_proj.weight_zero_point", DType: safetensors.I8, Shape: []int64{1}}, []byte{0}}}
	})), "companion-unexpected", "zero_point", true, nil},
	{"packed and called unpacked", packedCT, quantConfig(func(q map[string]any) {
		q["format"] = "int-quantized"
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["format"] = "int-quantized"
		}
	}), "packed-name", "", true, map[string]string{"vllm": "refuses"}},
	{"BF16 where the config says FP8", fp8CT, tensors(func(x tensor) []tensor {
		switch x.Name {
		case "model.layers.1.self_attn.o_proj.weight":
			x.DType, x.data = safetensors.BF16, append(x.data, x.data...)
		case "model.layers.1.self_attn.o_proj.weight_scale":
			return nil
		}
		return []tensor{x}
	}), "weight-not-quantized", "o_proj", true, silentAll},
	{"ignored and quantised", fp8CT, quantConfig(func(q map[string]any) {
		q["ignore"] = append(q["ignore"].([]any), `re:.*layers\.1\.self_attn\.o_proj$`)
	}), "ignored-but-quantized", "layers.1.self_attn.o_proj", true, map[string]string{"vllm": "refuses", "sglang": "differs"}},
	{"another group size", packedCT, quantConfig(func(q map[string]any) {
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["weights"].(map[string]any)["group_size"] = 64
		}
	}), "weight-encoding", "", true, nil},
	{"fp8 called int8", fp8CT, quantConfig(func(q map[string]any) {
		q["format"] = "int-quantized"
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["format"] = "int-quantized"
			g.(map[string]any)["weights"].(map[string]any)["type"] = "int"
		}
	}), "weight-encoding", "", true, nil},
	{"half of a fused group", fp8CT, tensors(func(x tensor) []tensor {
		switch x.Name {
		case "model.layers.1.self_attn.k_proj.weight":
			x.DType, x.data = safetensors.BF16, append(x.data, x.data...)
		case "model.layers.1.self_attn.k_proj.weight_scale":
			return nil
		}
		return []tensor{x}
	}), "group-mixed", "layers.1.self_attn", true, nil},
	{"one expert in another encoding", fp8CT, tensors(func(x tensor) []tensor {
		switch x.Name {
		case "model.layers.1.mlp.experts.5.up_proj.weight":
			x.DType, x.data = safetensors.BF16, append(x.data, x.data...)
		case "model.layers.1.mlp.experts.5.up_proj.weight_scale":
			return nil
		}
		return []tensor{x}
	}), "experts-mixed", "experts.5", true, silentAll},
	{"codes without scales", fp8CT, tensors(one(ending(".weight_scale"), drop)), "companion-missing", "", true, nil},

	// Special tensors.
	{"router bias lost", fp8CT, tensors(one(named("model.layers.2.mlp.gate.e_score_correction_bias"), drop)), "router-bias-missing", "layers.2", true, silentAll},
	{"router bias in BF16", "nano-glm5", tensors(one(ending("e_score_correction_bias"), narrow)), "router-bias-dtype", "e_score", false, nil},
	{"router bias rounded", "nano-glm5", tensors(one(named("model.layers.1.mlp.gate.e_score_correction_bias"), round)), "router-bias-rounded", "layers.1", false, nil},
	{"router quantised", fp8CT, tensors(one(named("model.layers.1.mlp.gate.weight"), quantize(safetensors.F8E4M3, "weight_scale", safetensors.BF16))), "router-quantized", "layers.1.mlp.gate", true, map[string]string{"vllm": "refuses", "sglang": "differs"}},
	{"eh_proj quantised", int8CT, tensors(one(ending("eh_proj.weight"), quantize(safetensors.I8, "weight_scale", safetensors.BF16))), "eh-proj-quantized", "eh_proj", true, silentAll},
	{"embedding quantised", int8CT, tensors(one(named("model.embed_tokens.weight"), quantize(safetensors.I8, "weight_scale", safetensors.BF16))), "embedding-quantized", "embed_tokens", true, nil},
	{"head quantised", int8CT, tensors(one(named("lm_head.weight"), quantize(safetensors.I8, "weight_scale", safetensors.BF16))), "head-quantized", "lm_head", true, map[string]string{"vllm": "refuses"}},
	{"draft head quantised", int8CT, tensors(one(ending("shared_head.head.weight"), quantize(safetensors.I8, "weight_scale", safetensors.BF16))), "mtp-copy-quantized", "shared_head.head", false, nil},
	{"INT8 indexer.wk", "nano-glm5 w8a8 compressed-tensors", tensors(one(ending("indexer.wk.weight"), quantize(safetensors.I8, "weight_scale", safetensors.BF16))), "indexer-wk-int8", "indexer.wk", true, silentAll},
	{"quantised indexer.weights_proj", "nano-glm5 w8a8 compressed-tensors", tensors(one(ending("indexer.weights_proj.weight"), quantize(safetensors.I8, "weight_scale", safetensors.BF16))), "indexer-quantized", "weights_proj", true, nil},
	{"quantised kv_b_proj for Ascend", int4Asc, func(t *testing.T, dir string) {
		retensor(t, dir, one(ending("kv_b_proj.weight"), func(x tensor) []tensor {
			out := quantize(safetensors.I8, "weight_scale", safetensors.F32)(x)
			off := out[1]
			off.Name = strings.Replace(off.Name, "weight_scale", "weight_offset", 1)
			off.data = make([]byte, len(off.data))
			return append(out, off)
		}))
	}, "kv-b-quantized", "kv_b_proj", true, map[string]string{"vllm-ascend": "refuses"}},
	{"vision tower quantised", "nano-glm45v fp8 compressed-tensors", tensors(one(named("model.visual.blocks.0.attn.proj.weight"), quantize(safetensors.F8E4M3, "weight_scale", safetensors.BF16))), "vision-quantized", "visual", true, nil},
	{"norm quantised", int8CT, tensors(one(named("model.norm.weight"), func(x tensor) []tensor {
		x.DType, x.data = safetensors.I8, make([]byte, x.Shape[0])
		s := tensor{safetensors.Spec{Name: "model.norm.weight_scale", DType: safetensors.BF16, Shape: []int64{1}}, float(safetensors.BF16, 1)}
		return []tensor{x, s}
	})), "norm-quantized", "model.norm", true, nil},
	{"MTP in F32", int8Asc, tensors(func(x tensor) []tensor {
		if strings.Contains(x.Name, "layers.3.") && x.DType == safetensors.BF16 {
			return widen(x)
		}
		return []tensor{x}
	}), "mtp-widened", "layers.3", false, nil},
	{"MTP copies missing for Ascend", int4Asc, tensors(one(named("model.layers.3.embed_tokens.weight"), drop)), "mtp-copy-missing", "embed_tokens", false, nil},

	// Values.
	{"NaN scale", fp8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight_scale"), put(float32(math.NaN())))), "scale-nonfinite", "o_proj", true, silentAll},
	{"infinite scale", blockHF, tensors(one(named("model.layers.1.self_attn.o_proj.weight_scale_inv"), put(float32(math.Inf(1))))), "scale-nonfinite", "o_proj", true, nil},
	{"zero scale", int8Asc, tensors(one(named("model.layers.1.self_attn.o_proj.weight_scale"), put(0))), "scale-zero", "o_proj", true, map[string]string{"vllm-ascend": "differs"}},
	{"negative scale", int8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight_scale"), put(-1))), "scale-negative", "o_proj", true, nil},
	{"scale never set", int8Asc, tensors(one(named("model.layers.1.self_attn.o_proj.weight_scale"), put(-math.MaxFloat32))), "scale-unset", "o_proj", true, nil},
	{"scale that BF16 cannot hold", int8Asc, tensors(one(named("model.layers.1.self_attn.o_proj.weight_scale"), put(0.0100001))), "scale-not-bf16", "o_proj", false, nil},
	{"wrong scale_bias", int4Asc, tensors(one(named("model.layers.1.mlp.experts.2.down_proj.scale_bias"), func(x tensor) []tensor {
		v := math.Float32frombits(binary.LittleEndian.Uint32(x.data[20:]))
		copy(x.data[20:], float(safetensors.F32, v*1.001+0.01))
		return []tensor{x}
	})), "scale-bias-wrong", "experts.2.down_proj", true, map[string]string{"vllm-ascend": "differs"}},
	{"flipped nibble", int4Asc, tensors(one(named("model.layers.1.mlp.experts.2.up_proj.weight"), func(x tensor) []tensor { x.data[7] ^= 1; return []tensor{x} })), "scale-bias-wrong", "experts.2.up_proj", true, nil},
	{"offset", int8Asc, tensors(one(named("model.layers.1.self_attn.o_proj.weight_offset"), put(1))), "offset-nonzero", "o_proj", true, nil},
	{"weight_shape", packedCT, tensors(one(named("model.layers.1.mlp.experts.0.up_proj.weight_shape"), func(x tensor) []tensor { x.data[0]++; return []tensor{x} })), "weight-shape-wrong", "experts.0.up_proj", true, nil},
	{"int4 code out of range", "nano-glm4moe w4a8 compressed-tensors", tensors(one(named("model.layers.1.mlp.experts.0.up_proj.weight"), func(x tensor) []tensor { x.data[3] = 9; return []tensor{x} })), "code-range", "experts.0.up_proj", true, nil},
	{"NaN weight", "nano-glm5", tensors(one(named("model.norm.weight"), put(float32(math.NaN())))), "weight-nonfinite", "model.norm", true, nil},
	{"NaN code", fp8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight"), func(x tensor) []tensor { x.data[0] = 0x7f; return []tensor{x} })), "weight-nonfinite", "o_proj", true, nil},

	// Ascend description.
	{"description is no JSON", int8Asc, func(t *testing.T, dir string) { replace(t, dir, "quant_model_description.json", "{") }, "description-invalid", "", true, map[string]string{"vllm-ascend": "refuses"}},
	{"entry missing", int8Asc, description(func(m map[string]any) { delete(m, "model.layers.1.self_attn.o_proj.weight") }), "description-entry-missing", "o_proj", true, map[string]string{"vllm-ascend": "refuses", "sglang": "differs"}},
	{"entry of the draft's head missing", int4Asc, func(t *testing.T, dir string) {
		retensor(t, dir, one(ending("shared_head.head.weight"), drop))
		edit(t, dir, "quant_model_description.json", func(m map[string]any) { delete(m, "model.layers.3.shared_head.head.weight") })
	}, "description-entry-missing", "shared_head.head", true, map[string]string{"vllm-ascend": "refuses"}},
	{"entry says FLOAT", int8Asc, description(func(m map[string]any) { m["model.layers.1.self_attn.o_proj.weight"] = "FLOAT" }), "ignored-but-quantized", "o_proj", true, map[string]string{"vllm-ascend": "refuses"}},
	{"entry of a scale says another scheme", int8Asc, description(func(m map[string]any) { m["model.layers.1.self_attn.o_proj.weight_scale"] = "FLOAT" }), "description-mismatch", "o_proj.weight_scale", true, nil},
	{"static experts", int8Asc, description(func(m map[string]any) { m["model.layers.1.mlp.experts.0.up_proj.weight"] = "W8A8" }), "description-scheme", "experts.0", true, map[string]string{"vllm-ascend": "refuses"}},
	{"int4 linears", int8Asc, description(func(m map[string]any) { m["model.layers.1.self_attn.o_proj.weight"] = "W4A8_DYNAMIC" }), "description-scheme", "o_proj", true, nil},
	{"version missing", int4Asc, description(func(m map[string]any) { delete(m, "version") }), "description-version", "", false, map[string]string{"vllm-ascend": "loads"}},
	{"group_size missing", int4Asc, description(func(m map[string]any) { delete(m, "group_size") }), "description-group-size", "", false, map[string]string{"vllm-ascend": "loads"}},
	{"entry without a tensor", int8Asc, description(func(m map[string]any) { m["model.layers.3.embed_tokens.weight"] = "W8A8_DYNAMIC" }), "description-mismatch", "embed_tokens", true, nil},
	{"entry of a lost weight", int4Asc, func(t *testing.T, dir string) {
		retensor(t, dir, one(named("model.layers.1.mlp.experts.5.up_proj.weight"), drop))
	}, "description-entry-unused", "experts.5.up_proj", true, map[string]string{"vllm-ascend": "differs"}},
	{"prefix", int8Asc, description(func(m map[string]any) { m["model.layers.1.self_attn.o_proj_x.weight"] = "FLOAT" }), "description-prefix", "o_proj_x", true, nil},
	{"rotated without rot", int4Asc, description(func(m map[string]any) { m["is_rot_used"] = true }), "rot-missing", "", true, nil},

	// Engines.
	{"misspelt pattern", fp8CT, quantConfig(func(q map[string]any) { q["ignore"] = append(q["ignore"].([]any), `re:.*mlp\.exprets\..*`) }), "pattern-unused", "exprets", false, nil},
	{"MTP in BF16, ignored under vLLM's name only", "nano-glm4moe w4a16 compressed-tensors", quantConfig(func(q map[string]any) {
		q["ignore"] = dropString(q["ignore"].([]any), `re:model\.decoder\..*`)
	}), "engine-misreads", "model.decoder", true, map[string]string{"vllm": "loads", "sglang": "differs"}},
	{"vision tower ignored by exact names only", "nano-glm45v fp8 compressed-tensors", quantConfig(func(q map[string]any) {
		list := dropString(q["ignore"].([]any), `re:.*visual\..*`)
		for _, b := range []string{"0", "1"} {
			for _, m := range []string{"attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"} {
				list = append(list, "model.visual.blocks."+b+"."+m)
			}
		}
		for _, m := range []string{"proj", "gate_proj", "up_proj", "down_proj"} {
			list = append(list, "model.visual.merger."+m)
		}
		q["ignore"] = list
	}), "engine-misreads", "attn.qkv", true, map[string]string{"vllm": "differs"}},
}

func dropString(list []any, s string) (out []any) {
	for _, x := range list {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}

func TestMutations(t *testing.T) {
	covered := map[string]bool{}
	for _, m := range mutations {
		covered[m.code] = true
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := good(t, m.base)
			m.damage(t, dir)
			r := examine(t, dir, Options{Weights: true})
			hit := false
			for _, f := range r.Findings {
				hit = hit || f.Code == m.code && strings.Contains(f.Where, m.where)
			}
			require.True(t, hit, "no %s about %q:\n%s", m.code, m.where, r.Text())
			assert.Equal(t, m.bad, !r.OK, "%s", r.Text())
			for _, v := range r.Engines {
				if want, ok := m.loads[v.Engine]; ok {
					assert.Equal(t, want, string(v.Answer), "%s: %s", v.Engine, v.Rule)
				}
			}
			assert.GreaterOrEqual(t, len(r.Engines), len(m.loads)-1)
			assert.NotContains(t, r.Text(), "%!")
		})
	}
	// Each code must be provoked by a mutation, here or in another test.
	elsewhere := []string{"manifest-missing", "engine-refuses", "description-name", "rot-unflagged", "rot-family", "rot-wrong", "rotation-mixed",
		"static-deq-scale", "static-shared-input", "static-quant-bias", "static-offset", "rot-file", // TestAscendFolders
		"cache-missing", "cache-undeclared", "cache-half-declared", "cache-kind", "cache-rotation", "cache-offset", // TestInt8Caches
		"quant-method-published", "global-scale-unshared", "bias-cast", // TestPublished
		"manifest-scheme", "input-scale-changed", "pattern-unjudged"} // TestManifestScheme, TestInputScales, TestPatternsUntried
	for _, c := range Codes() {
		if !covered[c.Name] {
			assert.Contains(t, elsewhere, c.Name, "no mutation provokes %s", c.Name)
		}
		assert.NotEmpty(t, c.Means)
	}
}
