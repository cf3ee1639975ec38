package check

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

// checkConfig compares config.json with what engines read of it and with
// what is stored.
func (s *subject) checkConfig(ctx context.Context) {
	if s.cfg == nil {
		return
	}
	for _, n := range s.cfg.Notes {
		s.add("config-key-missing", "config.json", "%s", n).as(Info)
	}
	s.checkKeys()
	s.checkMTPDeclared()
	s.checkDType()
	s.checkTied()
	s.checkTokens()
	s.checkFields()
	switch {
	case s.declErr != nil && s.decl == nil:
		s.add("quant-config-invalid", "config.json", "%v", s.declErr)
	case s.declErr != nil: // checkFields
	case s.ascend && s.cfg.QuantizationConfig != nil:
		s.add("config-ascend-quantization", "config.json", "it has a quantization_config (%s) beside quant_model_description.json", s.cfg.Quantization)
	case s.decl == nil:
		s.checkUndeclared()
	case s.stale != nil:
		where := s.cfg.QuantizationFile
		if where == "" {
			where = "config.json: " + s.stale.Field
		}
		s.add("quant-config-stale", where, "%s", s.stale.Reason).hint(s.stale.Advice)
	case !readable(s.decl.method) && s.decl.Method.Known():
		s.add("quant-method-published", "config.json", "quant_method %q", s.decl.method)
		s.checkPatterns(ctx, patternTries)
	case !readable(s.decl.method):
		s.add("quant-method-unknown", "config.json", "quant_method %q", s.decl.method)
	case !s.ascend && !s.has(quant.ManifestName): // glmconv tries its patterns before it writes
		s.checkPatterns(ctx, patternTries)
	}
}

// text returns the object in which the text model's keys stand.
func (s *subject) text() map[string]json.RawMessage {
	if raw, ok := s.keys["text_config"]; ok {
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) == nil {
			return m
		}
	}
	return s.keys
}

// checkKeys looks for keys without which an engine fails or guesses
// (docs/facts/engine-vllm.md 0 fact 9, 3).
func (s *subject) checkKeys() {
	keys := s.text()
	lacks := func(key string) bool { _, ok := keys[key]; return !ok }
	mla := s.cfg.LatentAttention()
	if mla && lacks("topk_method") {
		s.add("config-key-missing", "config.json: topk_method", "vLLM creates the router bias of %s only with topk_method noaux_tc, and raises KeyError without", s.cfg.Family).on("vllm")
	}
	if s.cfg.SparseAttention() {
		shared := false
		for _, full := range s.cfg.IndexerFull {
			shared = shared || !full
		}
		if shared && lacks("index_topk_pattern") && (lacks("index_topk_freq") || lacks("index_skip_topk_offset")) {
			s.add("config-key-missing", "config.json: index_topk_freq", "layers share indexers, and vLLM reads index_topk_freq and index_skip_topk_offset only, not indexer_types: it builds indexers everywhere and leaves them unwritten").on("vllm")
		}
	}
	if s.model != nil && s.model.MTP != nil && lacks("num_nextn_predict_layers") && mla {
		s.add("config-key-missing", "config.json: num_nextn_predict_layers", "without it vLLM takes layer %d for a trunk layer and raises KeyError", s.model.MTP.Layer).on("vllm")
	}
}

func (s *subject) checkMTPDeclared() {
	if s.model == nil {
		return
	}
	stored := false
	for _, m := range s.modules {
		stored = stored || m.row.MTP && (len(m.params) > 0 || m.stack != nil)
	}
	switch {
	case s.cfg.MTPLayers > 0 && !stored:
		s.add("config-mtp-absent", "config.json: num_nextn_predict_layers", "it says %d, and no tensor of layer %d is stored; vLLM drafts from nothing for glm4_moe and fails for the others", s.cfg.MTPLayers, s.cfg.Layers)
	case s.cfg.MTPLayers == 0 && stored:
		f := s.add("config-mtp-undeclared", "config.json: num_nextn_predict_layers", "layer %d is stored and config.json does not declare it", s.cfg.Layers)
		if !s.cfg.MTPDeclared && !s.cfg.LatentAttention() {
			f.as(Warning) // vLLM assumes 1 for glm4_moe
		}
	}
}

// checkTied notices a head of its own where config.json says that the embedding
// is the head: transformers and engines that tie leave the stored one out.
func (s *subject) checkTied() {
	if s.model == nil || !s.cfg.TieEmbeddings {
		return
	}
	if t, ok := s.tensors[s.cfg.HeadName()]; ok {
		s.add("head-tied", "config.json: tie_word_embeddings", "it is true, and %s holds %s: libraries that tie the two compute with the embedding in its place; no GLM was released so", t.File, t.Name)
	}
}

