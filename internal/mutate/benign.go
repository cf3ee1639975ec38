package mutate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// Benign lists changes that alter nothing of what a result answers: what other
// tools, libraries and hubs do to a folder. None of them may be called a fault.
func Benign() []Fault {
	var out []Fault
	for _, group := range []struct {
		name string
		list []Fault
	}{{"files", sameFiles()}, {"JSON", sameJSON()}, {"configuration", sameConfig()}, {"tokenizer", sameTokenizer()}, {"settings", sameSettings()}, {"declaration", sameDeclaration()}} {
		for _, f := range group.list {
			f.Group = group.name
			out = append(out, f)
		}
	}
	return out
}

// sameFiles are other files with the same tensors, and files more.
func sameFiles() []Fault {
	extra := func(name, content string) Fault {
		return Fault{Name: "with " + name, Apply: with(content, name)}
	}
	return []Fault{
		{Name: "in one file", Bare: true, Apply: resharded(1)},
		{Name: "in three files", Bare: true, Apply: resharded(3)},
		{Name: "in five files", Bare: true, Apply: resharded(5)},
		{Name: "in one file without an index", Bare: true, Apply: func(m Made) (bool, error) {
			if hit, err := resharded(1)(m); !hit || err != nil {
				return hit, err
			}
			name, err := indexOf(m.Dir)
			if err != nil {
				return false, err
			}
			return true, os.Remove(filepath.Join(m.Dir, name))
		}},
		{Name: "tensors in another order", Apply: reordered},
		{Name: "norms in F32", Apply: onSet(func(s Set) bool {
			return s.widen(func(n string) bool { return strings.HasSuffix(n, "layernorm.weight") })
		})},
		{Name: "the final norm in F32", Apply: onSet(func(s Set) bool {
			return s.widen(func(n string) bool { return strings.HasSuffix(n, "model.norm.weight") })
		})},
		{Name: "as a hub's cache keeps it", Apply: cached},
		{Name: "with links to files within", Apply: func(m Made) (bool, error) {
			name := filepath.Join(m.Dir, tokenizerSets)
			if err := os.Rename(name, filepath.Join(m.Dir, "settings.json")); err != nil {
				return false, err
			}
			return true, os.Symlink("settings.json", name)
		}},
		{Name: "an index without its size", Apply: inIndex(lose("metadata"))},
		{Name: "an index with more metadata", Apply: inIndex(func(m map[string]any) bool {
			return set("1", "metadata", "total_parameters")(m)
		})},
		extra("README.md", "# A model\n"), extra("LICENSE", "MIT\n"), extra(".gitattributes", "*.safetensors filter=lfs\n"), extra("recipe.yaml", "default_stage: {}\n"),
		extra(".cache/huggingface/download/config.json.metadata", "x\n"), extra("assets/logo.svg", "<svg/>\n"), extra(".DS_Store", "x"),
		extra("special_tokens_map.json", "{\"eos_token\": \"<|endoftext|>\"}\n"), extra("added_tokens.json", "{}\n"), extra("results.json", "{\"mmlu\": 0.5}\n"),
		extra("figures/plot.png", "x"), extra("docs/usage.txt", "x"), extra("quantize.log", "done\n"), extra("checksums.txt", "x\n"),
	}
}

// sameJSON are other spellings of JSON files.
func sameJSON() (out []Fault) {
	for _, file := range []string{configName, tokenizerFile, tokenizerSets, generationFile, descriptionName, "preprocessor_config.json"} {
		for _, how := range []struct {
			name  string
			spell func(raw []byte) ([]byte, error)
		}{{"on one line", compact}, {"with other spaces", indented}, {"with carriage returns", returns}, {"keys sorted", sorted}, {"letters escaped", escaped}} {
			if how.name == "letters escaped" && file != tokenizerFile && file != tokenizerSets {
				continue
			}
			if (file == tokenizerFile || file == descriptionName) && how.name == "with carriage returns" {
				continue
			}
			out = append(out, Fault{Name: file + " " + how.name, Apply: textFile(file, func(s string) string {
				raw, err := how.spell([]byte(s))
				if err != nil {
					return s
				}
				return string(raw)
			})})
		}
	}
	return out
}

