package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// half cuts a file in the middle.
func cutInHalf(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		patch(t, filepath.Join(dir, name), func(b []byte) []byte { return b[:len(b)/2] })
	}
}

// mark puts a byte order mark before a file.
func mark(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		patch(t, filepath.Join(dir, name), func(b []byte) []byte { return append([]byte("\xef\xbb\xbf"), b...) })
	}
}

func settings(name, key string, v any) func(*testing.T, string) {
	return func(t *testing.T, dir string) { edit(t, dir, name, func(m map[string]any) { m[key] = v }) }
}

func template(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { replace(t, dir, "chat_template.jinja", text) }
}

const plainTemplate = "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"

// besideMutations damage what lies beside the weights.
var besideMutations = []mutation{
	{"tokenizer cut", "nano-glm4moe", cutInHalf("tokenizer.json"), "beside-unreadable", "tokenizer.json", true, nil},
	{"tokenizer empty", "nano-glm4moe", func(t *testing.T, dir string) { replace(t, dir, "tokenizer.json", "") }, "beside-unreadable", "tokenizer.json", true, nil},
	{"tokenizer without a model", "nano-glm4moe", func(t *testing.T, dir string) { replace(t, dir, "tokenizer.json", "{}") }, "beside-unreadable", "tokenizer.json", true, nil},
	{"merges of another vocabulary", "nano-glm4moe", func(t *testing.T, dir string) {
		edit(t, dir, "tokenizer.json", func(m map[string]any) {
			model := m["model"].(map[string]any)
			model["merges"] = append(model["merges"].([]any), []any{"Ham", "burgish"})
		})
	}, "beside-unreadable", "merges", true, nil},
	{"tokenizer settings cut", "nano-glm4moe", cutInHalf("tokenizer_config.json"), "beside-unreadable", "tokenizer_config.json", true, nil},
	{"tokenizer settings with a mark", "nano-glm4moe", mark("tokenizer_config.json"), "beside-unreadable", "tokenizer_config.json", true, nil},
	{"tokenizer settings are a list", "nano-glm4moe", func(t *testing.T, dir string) { replace(t, dir, "tokenizer_config.json", "[]") }, "beside-unreadable", "tokenizer_config.json", true, nil},
	{"generation settings cut", "nano-glm4moe", cutInHalf("generation_config.json"), "beside-unreadable", "generation_config.json", true, nil},
	{"generation settings twice", "nano-glm5", func(t *testing.T, dir string) {
		patch(t, filepath.Join(dir, "generation_config.json"), func(b []byte) []byte { return append(b, b...) })
	}, "beside-unreadable", "generation_config.json", true, nil},
	{"preprocessor cut", "nano-glm45v", cutInHalf("preprocessor_config.json"), "beside-unreadable", "preprocessor_config.json", true, nil},
	{"preprocessor in Latin-1", "nano-glm45v", func(t *testing.T, dir string) {
		replace(t, dir, "video_preprocessor_config.json", "{\"a\": \"\xfc\"}")
	}, "beside-unreadable", "video_preprocessor", true, nil},

	{"end beyond the vocabulary", "nano-glm4moe", settings("generation_config.json", "eos_token_id", []any{988, 151336}), "token-ids", "generation_config.json: eos", true, nil},
	{"end of config.json beyond the vocabulary", "nano-glm5", settings("config.json", "eos_token_id", 154820), "token-ids", "config.json: eos", true, nil},
	{"padding beyond the vocabulary", "nano-glm4moe", settings("config.json", "pad_token_id", 1088), "token-ids", "config.json: pad", true, nil},
	{"padding of settings beyond the vocabulary", "nano-glm52", settings("generation_config.json", "pad_token_id", 151329), "token-ids", "generation_config.json: pad", true, nil},
	{"ends are ordinary text", "nano-glm4moe", settings("generation_config.json", "eos_token_id", []any{1, 2, 300}), "end-tokens", "generation_config.json: eos", true, nil},
	{"end that no token has", "nano-glm4moe", settings("config.json", "eos_token_id", 1070), "end-tokens", "config.json: eos", true, nil},
	{"one end is ordinary text", "nano-glm4moe", settings("generation_config.json", "eos_token_id", []any{988, 12}), "end-tokens", "generation_config.json: eos", false, nil},
	{"end that the tokenizer lacks", "nano-glm4moe", settings("tokenizer_config.json", "eos_token", "</s>"), "end-tokens", "tokenizer_config.json: eos_token", false, nil},

	{"template cut", "nano-glm4moe", template(plainTemplate[:60]), "chat-template", "chat_template.jinja", true, nil},
	{"template in the settings cut", "nano-glm4moe", settings("tokenizer_config.json", "chat_template", "{% for m in messages %}{{ m.content"), "chat-template", "tokenizer_config.json", true, nil},
	{"template that raises", "nano-glm4moe", template(`{{ raise_exception("no") }}`), "chat-template", "chat_template.jinja", true, nil},
	{"template of an unknown filter", "nano-glm4moe", template(`{{ messages[0].content | shout }}`), "chat-template", "chat_template.jinja", true, nil},
	{"template that loses the question", "nano-glm4moe", template("[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>{{ m.text }}{% endfor %}"), "chat-template", "chat_template.jinja", true, nil},

	{"image id of another token", "nano-glm45v", settings("config.json", "image_token_id", 1023), "media-tokens", "image_token_id", true, nil},
	{"image id of text", "nano-glm45v", settings("config.json", "image_token_id", 5), "media-tokens", "image_token_id", true, nil},
	{"video id of nothing", "nano-glm45v", settings("config.json", "video_token_id", 1080), "media-tokens", "video_token_id", true, nil},
	{"start id of another token", "nano-glm45v", settings("config.json", "image_start_token_id", 1000), "media-tokens", "image_start_token_id", true, nil},

	{"other patches", "nano-glm45v", settings("preprocessor_config.json", "patch_size", 16), "preprocessor-patches", "preprocessor_config.json: patch_size", true, nil},
	{"other merging", "nano-glm45v", settings("preprocessor_config.json", "merge_size", 4), "preprocessor-patches", "merge_size", true, nil},
	{"other patches of clips", "nano-glm45v", settings("video_preprocessor_config.json", "temporal_patch_size", 1), "preprocessor-patches", "video_preprocessor_config.json: temporal", true, nil},
	{"other patches of a processor", "nano-glm45v", func(t *testing.T, dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, "preprocessor_config.json")))
		replace(t, dir, "processor_config.json", `{"image_processor": {"patch_size": 28}}`)
	}, "preprocessor-patches", "processor_config.json: image_processor", true, nil},
}

