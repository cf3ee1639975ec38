package companion

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// folder copies the companions of a reference model into a fresh folder.
func folder(t *testing.T, model string) string {
	t.Helper()
	from, to := testkit.Shared(t, "reference/"+model), t.TempDir()
	entries, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") {
			raw, err := os.ReadFile(filepath.Join(from, e.Name()))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(to, e.Name()), raw, 0o600))
		}
	}
	return to
}

// edit changes a JSON file.
func edit(t *testing.T, dir, name string, change func(map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, name)
	m := map[string]any{}
	if raw, err := os.ReadFile(path); err == nil {
		require.NoError(t, json.Unmarshal(raw, &m))
	}
	change(m)
	raw, err := json.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

func at(m map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		m, _ = m[k].(map[string]any)
	}
	return m
}

type change struct {
	name  string
	model string // "" for nano-glm4moe
	file  string
	edit  func(map[string]any)
	where string // what the difference names
}

func TestDifferencesThatMatter(t *testing.T) {
	for _, c := range []change{
		{"merges in another order", "", "tokenizer.json", func(m map[string]any) {
			list := at(m, "model")["merges"].([]any)
			list[10], list[11] = list[11], list[10]
		}, "tokenizer.json: model.merges[10]"},
		{"a merge lost", "", "tokenizer.json", func(m map[string]any) {
			o := at(m, "model")
			o["merges"] = o["merges"].([]any)[:100]
		}, "tokenizer.json: model.merges[100]"},
		{"ignore_merges off", "", "tokenizer.json", func(m map[string]any) { at(m, "model")["ignore_merges"] = false }, "tokenizer.json: model"},
		{"a normalizer", "", "tokenizer.json", func(m map[string]any) { m["normalizer"] = map[string]any{"type": "NFC"} }, "tokenizer.json: normalizer"},
		{"digits split otherwise", "", "tokenizer.json", func(m map[string]any) {
			list := at(m, "pre_tokenizer")["pretokenizers"].([]any)
			list[0].(map[string]any)["pattern"] = map[string]any{"Regex": `\p{N}|\s+`}
		}, "tokenizer.json: pre_tokenizer"},
		{"a post-processor", "", "tokenizer.json", func(m map[string]any) {
			m["post_processor"] = map[string]any{"type": "TemplateProcessing", "single": []any{}}
		}, "tokenizer.json: post_processor"},
		{"a marker that is not special", "", "tokenizer.json", func(m map[string]any) {
			m["added_tokens"].([]any)[3].(map[string]any)["special"] = false
		}, "added_tokens, id 991"},
		{"a marker that strips", "", "tokenizer.json", func(m map[string]any) {
			m["added_tokens"].([]any)[3].(map[string]any)["lstrip"] = true
		}, "added_tokens, id 991"},
		{"two ids exchanged", "", "tokenizer.json", func(m map[string]any) {
			v := at(m, "model", "vocab")
			v["a"], v["b"] = v["b"], v["a"]
		}, `tokenizer.json: model.vocab["a"]`},
		{"a token before every text", "", "tokenizer_config.json", func(m map[string]any) { m["add_bos_token"] = true }, "add_bos_token"},
		{"another end token", "", "tokenizer_config.json", func(m map[string]any) { m["eos_token"] = "<|user|>" }, "eos_token"},
		{"case lost", "", "tokenizer_config.json", func(m map[string]any) { m["do_lower_case"] = true }, "do_lower_case"},
		{"a shorter context", "", "tokenizer_config.json", func(m map[string]any) { m["model_max_length"] = 512 }, "model_max_length"},
		{"one end token lost", "", "generation_config.json", func(m map[string]any) { m["eos_token_id"] = 988 }, "generation_config.json: eos_token_id"},
		{"temperature", "", "generation_config.json", func(m map[string]any) { m["temperature"] = 1.8 }, "generation_config.json: temperature"},
		{"sampling", "", "generation_config.json", func(m map[string]any) { m["do_sample"] = true }, "generation_config.json: do_sample"},
		{"a penalty", "", "generation_config.json", func(m map[string]any) { m["repetition_penalty"] = 1.3 }, "repetition_penalty"},
		{"mean of pictures", "nano-glm45v", "preprocessor_config.json", func(m map[string]any) { m["image_mean"] = []any{0.5, 0.5, 0.5} }, "image_mean"},
		{"largest picture", "nano-glm45v", "preprocessor_config.json", func(m map[string]any) { at(m, "size")["longest_edge"] = 1 << 20 }, "size.longest_edge"},
		{"clips", "nano-glm45v", "video_preprocessor_config.json", func(m map[string]any) { m["temporal_patch_size"] = 1 }, "temporal_patch_size"},
		{"rotary base", "", "config.json", func(m map[string]any) { m["rope_theta"] = 5e5 }, "config.json: rope_theta"},
		{"rotary base, nested", "nano-glm5", "config.json", func(m map[string]any) { at(m, "rope_parameters")["rope_theta"] = 10000 }, "config.json: rope_parameters.rope_theta"},
		{"a second rotary base", "nano-glm5", "config.json", func(m map[string]any) { m["rope_theta"] = 10000 }, "config.json: rope_theta"},
		{"experts per token", "", "config.json", func(m map[string]any) { m["num_experts_per_tok"] = 1 }, "config.json: num_experts_per_tok"},
		{"scaling", "", "config.json", func(m map[string]any) { m["routed_scaling_factor"] = 1.5 }, "config.json: routed_scaling_factor"},
		{"indexer", "nano-glm5", "config.json", func(m map[string]any) { m["index_topk"] = 8 }, "config.json: index_topk"},
		{"text config", "nano-glm45v", "config.json", func(m map[string]any) { at(m, "text_config")["rms_norm_eps"] = 1e-3 }, "config.json: text_config.rms_norm_eps"},
		{"vision config", "nano-glm45v", "config.json", func(m map[string]any) { at(m, "vision_config")["rms_norm_eps"] = 1e-3 }, "config.json: vision_config.rms_norm_eps"},
		{"picture token", "nano-glm45v", "config.json", func(m map[string]any) { m["image_token_id"] = 5 }, "config.json: image_token_id"},
		{"a window", "", "config.json", func(m map[string]any) { m["sliding_window"] = 1024 }, "config.json: sliding_window"},
		{"no MTP layers", "", "config.json", func(m map[string]any) { m["num_mtp_layers"] = 0 }, "config.json: num_mtp_layers"},
		{"end tokens of the config", "", "config.json", func(m map[string]any) { m["eos_token_id"] = []any{1} }, "config.json: eos_token_id"},
		{"another model", "", "config.json", func(m map[string]any) { m["model_type"] = "llama" }, "config.json: model_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := c.model
			if model == "" {
				model = "nano-glm4moe"
			}
			src, dst := folder(t, model), folder(t, model)
			edit(t, dst, c.file, c.edit)
			list, err := Compare(t.Context(), src, dst)
			require.NoError(t, err)
			var places []string
			for _, d := range list {
				if d.Matters {
					places = append(places, d.Where())
				}
			}
			require.NotEmpty(t, places, "%v", list)
			assert.Contains(t, strings.Join(places, "; "), c.where, "%v", list)
			assert.LessOrEqual(t, len(places), 2, "one change is not many: %v", list)
		})
	}
}

