package mutate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

const (
	configName      = "config.json"
	descriptionName = "quant_model_description.json"
)

// declared changes the quantization_config of config.json.
func declared(fn func(q map[string]any) bool) func(Made) (bool, error) {
	return jsonFile(configName, func(m map[string]any) bool {
		q := objectAt(m, "quantization_config")
		return len(q) > 0 && fn(q)
	})
}

// undeclared loses every declaration: engines take ModelOpt's own file where
// config.json has none.
func undeclared(m Made) (bool, error) {
	hit, err := EditJSON(m.Dir, configName, lose("quantization_config"))
	if err != nil || !hit {
		return hit, err
	}
	if err := os.Remove(filepath.Join(m.Dir, "hf_quant_config.json")); err != nil && !os.IsNotExist(err) {
		return false, err
	}
	return true, nil
}

// groups changes an object of every group of a compressed-tensors declaration.
func groups(part string, fn func(o map[string]any) bool) func(Made) (bool, error) {
	return declared(func(q map[string]any) bool {
		hit := false
		for _, g := range objectAt(q, "config_groups") {
			o, _ := g.(map[string]any)
			if part != "" {
				o = objectAt(o, part)
			}
			hit = o != nil && fn(o) || hit
		}
		return hit
	})
}

// field changes one field of it.
func field(part string, value any, key string) func(Made) (bool, error) {
	return groups(part, set(value, key))
}