func compact(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Compact(&b, raw)
	return b.Bytes(), err
}

func indented(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Indent(&b, raw, "", "\t")
	return b.Bytes(), err
}

func returns(raw []byte) ([]byte, error) {
	return bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")), nil
}

func sorted(raw []byte) ([]byte, error) {
	m, err := object(raw)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(m, "", "  ")
}

func escaped(raw []byte) ([]byte, error) {
	return bytes.ReplaceAll(raw, []byte("<|"), []byte(`\u003c|`)), nil
}

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

// inIndex changes the index.
func inIndex(fn func(map[string]any) bool) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		name, err := indexOf(m.Dir)
		if err != nil || name == "" {
			return false, err
		}
		return EditJSON(m.Dir, name, fn)
	}
}

func indexOf(dir string) (string, error) {
	c, err := safetensors.OpenDir(dir)
	if err != nil {
		return "", err
	}
	return c.IndexName(), c.Close()
}

// resharded spreads the tensors over n files.
func resharded(n int) func(Made) (bool, error) {
	return onSet(func(s Set) bool {
		names := s.Names(func(string) bool { return true })
		base := "model"
		if strings.HasPrefix(s[names[0]].File, "quant_model_weights") {
			base = "quant_model_weights"
		}
		for i, name := range names {
			s[name].File = fmt.Sprintf("%s-%05d-of-%05d.safetensors", base, i*n/len(names)+1, n)
		}
		return true
	})
}

// reordered writes the tensors of each file in the reverse order.
func reordered(m Made) (bool, error) {
	c, err := safetensors.OpenDir(m.Dir)
	if err != nil {
		return false, err
	}
	files := map[string][]*Tensor{}
	for _, x := range c.Tensors() {
		t := &Tensor{safetensors.Spec{Name: x.Name, DType: x.DType, Shape: slices.Clone(x.Shape)}, x.File, make([]byte, x.Size)}
		if err := c.ReadAt(x, 0, t.Data); err != nil {
			return false, errors.Join(err, c.Close())
		}
		files[x.File] = append(files[x.File], t)
	}
	if err := c.Close(); err != nil {
		return false, err
	}
	for file, list := range files {
		slices.SortFunc(list, func(a, b *Tensor) int { return strings.Compare(b.Name, a.Name) })
		slices.SortStableFunc(list, func(a, b *Tensor) int { return b.DType.Bits() - a.DType.Bits() })
		if err := writeShard(m.Dir, file, list); err != nil {
			return false, err
		}
	}
	return true, forge(m.Dir)
}

// widen stores BF16 tensors as F32.
func (s Set) widen(match func(string) bool) bool {
	hit := false
	for _, n := range s.Names(match) {
		t := s[n]
		if t.DType != safetensors.BF16 {
			continue
		}
		out := make([]byte, 0, 2*len(t.Data))
		for i := 0; i < len(t.Data); i += 2 {
			out = append(out, 0, 0, t.Data[i], t.Data[i+1])
		}
		t.DType, t.Data, hit = safetensors.F32, out, true
	}
	return hit
}

// cached lays the folder out as a hub's cache does: links to blobs.
func cached(m Made) (bool, error) {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return false, err
	}
	root := m.Dir + "-hub"
	blobs, shot := filepath.Join(root, "blobs"), filepath.Join(root, "snapshots", "0123456789abcdef")
	for _, dir := range []string{blobs, shot} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return false, err
		}
	}
	for i, e := range entries {
		blob := fmt.Sprintf("%064x", i+1)
		if err := os.Rename(filepath.Join(m.Dir, e.Name()), filepath.Join(blobs, blob)); err != nil {
			return false, err
		}
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(shot, e.Name())); err != nil {
			return false, err
		}
	}
	if err := os.Remove(m.Dir); err != nil {
		return false, err
	}
	return true, os.Symlink(shot, m.Dir)
}