func TestTheSameInOtherWords(t *testing.T) {
	for _, c := range []change{
		{"merges as texts", "", "tokenizer.json", func(m map[string]any) {
			list := at(m, "model")["merges"].([]any)
			for i, e := range list {
				p := e.([]any)
				list[i] = p[0].(string) + " " + p[1].(string)
			}
		}, ""},
		{"a sequence of one", "", "tokenizer.json", func(m map[string]any) {
			m["decoder"] = map[string]any{"type": "Sequence", "decoders": []any{m["decoder"]}}
		}, ""},
		{"offsets", "", "tokenizer.json", func(m map[string]any) { at(m, "decoder")["trim_offsets"] = false }, ""},
		{"padding", "", "tokenizer.json", func(m map[string]any) { m["padding"] = map[string]any{"strategy": "BatchLongest"} }, ""},
		{"fast class", "", "tokenizer_config.json", func(m map[string]any) { m["tokenizer_class"] = "TokenizersBackend" }, ""},
		{"v5 name of markers", "", "tokenizer_config.json", func(m map[string]any) {
			m["extra_special_tokens"] = m["additional_special_tokens"]
			delete(m, "additional_special_tokens")
		}, ""},
		{"token as an object", "", "tokenizer_config.json", func(m map[string]any) {
			m["eos_token"] = map[string]any{"content": "<|endoftext|>", "lstrip": false}
		}, ""},
		{"padding side", "", "tokenizer_config.json", func(m map[string]any) { m["padding_side"] = "right" }, ""},
		{"end tokens in another order", "", "generation_config.json", func(m map[string]any) { m["eos_token_id"] = []any{997, 988, 995} }, ""},
		{"defaults written out", "", "generation_config.json", func(m map[string]any) { m["temperature"], m["top_p"] = 1.0, 1 }, ""},
		{"version", "", "generation_config.json", func(m map[string]any) { m["transformers_version"] = "5.17.0" }, ""},
		{"fast processor", "nano-glm45v", "preprocessor_config.json", func(m map[string]any) { m["image_processor_type"] = "Glm4vImageProcessorFast" }, ""},
		{"processor defaults", "nano-glm45v", "preprocessor_config.json", func(m map[string]any) { m["do_normalize"] = true }, ""},
		{"v5 rope", "", "config.json", func(m map[string]any) {
			m["rope_parameters"] = map[string]any{"rope_type": "default", "rope_theta": m["rope_theta"], "partial_rotary_factor": m["partial_rotary_factor"]}
			delete(m, "rope_theta")
			delete(m, "partial_rotary_factor")
			delete(m, "rope_scaling")
		}, ""},
		{"v4 rope", "nano-glm5", "config.json", func(m map[string]any) {
			m["rope_theta"] = at(m, "rope_parameters")["rope_theta"]
			delete(m, "rope_parameters")
		}, ""},
		{"v5 dtype", "", "config.json", func(m map[string]any) {
			delete(m, "torch_dtype")
			m["dtype"] = "bfloat16"
		}, ""},
		{"layer types as a count", "nano-glm5", "config.json", func(m map[string]any) { delete(m, "mlp_layer_types") }, ""},
		{"cache", "", "config.json", func(m map[string]any) { m["use_cache"] = false }, ""},
		{"training leftovers", "", "config.json", func(m map[string]any) { m["_name_or_path"], m["attention_dropout"] = "/tmp/x", 0.1 }, ""},
		{"one more number form", "", "config.json", func(m map[string]any) { m["routed_scaling_factor"] = json.Number("1.0e0") }, ""},
		{"NVIDIA's additions", "", "config.json", func(m map[string]any) {
			m["num_experts"], m["bos_token_id"] = m["n_routed_experts"], 1
			m["layer_types"] = []any{"full_attention", "full_attention"}
			m["mlp_bias"] = false
		}, ""},
		{"no window", "", "config.json", func(m map[string]any) { m["sliding_window"] = nil }, ""},
		{"an unknown key", "", "config.json", func(m map[string]any) { m["my_trainer_run"] = "a1" }, ""},
		{"quantized", "", "config.json", func(m map[string]any) { m["quantization_config"] = map[string]any{"quant_method": "fp8"} }, ""},
		{"one end token as a number", "", "config.json", func(m map[string]any) { m["eos_token_id"] = []any{995, 988, 997} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := c.model
			if model == "" {
				model = "nano-glm4moe"
			}
			src, dst := folder(t, model), folder(t, model)
			edit(t, dst, c.file, c.edit)
			list, err := Compare(t.Context(), src, dst)
			require.NoError(t, err)
			for _, d := range list {
				assert.False(t, d.Matters, "%s %s", d.Where(), d.Detail())
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	const template = "{# roles #}{%- for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
	for _, c := range []struct {
		name, source, result string
		file                 bool // the result's stands in its own file
		matters              bool
		why                  string
	}{
		{"the same in a file of its own", template, template + "\n", true, false, ""},
		{"a comment", template, strings.Replace(template, "roles", "all roles", 1), false, false, ""},
		{"line ends", template + "\nx", template + "\r\nx", false, false, ""},
		{"another marker", template, strings.Replace(template, "<|assistant|>", "<|user|>", 1), false, true, "a question"},
		{"a newline lost", template, strings.Replace(template, "|>\n{{", "|>{{", 1), true, true, "a question"},
		{"lost", template, "", false, true, "no prompt"},
		{"broken", template, "{% if %}", true, true, ""},
		{"a branch that no probe takes", template, template + "{% if reasoning_effort == 'max' %}!{% endif %}", false, true, "text differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, dst := folder(t, "nano-glm4moe"), folder(t, "nano-glm4moe")
			edit(t, src, "tokenizer_config.json", func(m map[string]any) { m["chat_template"] = c.source })
			if c.file {
				require.NoError(t, os.WriteFile(filepath.Join(dst, "chat_template.jinja"), []byte(c.result), 0o600))
			} else if c.result != "" {
				edit(t, dst, "tokenizer_config.json", func(m map[string]any) { m["chat_template"] = c.result })
			}
			list, err := Compare(t.Context(), src, dst)
			require.NoError(t, err)
			matters := false
			for _, d := range list {
				matters = matters || d.Matters
				assert.Contains(t, d.Detail(), c.why)
			}
			assert.Equal(t, c.matters, matters, "%v", list)
		})
	}
}

func TestAddedTemplate(t *testing.T) {
	src, dst := folder(t, "nano-glm4moe"), folder(t, "nano-glm4moe")
	for _, dir := range []string{src, dst} {
		edit(t, dir, "tokenizer_config.json", func(m map[string]any) { delete(m, "chat_template") })
	}
	list, err := Compare(t.Context(), src, dst)
	require.NoError(t, err)
	require.Empty(t, list)
	edit(t, dst, "tokenizer_config.json", func(m map[string]any) { m["chat_template"] = "{{ messages[0].content }}" })
	list, err = Compare(t.Context(), src, dst)
	require.NoError(t, err)
	require.Len(t, list, 1, "%v", list)
	assert.Equal(t, "chat template", list[0].Path)
	assert.False(t, list[0].Matters)
}

func TestLostFiles(t *testing.T) {
	for _, c := range []struct{ model, file string }{
		{"nano-glm4moe", "tokenizer.json"}, {"nano-glm4moe", "tokenizer_config.json"}, {"nano-glm4moe", "config.json"},
		{"nano-glm45v", "preprocessor_config.json"}, {"nano-glm45v", "video_preprocessor_config.json"},
	} {
		t.Run(c.file, func(t *testing.T) {
			src, dst := folder(t, c.model), folder(t, c.model)
			require.NoError(t, os.Remove(filepath.Join(dst, c.file)))
			list, err := Compare(t.Context(), src, dst)
			require.NoError(t, err)
			require.NotEmpty(t, list)
			assert.True(t, list[0].Matters)
			assert.Equal(t, c.file, list[0].File)
			other, err := Compare(t.Context(), dst, src)
			require.NoError(t, err)
			for _, d := range other {
				assert.False(t, d.Matters, "what the source lacks is no loss: %v", d)
			}
		})
	}
}

func TestEqualFoldersDifferInNothing(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "nano-glm45v", "nano-glm5", "nano-glm52"} {
		t.Run(model, func(t *testing.T) {
			dir := testkit.Shared(t, "reference/"+model)
			list, err := Compare(t.Context(), dir, dir)
			require.NoError(t, err)
			assert.Empty(t, list)
		})
	}
}
