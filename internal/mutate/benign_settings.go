package mutate

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
)

// sameSettings are other settings that mean the same.
func sameSettings() []Fault {
	tok := func(name string, fn func(m map[string]any) bool) Fault {
		return Fault{Name: "tokenizer: " + name, Apply: jsonFile(tokenizerSets, fn)}
	}
	gen := func(name string, fn func(m map[string]any) bool) Fault {
		return Fault{Name: "generation: " + name, Apply: jsonFile(generationFile, fn)}
	}
	pre := func(name string, fn func(m map[string]any) bool) Fault {
		return Fault{Name: "preprocessor: " + name, Apply: jsonFile("preprocessor_config.json", fn)}
	}
	return []Fault{
		tok("the class's newer name", set("TokenizersBackend", "tokenizer_class")),
		tok("a longer context", set(json.Number("1000000"), "model_max_length")),
		tok("no table of added tokens", lose("added_tokens_decoder")),
		tok("a default written out", set(false, "add_bos_token")),
		tok("padding on another side", set("right", "padding_side")),
		tok("a backend", set("tokenizers", "backend")),
		tok("the end as an object", func(m map[string]any) bool {
			s, ok := m["eos_token"].(string)
			m["eos_token"] = map[string]any{"content": s, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false}
			return ok
		}),
		tok("special tokens by another key", func(m map[string]any) bool {
			v, ok := m["additional_special_tokens"]
			delete(m, "additional_special_tokens")
			m["extra_special_tokens"] = v
			return ok
		}),
		gen("ends in another order", func(m map[string]any) bool {
			list, ok := m["eos_token_id"].([]any)
			slices.Reverse(list)
			return ok
		}),
		gen("defaults written out", func(m map[string]any) bool {
			return set(json.Number("1.0"), "temperature")(m) && set(json.Number("1"), "top_p")(m) && set(json.Number("50"), "top_k")(m) && set(json.Number("1.0"), "repetition_penalty")(m)
		}),
		gen("a default left out", func(m map[string]any) bool { v, ok := m["do_sample"]; delete(m, "do_sample"); return ok && v == false }),
		gen("another version", set("5.0.0", "transformers_version")),
		gen("from config.json", set(true, "_from_model_config")),
		gen("use_cache", set(true, "use_cache")),
		gen("no padding id", lose("pad_token_id")),
		{Name: "generation: none, where it says what config.json says", Apply: func(m Made) (bool, error) {
			raw, err := os.ReadFile(filepath.Join(m.Dir, generationFile))
			if err != nil || bytes.Contains(raw, []byte(`"do_sample": true`)) || bytes.Contains(raw, []byte("temperature")) {
				return false, nil //nolint:nilerr // not there
			}
			return without(generationFile)(m)
		}},
		pre("a fast class", set("Glm4vImageProcessorFast", "image_processor_type")),
		pre("no default", lose("do_rescale")),
		pre("a device", set("cpu", "device")),
		pre("a standard written out", set(true, "do_normalize")),
		{Name: "preprocessor: in the newer file", Bare: true, Apply: func(m Made) (bool, error) {
			raw, err := os.ReadFile(filepath.Join(m.Dir, "preprocessor_config.json"))
			if err != nil {
				return false, nil //nolint:nilerr // not there
			}
			o, err := object(raw)
			if err != nil {
				return false, err
			}
			if err := os.Remove(filepath.Join(m.Dir, "preprocessor_config.json")); err != nil {
				return false, err
			}
			both, err := json.Marshal(map[string]any{"image_processor": o, "processor_class": "Glm4vProcessor"})
			if err != nil {
				return false, err
			}
			return with(string(both), "processor_config.json")(m)
		}},
	}
}