// checkTokens compares the tokenizer's largest id with the embedding's rows.
func (s *subject) checkTokens() {
	if s.used > s.cfg.VocabSize {
		s.add("vocabulary", "tokenizer.json", "it has ids up to %d, and vocab_size is %d: a token beyond the embedding's rows stops an engine, or reads other memory", s.used-1, s.cfg.VocabSize).
			hint("resize embedding and head (transformers: resize_token_embeddings), or take the tokenizer that belongs to the weights")
	}
}

// elements are the element types by the names that config.json has for them.
var elements = map[string]safetensors.DType{
	"bfloat16": safetensors.BF16, "float16": safetensors.F16, "half": safetensors.F16, "float32": safetensors.F32, "float": safetensors.F32,
}

// checkDType compares the element type that config.json names with that of the
// weights in full precision: engines cast them to it and compute in it. F32
// holds every value of the others, and F16 has neither the range nor the steps
// of BF16.
func (s *subject) checkDType() {
	name := strings.TrimPrefix(s.cfg.DType, "torch.")
	if name == "" || s.model == nil {
		return
	}
	key := "config.json: torch_dtype"
	if _, ok := s.text()["dtype"]; ok || s.keys["dtype"] != nil {
		key = "config.json: dtype"
	}
	want, known := elements[name]
	if !known {
		s.add("config-dtype", key, "it says %q, in which no engine computes", s.cfg.DType)
		return
	}
	bytes, total := map[safetensors.DType]int64{}, int64(0)
	half := false // scales in F16: tools of AWQ and GPTQ compute in it, and say so
	for _, m := range s.modules {
		if t, ok := m.params["scales"]; ok && t.DType == safetensors.F16 {
			half = true
		}
		if t, ok := m.params["weight"]; ok && isFloat(t.DType) && len(t.Shape) > 1 {
			bytes[t.DType] += t.Elements()
			total += t.Elements()
		}
	}
	for have, n := range bytes {
		if have == want || 2*n <= total {
			continue
		}
		switch {
		case want == safetensors.F16 && half:
			s.add("config-dtype", key, "it says %s, as the scales are, and the weights in full precision are %s: engines cast them", name, have).as(Info)
		case want == safetensors.F16:
			s.add("config-dtype", key, "it says %s, and the weights in full precision are %s: engines compute in float16, whose largest number is 65504; values beyond it become infinite, small ones 0", name, have)
		case want == safetensors.F32:
			s.add("config-dtype", key, "it says %s, and the weights in full precision are %s: engines that take it at its word need twice the memory for the same values", name, have).as(Info)
		case have == safetensors.F16:
			s.add("config-dtype", key, "it says %s, and the weights in full precision are %s: engines round them to 8 bits from 11", name, have)
		default:
			s.add("config-dtype", key, "it says %s, and the weights in full precision are %s: engines round them", name, have).as(Info)
		}
	}
}

// checkUndeclared looks for codes in a checkpoint whose config knows nothing
// of them.
func (s *subject) checkUndeclared() {
	n, first := s.codes()
	if n == 0 {
		return
	}
	if name, d := s.declaredBeside(); d != nil {
		s.add("config-not-quantized", "config.json", "%d modules are quantised (%s) and there is no quantization_config: %s declares %s, which engines do not read there", n, first.row.Module, name, d.Method).
			hint(d.MoveInto(name))
	} else {
		s.add("config-not-quantized", "config.json", "%d modules are quantised (%s is %s) and there is no quantization_config", n, first.row.Module, first.form)
	}
}

// declaredBeside is the declaration that stands in a file which engines do not
// read, where config.json has none.
func (s *subject) declaredBeside() (string, *declaration.Declaration) {
	if s.decl != nil || s.ascend {
		return "", nil
	}
	return declaration.Beside(func(name string) ([]byte, error) {
		if !s.has(name) {
			return nil, nil
		}
		return s.read(name)
	})
}

// undeclaredBut tells whether codes are declared in a file alone.
func (s *subject) undeclaredBut(name string) bool {
	n, _ := s.codes()
	file, _ := s.declaredBeside()
	return n > 0 && file == name
}

// codes counts the modules that hold codes; the first of them, nil for none.
func (s *subject) codes() (n int, first *module) {
	for _, m := range s.modules {
		if m.form.quantized() {
			if n++; first == nil {
				first = m
			}
		}
	}
	return n, first
}
