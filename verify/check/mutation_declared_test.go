package check

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

// weights changes the arguments of every group's weights.
func weights(fn func(w map[string]any)) func(*testing.T, string) {
	return quantConfig(func(q map[string]any) {
		for _, g := range q["config_groups"].(map[string]any) {
			fn(g.(map[string]any)["weights"].(map[string]any))
		}
	})
}

// cacheFP8 is the scheme of a key-value cache in FP8 with static scales.
var cacheFP8 = map[string]any{"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false, "symmetric": true}

// withCacheScales adds a k_scale and a v_scale to each layer below n.
func withCacheScales(n int, value float32) func(*testing.T, string) {
	return tensors(func(x tensor) []tensor {
		out := []tensor{x}
		for l := range n {
			if x.Name == "model.layers."+string(rune('0'+l))+".self_attn.q_proj.weight" {
				for _, s := range []string{"k_scale", "v_scale"} {
					scale := x
					scale.Name = "model.layers." + string(rune('0'+l)) + ".self_attn." + s
					scale.DType, scale.Shape, scale.data = safetensors.F32, []int64{1}, float(safetensors.F32, value)
					out = append(out, scale)
				}
			}
		}
		return out
	})
}

func both(fns ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, fn := range fns {
			fn(t, dir)
		}
	}
}

func declaredCache(scheme any) func(*testing.T, string) {
	return quantConfig(func(q map[string]any) { q["kv_cache_scheme"] = scheme })
}

// The declaration's fields: each is judged or named.
var declaredMutations = []mutation{
	{name: "unknown key at the top", base: fp8CT, damage: quantConfig(func(q map[string]any) { q["colour"] = "blue" }), code: "quant-config-unknown-key", where: "quantization_config.colour"},
	{name: "unknown key in a group", base: fp8CT, damage: quantConfig(func(q map[string]any) {
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["colour"] = 1
		}
	}), code: "quant-config-unknown-key", where: "config_groups.group_0.colour"},
	{name: "unknown key of fp8", base: blockHF, damage: quantConfig(func(q map[string]any) { q["colour"] = 1 }), code: "quant-config-unknown-key", where: "quantization_config.colour"},
	{name: "unknown key of an Ascend description", base: int8Asc, damage: description(func(m map[string]any) { m["colour"] = 1 }), code: "quant-config-unknown-key", where: "colour"},
	{name: "a transform", base: fp8CT, damage: quantConfig(func(q map[string]any) { q["transform_config"] = map[string]any{"config_groups": map[string]any{}} }),
		code: "quant-config-not-judged", where: "transform_config", bad: true},
	{name: "pruned experts", base: fp8CT, damage: quantConfig(func(q map[string]any) { q["moe_sparsity_config"] = map[string]any{"method": "prune"} }),
		code: "quant-config-not-judged", where: "moe_sparsity_config", bad: true},
	{name: "calibration not finished", base: fp8CT, damage: quantConfig(func(q map[string]any) { q["quantization_status"] = "calibration" }), code: "quant-config-suspect", where: "quantization_status"},
	{name: "a format that no group has", base: fp8CT, damage: quantConfig(func(q map[string]any) { q["format"] = "int-quantized" }), code: "quant-config-suspect", where: "quantization_config.format"},
	{name: "two files", base: fp8CT, damage: func(t *testing.T, dir string) {
		replace(t, dir, "hf_quant_config.json", `{"quantization":{"quant_algo":"NVFP4","group_size":16,"kv_cache_quant_algo":null,"exclude_modules":[]}}`)
	}, code: "quant-config-differs", where: "hf_quant_config.json"},
	{name: "block strategy without blocks", base: fp8CT, damage: weights(func(w map[string]any) { w["strategy"] = "block" }), code: "quant-config-invalid", where: "block_structure", bad: true},
	{name: "group size of channels", base: fp8CT, damage: weights(func(w map[string]any) { w["group_size"] = 128 }), code: "quant-config-invalid", where: "group_size", bad: true},
	{name: "a format of another type", base: int8CT, damage: quantConfig(func(q map[string]any) {
		q["format"] = "float-quantized"
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["format"] = "float-quantized"
		}
	}), code: "quant-config-invalid", where: "format", bad: true},
	{name: "an order of activations", base: packedCT, damage: weights(func(w map[string]any) { w["actorder"] = "group" }), code: "quant-config-not-judged", where: "actorder", bad: true},
	{name: "an expression that is none", base: fp8CT, damage: quantConfig(func(q map[string]any) { q["ignore"] = append(q["ignore"].([]any), "re:(") }), code: "quant-config-invalid", where: "ignore", bad: true},
	{name: "asymmetric codes without zero points", base: int8CT, damage: weights(func(w map[string]any) { w["symmetric"] = false }), code: "companion-missing", where: "weight_zero_point", bad: true},
	{name: "one scale for a matrix", base: fp8CT, damage: weights(func(w map[string]any) { w["strategy"] = "tensor" }), code: "weight-encoding", where: "o_proj", bad: true},
	{name: "left over", base: "nano-glm4moe", damage: config(func(m map[string]any) {
		m["quantization_config"] = map[string]any{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": []int{128, 128}}
	}), code: "quant-config-stale", bad: true},
	{name: "a cache without scales", base: fp8CT, damage: declaredCache(cacheFP8), code: "kv-scale-missing", where: "kv_cache_scheme"},
	{name: "a layer without scales of the cache", base: fp8CT, damage: both(declaredCache(cacheFP8), withCacheScales(2, 0.1)), code: "kv-scale-missing", where: "layer 2"},
	{name: "scales of an undeclared cache", base: fp8CT, damage: withCacheScales(3, 0.1), code: "kv-scale-undeclared", where: "k_scale"},
	{name: "scales of a cache beside full precision", base: "nano-glm4moe", damage: withCacheScales(3, 0.1), code: "kv-scale-undeclared", where: "k_scale"},
	{name: "a scale of the cache that is 0", base: fp8CT, damage: both(declaredCache(cacheFP8), withCacheScales(3, 0)), code: "scale-zero", where: "k_scale", bad: true},
	{name: "a scale of the cache beyond all keys", base: fp8CT, damage: both(declaredCache(cacheFP8), withCacheScales(3, 1e30)), code: "scale-absurd", where: "k_scale", bad: true},
	{name: "a subnormal scale of the cache", base: fp8CT, damage: both(declaredCache(cacheFP8), withCacheScales(3, 1e-40)), code: "scale-absurd", where: "k_scale", bad: true},
	{name: "a negative scale of the cache", base: fp8CT, damage: both(declaredCache(cacheFP8), withCacheScales(3, -0.1)), code: "scale-negative", where: "k_scale", bad: true},
	{name: "a scale of an undeclared cache that is no number", base: fp8CT, damage: withCacheScales(3, float32(math.NaN())), code: "scale-nonfinite", where: "k_scale", bad: true},
}

