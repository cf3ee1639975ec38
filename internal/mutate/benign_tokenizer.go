package mutate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sameTokenizer are other ways to write the same tokenizer and template.
func sameTokenizer() []Fault {
	in := func(name string, fn func(m map[string]any) bool) Fault {
		return Fault{Name: name, Apply: jsonFile(tokenizerFile, fn)}
	}
	return []Fault{
		in("merges as texts", func(m map[string]any) bool {
			list, _ := objectAt(m, "model")["merges"].([]any)
			hit := false
			for i, x := range list {
				if p, ok := x.([]any); ok {
					list[i], hit = fmt.Sprint(p[0], " ", p[1]), true
				}
			}
			return hit
		}),
		in("added tokens in another order", func(m map[string]any) bool {
			list, _ := m["added_tokens"].([]any)
			slices.Reverse(list)
			return len(list) > 1
		}),
		in("offsets trimmed otherwise", func(m map[string]any) bool {
			list, _ := objectAt(m, "pre_tokenizer")["pretokenizers"].([]any)
			return len(list) > 1 && set(false, "trim_offsets")(list[1].(map[string]any))
		}),
		in("absent for null", func(m map[string]any) bool {
			return lose("normalizer")(m) && lose("post_processor")(m) && lose("truncation")(m)
		}),
		in("no defaults of the model", func(m map[string]any) bool {
			return lose("model", "dropout")(m) && lose("model", "unk_token")(m) && lose("model", "byte_fallback")(m)
		}),
		in("a post-processor that adds nothing", func(m map[string]any) bool {
			text := func(id string, n int) any { return map[string]any{"Sequence": map[string]any{"id": id, "type_id": n}} }
			if m["post_processor"] != nil {
				return false
			}
			m["post_processor"] = map[string]any{"type": "TemplateProcessing", "single": []any{text("A", 0)}, "pair": []any{text("A", 0), text("B", 1)}, "special_tokens": map[string]any{}}
			return true
		}),
		in("offsets moved after the text", func(m map[string]any) bool {
			return m["post_processor"] == nil && set(map[string]any{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}, "post_processor")(m)
		}),
		in("padding of a batch", set(map[string]any{"strategy": "BatchLongest", "direction": "Left", "pad_id": 988, "pad_type_id": 0, "pad_token": "<|endoftext|>"}, "padding")),
		in("another version", set("1.1", "version")),
		{Name: "a template with a comment", Apply: textFile(templateFile, func(s string) string { return "{# conversations #}" + s })},
		{Name: "a template with carriage returns", Apply: textFile(templateFile, func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") })},
		{Name: "a template with a newline at its end", Apply: textFile(templateFile, func(s string) string { return s + "\n" })},
		{Name: "the template in the tokenizer's settings", Apply: func(m Made) (bool, error) {
			raw, err := os.ReadFile(filepath.Join(m.Dir, templateFile))
			if errors.Is(err, os.ErrNotExist) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			if err := os.Remove(filepath.Join(m.Dir, templateFile)); err != nil {
				return false, err
			}
			return EditJSON(m.Dir, tokenizerSets, set(string(raw), "chat_template"))
		}},
		{Name: "the template in both places", Apply: func(m Made) (bool, error) {
			raw, err := os.ReadFile(filepath.Join(m.Dir, templateFile))
			if err != nil {
				return false, nil //nolint:nilerr // not there
			}
			return EditJSON(m.Dir, tokenizerSets, set(string(raw), "chat_template"))
		}},
	}
}