func init() { mutations = append(mutations, besideMutations...) }

// TestCompanionsThatAreRight: other ways to write the same are no findings.
func TestCompanionsThatAreRight(t *testing.T) {
	codes := map[string]bool{}
	for _, c := range besideCodes {
		codes[c] = true
	}
	for _, m := range []struct {
		name, base string
		change     func(t *testing.T, dir string)
	}{
		{"one end", "nano-glm4moe", settings("generation_config.json", "eos_token_id", 995)},
		{"no ends", "nano-glm4moe", settings("generation_config.json", "eos_token_id", nil)},
		{"no generation settings", "nano-glm5", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "generation_config.json")))
		}},
		{"numbers of Python", "nano-glm4moe", func(t *testing.T, dir string) {
			patch(t, filepath.Join(dir, "tokenizer_config.json"), func(b []byte) []byte {
				return []byte(strings.Replace(string(b), `"model_max_length": 128000`, `"model_max_length": Infinity, "note": "NaN \" Infinity"`, 1))
			})
		}},
		{"merges in pairs, tokens of other kinds", "nano-glm4moe", func(t *testing.T, dir string) {
			edit(t, dir, "tokenizer.json", func(m map[string]any) {
				list := m["model"].(map[string]any)["merges"].([]any)
				for i, x := range list {
					if s, ok := x.(string); ok {
						a, b, _ := strings.Cut(s, " ")
						list[i] = []any{a, b}
					}
				}
			})
		}},
		{"a tokenizer that is no BPE", "nano-glm4moe", func(t *testing.T, dir string) {
			replace(t, dir, "tokenizer.json", `{"model": {"type": "Unigram", "vocab": [["a", -1.5]]}}`)
		}},
		{"padding -1", "nano-glm4moe", settings("generation_config.json", "pad_token_id", -1)},
		{"template", "nano-glm4moe", template(plainTemplate)},
		{"template with a token of the settings", "nano-glm4moe", template("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}")},
		{"template that asks for a system message", "nano-glm4moe", template("{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[1].content }}")},
		{"template of parts", "nano-glm45v", template("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}")},
		{"named templates", "nano-glm4moe", settings("tokenizer_config.json", "chat_template", []any{map[string]any{"name": "default", "template": plainTemplate}})},
		{"broken preprocessor of a text model", "nano-glm4moe", func(t *testing.T, dir string) { replace(t, dir, "preprocessor_config.json", "{") }},
		{"patches as decimals", "nano-glm45v", settings("preprocessor_config.json", "patch_size", 14.0)},
		{"no media ids", "nano-glm45v", config(func(m map[string]any) { delete(m, "image_token_id") })},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := good(t, m.base)
			m.change(t, dir)
			for _, f := range examine(t, dir, Options{}).Findings {
				assert.False(t, codes[f.Code], "%s: %s: %s", f.Code, f.Where, f.Detail)
			}
		})
	}
}