func init() { mutations = append(mutations, declaredMutations...) }

// A whole declaration of the cache with its scales is no finding at all.
func TestCacheScalesAreKnown(t *testing.T) {
	dir := good(t, fp8CT)
	both(declaredCache(cacheFP8), withCacheScales(3, 0.05))(t, dir)
	r := examine(t, dir, Options{})
	for _, code := range []string{"tensor-unexpected", "kv-scale-missing", "kv-scale-undeclared", "companion-unexpected"} {
		assert.False(t, r.Has(code), "%s", r.Text())
	}
}

// A vision tower that is excluded by the names that engines have for it, and
// not by the checkpoint's, is excluded.
func TestRuntimeNamesExclude(t *testing.T) {
	for name, entries := range map[string][]any{
		"an expression": {`re:visual\..*`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, "nano-glm45v fp8 compressed-tensors")
			quantConfig(func(q map[string]any) {
				var kept []any
				for _, e := range q["ignore"].([]any) {
					if s := e.(string); s != `re:.*visual\..*` {
						kept = append(kept, s)
					}
				}
				require.Less(t, len(kept), len(q["ignore"].([]any)))
				q["ignore"] = append(kept, entries...)
			})(t, dir)
			r := examine(t, dir, Options{NoHashes: true})
			assert.False(t, r.Has("weight-not-quantized"), "%s", r.Text())
			assert.False(t, r.Has("engine-misreads"), "%s", r.Text())
		})
	}
}

// Entries of other tools and engines for modules that exist are not called
// unused, whatever stands before their names.
func TestNamesOfEnginesAreNoTypingErrors(t *testing.T) {
	for a, b := range map[string]string{
		"language_model.model.layers.1.mlp.gate": "model.language_model.layers.1.mlp.gate",
		"layers.1.mlp.gate":                      "model.layers.1.mlp.gate",
		"model.visual.blocks.0":                  "visual.blocks.0",
	} {
		assert.Equal(t, core(a), core(b))
	}
	assert.NotEqual(t, core("model.layers.1"), core("model.layers.11"))
}
