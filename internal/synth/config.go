package synth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// shrinkConfig returns config.json changed as the options ask, parsed again.
func shrinkConfig(o Options) (*glm.Config, error) {
	full, err := glm.ParseConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	if err := full.RequireUnquantized(); err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	if err := o.fits(full); err != nil {
		return nil, err
	}
	file := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(o.Config))
	dec.UseNumber()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("synth: config.json: %w", err)
	}
	text := file
	if sub, ok := file["text_config"].(map[string]any); ok {
		text = sub
	}
	if o.Layers > 0 {
		keepLayers(text, full, o.Layers)
	}
	if o.Experts > 0 {
		for _, key := range []string{"n_routed_experts", "num_local_experts", "num_experts"} {
			if _, ok := text[key]; ok {
				text[key] = o.Experts
			}
		}
		text["num_experts_per_tok"] = min(full.ExpertsPerToken, o.Experts)
	}
	if o.Vocab > 0 {
		text["vocab_size"] = o.Vocab
		moveTokens(o.Vocab, file, text)
	}
	if o.MTP == MTPNone {
		text["num_nextn_predict_layers"] = 0
	}
	name := map[safetensors.DType]string{safetensors.BF16: "bfloat16", safetensors.F16: "float16", safetensors.F32: "float32"}[o.DType]
	for _, m := range []map[string]any{file, text} {
		for _, key := range []string{"dtype", "torch_dtype"} {
			if _, ok := m[key]; ok {
				m[key] = name
			}
		}
	}
	if o.V5Config {
		toV5(file, text, full)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(file); err != nil {
		return nil, fmt.Errorf("synth: config.json: %w", err)
	}
	cfg, err := glm.ParseConfig(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("synth: %w", err)
	}
	return cfg, nil
}

// fits says what is asked for that the whole model does not have.
func (o *Options) fits(full *glm.Config) error {
	for _, c := range []struct {
		what      string
		ask, have int
	}{{"layers", o.Layers, full.Layers}, {"experts", o.Experts, full.Experts}, {"rows of vocabulary", o.Vocab, full.VocabSize}} {
		if c.ask > c.have {
			return fmt.Errorf("synth: %d %s asked for, the model has %d", c.ask, c.what, c.have)
		}
	}
	if full.MTPLayers == 0 && o.MTP == MTPCopies {
		return errors.New("synth: the model has no MTP layer to hold copies")
	}
	return nil
}

// keepLayers cuts the decoder to n layers in every field that counts them.
func keepLayers(text map[string]any, full *glm.Config, n int) {
	text["num_hidden_layers"] = n
	dense := 0
	for _, d := range full.Dense[:n] {
		if d {
			dense++
		}
	}
	if _, ok := text["first_k_dense_replace"]; ok {
		text["first_k_dense_replace"] = dense
	}
	for _, key := range []string{"mlp_layer_types", "indexer_types"} {
		if list, ok := text[key].([]any); ok {
			text[key] = list[:n]
		}
	}
	if s, ok := text["index_topk_pattern"].(string); ok {
		text["index_topk_pattern"] = s[:n]
	}
}

// moveTokens gives every token id outside the vocabulary a place at its end.
// An id that occurs twice (eos and pad) stays one id.
func moveTokens(vocab int, files ...map[string]any) {
	moved := map[int64]int{}
	move := func(v any) any {
		number, ok := v.(json.Number)
		if !ok {
			return v
		}
		id, err := number.Int64()
		if err != nil || id < int64(vocab) {
			return v
		}
		if _, ok := moved[id]; !ok {
			moved[id] = max(vocab-1-len(moved), 0)
		}
		return moved[id]
	}
	for _, f := range files {
		for _, key := range slices.Sorted(maps.Keys(f)) {
			if len(key) < 9 || key[len(key)-9:] != "_token_id" {
				continue
			}
			if list, ok := f[key].([]any); ok {
				for i := range list {
					list[i] = move(list[i])
				}
				continue
			}
			f[key] = move(f[key])
		}
	}
}

// toV5 renames the fields that transformers 5 calls otherwise
// (docs/facts/families.md 1.1). A config that is v5 already stays as it is.
func toV5(file, text map[string]any, full *glm.Config) {
	if _, ok := text["rope_parameters"].(map[string]any); !ok {
		rope := map[string]any{"rope_type": "default"}
		if old, ok := text["rope_scaling"].(map[string]any); ok {
			maps.Copy(rope, old)
		}
		for _, key := range []string{"rope_theta", "partial_rotary_factor"} {
			if v, ok := text[key]; ok {
				rope[key] = v
			}
			delete(text, key)
		}
		delete(rope, "type")
		delete(text, "rope_scaling")
		text["rope_parameters"] = rope
	}
	if _, ok := text["mlp_layer_types"]; !ok {
		n, _ := text["num_hidden_layers"].(int)
		if n == 0 {
			n = full.Layers
		}
		types := make([]string, n)
		for i := range types {
			types[i] = "sparse"
			if full.Dense[i] {
				types[i] = "dense"
			}
		}
		text["mlp_layer_types"] = types
	}
	for _, m := range []map[string]any{file, text} {
		if v, ok := m["torch_dtype"]; ok {
			m["dtype"] = v
			delete(m, "torch_dtype")
		}
	}
	file["transformers_version"] = "5.0.0"
}