// ofDeclaration are faults of quantization_config: of compressed-tensors', and
// of fp8's with blocks.
func ofDeclaration() []Fault {
	says := func(words ...string) []string { return words }
	strategy := func(o map[string]any) bool {
		other := map[any]string{"channel": "tensor", "group": "channel", "block": "channel", "tensor": "channel"}[o["strategy"]]
		o["strategy"] = other
		return other != ""
	}
	blocks := func(q map[string]any) bool {
		list, _ := q["weight_block_size"].([]any)
		return len(list) == 2 && set([]any{json.Number("64"), json.Number("64")}, "weight_block_size")(q)
	}
	ofFP8 := func(fn func(q map[string]any) bool) func(Made) (bool, error) {
		return declared(func(q map[string]any) bool { return q["quant_method"] == "fp8" && fn(q) })
	}
	list := func(fn func(list []any) []any) func(Made) (bool, error) {
		return declared(func(q map[string]any) bool {
			for _, key := range []string{"ignore", "modules_to_not_convert"} {
				if old, ok := q[key].([]any); ok {
					q[key] = fn(old)
					return true
				}
			}
			return false
		})
	}
	return []Fault{
		{Name: "strategy of another kind", Apply: groups("weights", strategy), Says: says("strategy", "scale")},
		{Name: "asymmetric", Apply: field("weights", false, "symmetric"), Says: says("symmetric", "zero_point", "zero point")},
		{Name: "activations ordered", Apply: field("weights", "group", "actorder"), Says: says("actorder", "g_idx")},
		{Name: "other bits", Apply: groups("weights", func(o map[string]any) bool {
			bits := map[bool]int{true: 4, false: 8}[o["num_bits"] == json.Number("8")]
			return set(bits, "num_bits")(o)
		}), Says: says("num_bits", "bits", "int4", "int8", "4", "8")},
		{Name: "another type", Apply: groups("weights", func(o map[string]any) bool {
			return set(map[any]string{"int": "float", "float": "int"}[o["type"]], "type")(o)
		}), Says: says("type", "format", "dtype", "int", "float")},
		{Name: "another group", Apply: groups("weights", func(o map[string]any) bool { return o["strategy"] == "group" && set(64, "group_size")(o) }), Says: says("group")},
		{Name: "a group of channels", Apply: groups("weights", func(o map[string]any) bool { return o["strategy"] == "channel" && set(128, "group_size")(o) }), Says: says("group_size")},
		{Name: "blocks of another size", Apply: groups("weights", func(o map[string]any) bool {
			return o["strategy"] == "block" && set([]any{64, 64}, "block_structure")(o)
		}), Says: says("block")},
		{Name: "static activations", Apply: field("input_activations", false, "dynamic"), Says: says("input_scale", "static", "dynamic", "input_activations")},
		{Name: "activations scaled locally", Apply: field("input_activations", "local", "dynamic"), Says: says("local", "dynamic", "input_activations", "input_global_scale")},
		{Name: "activations not quantised", Recorded: true, Apply: groups("", func(o map[string]any) bool { return o["input_activations"] != nil && set(nil, "input_activations")(o) }), Says: says("activation", "manifest", "scheme", "W8A16", "w8a16", "weights only")},
		{Name: "one scale for all activations", Recorded: true, Apply: groups("input_activations", func(o map[string]any) bool { return set("tensor", "strategy")(o) }), Says: says("strategy", "activation", "tensor")},
		{Name: "asymmetric activations", Recorded: true, Apply: field("input_activations", false, "symmetric"), Says: says("symmetric", "activation", "asymmetric")},
		{Name: "output activations", Apply: groups("", set(map[string]any{"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": false, "symmetric": true}, "output_activations")), Says: says("output")},
		{Name: "a format of another type", Apply: declared(func(q map[string]any) bool {
			other := map[any]string{"int-quantized": "float-quantized", "float-quantized": "int-quantized", "pack-quantized": "int-quantized"}[q["format"]]
			for _, g := range objectAt(q, "config_groups") {
				if o, _ := g.(map[string]any); o["format"] != nil {
					o["format"] = other
				}
			}
			return other != "" && set(other, "format")(q)
		}), Says: says("format")},
		{Name: "a format that nobody knows", Apply: declared(func(q map[string]any) bool {
			return q["format"] != nil && set("tangled-quantized", "format")(q)
		}), Says: says("format", "tangled")},
		{Name: "a cache without scales", Apply: declared(func(q map[string]any) bool {
			return q["config_groups"] != nil && set(map[string]any{"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false, "symmetric": true}, "kv_cache_scheme")(q)
		}), Says: says("kv_cache", "k_scale", "cache"), Notes: true},
		{Name: "sparsity", Apply: declared(func(q map[string]any) bool {
			return q["config_groups"] != nil && set(map[string]any{"format": "sparse-24-bitmask", "sparsity_structure": "2:4", "global_sparsity": 0.5, "targets": []any{"Linear"}, "ignore": []any{}}, "sparsity_config")(q)
		}), Says: says("sparsity")},
		{Name: "a transform", Apply: declared(func(q map[string]any) bool {
			return q["config_groups"] != nil && set(map[string]any{"config_groups": map[string]any{"u": map[string]any{"type": "hadamard", "head_dim": 64,
				"apply": []any{map[string]any{"targets": []any{"Linear"}, "location": "input", "inverse": true, "ignore": []any{"lm_head"}}}}}}, "transform_config")(q)
		}), Says: says("transform")},
		{Name: "an unknown key", Apply: declared(set("blue", "colour")), Says: says("colour"), Notes: true},
		{Name: "an unknown key of weights", Apply: field("weights", true, "shiny"), Says: says("shiny"), Notes: true},
		{Name: "another method", Apply: declared(set("awq", "quant_method")), Says: says("awq", "quant_method", "quantization_config")},
		{Name: "a method that nobody knows", Apply: declared(set("shrink", "quant_method")), Says: says("shrink")},
		{Name: "no declaration", Apply: undeclared, Says: says("quantization_config", "not quantised", "not quantized", "config-not-quantized")},
		{Name: "a quantised module ignored", Apply: list(func(l []any) []any { return append(l, "re:.*self_attn\\.o_proj$", "model.layers.1.self_attn.o_proj") }), Says: says("o_proj")},
		{Name: "experts ignored", Apply: list(func(l []any) []any {
			return append(l, "re:.*mlp\\.experts\\..*", "model.layers.1.mlp.experts.0.gate_proj")
		}), Says: says("experts")},
		{Name: "other targets", Apply: groups("", set([]any{"Conv2d"}, "targets")), Says: says("Conv2d", "target")},
		{Name: "targets that leave something out", Apply: withoutAttention, Says: says("self_attn", "target", "o_proj")},
		{Name: "no groups", Apply: declared(func(q map[string]any) bool {
			return q["config_groups"] != nil && set(map[string]any{}, "config_groups")(q)
		}), Says: says("config_groups", "group", "quant")},
		{Name: "fp8: other blocks", Apply: declared(blocks), Says: says("block")},
		{Name: "fp8: no blocks", Apply: ofFP8(lose("weight_block_size")), Says: says("block", "weight_scale")},
		{Name: "fp8: static activations", Apply: ofFP8(set("static", "activation_scheme")), Says: says("static", "activation_scheme", "input_scale")},
		{Name: "fp8: another number format", Apply: ofFP8(set("e5m2", "fmt")), Says: says("fmt", "e5m2"), Notes: true},
	}
}

// withoutAttention has groups mean MLPs alone, where attention is quantized too.
func withoutAttention(m Made) (bool, error) {
	c, err := safetensors.OpenDir(m.Dir)
	if err != nil {
		return false, err
	}
	hit := slices.ContainsFunc(c.Tensors(), func(t safetensors.Info) bool { return strings.Contains(t.Name, "o_proj.weight_scale") })
	if err := c.Close(); err != nil || !hit {
		return false, err
	}
	return groups("", func(o map[string]any) bool { o["targets"] = []any{"re:.*mlp.*"}; return true })(m)
}

// ofDescription are faults of an Ascend description.
func ofDescription() []Fault {
	in := func(name string, fn func(m map[string]any) bool, says ...string) Fault {
		return Fault{Name: name, Apply: jsonFile(descriptionName, fn), Says: says}
	}
	noted := func(name string, fn func(m map[string]any) bool, says ...string) Fault {
		return Fault{Name: name, Apply: jsonFile(descriptionName, fn), Says: says, Notes: true}
	}
	entry := func(part, value string) func(m map[string]any) bool {
		return func(m map[string]any) bool {
			hit := false // some entries stand there under two names
			for key, v := range m {
				if strings.HasSuffix(key, part) && v != value && !strings.Contains(key, "visual") {
					if value == "" {
						delete(m, key)
					} else {
						m[key] = value
					}
					hit = true
				}
			}
			return hit
		}
	}
	return []Fault{
		in("a weight said to be FLOAT", entry("1.self_attn.o_proj.weight", "FLOAT"), "o_proj"),
		in("an expert said to be FLOAT", entry("1.mlp.experts.0.down_proj.weight", "FLOAT"), "experts.0"),
		in("a weight said to be static", entry("1.self_attn.o_proj.weight", "W8A8"), "o_proj"),
		in("a weight said to have other bits", entry("1.self_attn.o_proj.weight", "W4A4_DYNAMIC"), "o_proj"),
		in("an entry lost", entry("1.self_attn.o_proj.weight", ""), "o_proj"),
		{Name: "an expert's entry lost", Apply: jsonFile(descriptionName, entry("1.mlp.experts.3.up_proj.weight", "")), Says: []string{"experts.3"}, Notes: true}, // engines ask for expert 0
		in("the router said to be quantised", entry("1.mlp.gate.weight", "W8A8_DYNAMIC"), "mlp.gate"),
		in("a norm said to be quantised", entry("1.input_layernorm.weight", "W8A8_DYNAMIC"), "input_layernorm"),
		// Caches hold no weights: what engines do without their scales is said.
		noted("a cache in 8 bits", set("C8", "kv_quant_type"), "kv_quant_type", "kv_cache", "C8"),
		noted("a cache in 8 bits, by its newer name", set("C8", "kv_cache_type"), "kv_cache_type", "C8"),
		noted("attention in 8 bits", set("FAKQuant", "fa_quant_type"), "fa_quant_type", "FAKQuant"),
		noted("an indexer's cache in 8 bits", set("INT8_DYNAMIC", "indexer_quant_type"), "indexer_quant_type"),
		in("rotated", set(true, "is_rot_used"), "rot"),
		{Name: "a group", Apply: jsonFile(descriptionName, func(m map[string]any) bool {
			for _, v := range m {
				if v == "W4A8_DYNAMIC" {
					return set(32, "group_size")(m)
				}
			}
			return false
		}), Says: []string{"group_size", "group"}, Notes: true}, // newer releases do not read it
		{Name: "an unknown key", Apply: jsonFile(descriptionName, set("blue", "colour")), Says: []string{"colour"}, Notes: true},
		{Name: "lost", Apply: without(descriptionName), Says: []string{descriptionName}},
		{Name: "cut short", Apply: textFile(descriptionName, func(s string) string { return s[:len(s)-9] }), Says: []string{descriptionName}},
		{Name: "empty", Apply: textFile(descriptionName, func(string) string { return "{}\n" }), Says: []string{descriptionName, "description", "entry"}},
	}
}
