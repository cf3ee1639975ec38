package mutate

import (
	"encoding/json"
	"slices"
)

// sameDeclaration are other spellings of the same declaration.
func sameDeclaration() []Fault {
	return []Fault{
		{Name: "a list in another order", Apply: declared(func(q map[string]any) bool {
			for _, key := range []string{"ignore", "modules_to_not_convert"} {
				if list, ok := q[key].([]any); ok && len(list) > 1 {
					slices.Reverse(list)
					return true
				}
			}
			return false
		})},
		{Name: "a module ignored twice", Apply: declared(func(q map[string]any) bool {
			for _, key := range []string{"ignore", "modules_to_not_convert"} {
				if list, ok := q[key].([]any); ok && len(list) > 1 {
					q[key] = append(list, list[0])
					return true
				}
			}
			return false
		})},
		{Name: "another version of the tool", Apply: declared(func(q map[string]any) bool { return q["config_groups"] != nil && set("0.12.2", "version")(q) })},
		{Name: "no cache", Apply: declared(idle("kv_cache_scheme", nil))},
		{Name: "nothing sparse", Apply: declared(idle("sparsity_config", map[string]any{}))},
		{Name: "no transforms", Apply: declared(idle("transform_config", map[string]any{}))},
		{Name: "a ratio", Apply: declared(func(q map[string]any) bool {
			return q["config_groups"] != nil && set(json.Number("1.5"), "global_compression_ratio")(q)
		})},
		{Name: "an observer", Apply: field("weights", "mse", "observer")},
		{Name: "arguments of the observer", Apply: groups("weights", idle("observer_kwargs", map[string]any{}))},
		{Name: "no actorder", Apply: groups("weights", idle("actorder", nil))},
		{Name: "weights not dynamic", Apply: groups("weights", idle("dynamic", false))},
		{Name: "no output activations", Apply: groups("", idle("output_activations", nil))},
		{Name: "a list by its older name", Apply: declared(func(q map[string]any) bool {
			return q["quant_method"] == "fp8" && move([]string{"modules_to_not_convert"}, []string{"ignored_layers"})(q)
		})},
		{Name: "a description without optional parts", Apply: jsonFile(descriptionName, lose("optional"))},
		{Name: "a description without the tool's type", Apply: jsonFile(descriptionName, lose("model_quant_type"))},
	}
}

// idle writes a key out that means nothing with a value, or leaves it out where
// it has that value.
func idle(key string, value any) func(map[string]any) bool {
	return func(m map[string]any) bool {
		if m["quant_method"] != nil && m["config_groups"] == nil {
			return false
		}
		old, ok := m[key]
		switch {
		case !ok:
			m[key] = value
		case same(old, value):
			delete(m, key)
		default:
			return false
		}
		return true
	}
}
