package mutate

import (
	"encoding/json"
	"slices"
)

// textPart is the object that holds the text model's keys.
func textPart(fn func(m map[string]any) bool) func(Made) (bool, error) {
	return jsonFile(configName, func(m map[string]any) bool {
		if t := objectAt(m, "text_config"); t != nil {
			return fn(t)
		}
		return fn(m)
	})
}

// move renames a key, to another level if need be.
func move(from, to []string) func(map[string]any) bool {
	return func(m map[string]any) bool {
		o := objectAt(m, from[:len(from)-1]...)
		v, ok := o[from[len(from)-1]]
		if !ok {
			return false
		}
		for i := range to[:len(to)-1] {
			if objectAt(m, to[:i+1]...) == nil {
				objectAt(m, to[:i]...)[to[i]] = map[string]any{}
			}
		}
		delete(o, from[len(from)-1])
		objectAt(m, to[:len(to)-1]...)[to[len(to)-1]] = v
		return true
	}
}

// sameConfig are other ways for config.json to describe the same model.
func sameConfig() []Fault {
	in := func(name string, fn func(m map[string]any) bool) Fault { return Fault{Name: name, Apply: textPart(fn)} }
	number := func(key, spelling string) Fault {
		return in(key+" as "+spelling, func(m map[string]any) bool {
			old, ok := m[key].(json.Number)
			m[key] = json.Number(spelling)
			a, errA := old.Float64()
			b, errB := json.Number(spelling).Float64()
			return ok && errA == nil && errB == nil && a == b && string(old) != spelling
		})
	}
	out := []Fault{
		in("rope in the newer names", func(m map[string]any) bool {
			if m["rope_theta"] == nil || m["rope_scaling"] != nil || m["qk_rope_head_dim"] != nil {
				return false
			}
			delete(m, "rope_scaling")
			hit := move([]string{"rope_theta"}, []string{"rope_parameters", "rope_theta"})(m)
			move([]string{"partial_rotary_factor"}, []string{"rope_parameters", "partial_rotary_factor"})(m)
			objectAt(m, "rope_parameters")["rope_type"] = "default"
			return hit
		}),
		in("the base in both names", func(m map[string]any) bool {
			if m["rope_theta"] == nil || m["rope_parameters"] != nil || m["rope_scaling"] != nil {
				return false
			}
			m["rope_parameters"] = map[string]any{"rope_theta": m["rope_theta"], "rope_type": "default"}
			if f := m["partial_rotary_factor"]; f != nil {
				objectAt(m, "rope_parameters")["partial_rotary_factor"] = f
			}
			return true
		}),
		in("no rope_scaling where it was null", func(m map[string]any) bool {
			v, ok := m["rope_scaling"]
			delete(m, "rope_scaling")
			return ok && v == nil
		}),
		in("dtype for torch_dtype", move([]string{"torch_dtype"}, []string{"dtype"})),
		in("kinds of layers by name", func(m map[string]any) bool {
			dense, ok := m["first_k_dense_replace"].(json.Number)
			n, ok2 := m["num_hidden_layers"].(json.Number)
			if !ok || !ok2 || m["mlp_layer_types"] != nil {
				return false
			}
			var list []any
			for i := range atoi(n) {
				list = append(list, map[bool]string{true: "dense", false: "sparse"}[i < atoi(dense)])
			}
			m["mlp_layer_types"] = list
			return true
		}),
		in("use_cache off", set(false, "use_cache")), in("no use_cache", lose("use_cache")),
		in("another version of transformers", set("5.1.0", "transformers_version")),
		in("where it was loaded from", set("/models/x", "_name_or_path")),
		in("another dropout of training", set(json.Number("0.1"), "attention_dropout")),
		in("another range of training", set(json.Number("0.01"), "initializer_range")),
		in("ends in another order", func(m map[string]any) bool {
			list, ok := m["eos_token_id"].([]any)
			if ok {
				slices.Reverse(list)
			}
			return ok
		}),
		in("a window of nothing", set(nil, "sliding_window")),
		in("full attention in every layer", func(m map[string]any) bool {
			n, ok := m["num_hidden_layers"].(json.Number)
			var list []any
			for range atoi(n) {
				list = append(list, "full_attention")
			}
			m["layer_types"] = list
			return ok
		}),
		in("a default written out", set(json.Number("1"), "pretraining_tp")),
		in("a loss of training", set(json.Number("0.001"), "router_aux_loss_coef")),
		in("outputs of training", set(true, "output_router_logits")),
		in("no default", func(m map[string]any) bool {
			if !same(m["norm_topk_prob"], true) {
				return false
			}
			delete(m, "norm_topk_prob")
			return true
		}),
		in("a key that nobody reads", set("a team", "made_by")),
		number("rms_norm_eps", "0.00001"), number("rope_theta", "1000000.0"), number("rope_theta", "1e6"), number("partial_rotary_factor", "5e-1"), number("routed_scaling_factor", "1"),
		{Name: "labels", Apply: jsonFile(configName, set(map[string]any{"0": "LABEL_0"}, "id2label"))},
	}
	return out
}

func atoi(n json.Number) int { v, _ := n.Int64(); return int(v) }
