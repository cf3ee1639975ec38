package check

import (
	"encoding/json"

	"github.com/glmconv/glmconv/quant"
)

// checkConfig compares config.json with what engines read of it and with
// what is stored.
func (s *subject) checkConfig() {
	if s.cfg == nil {
		return
	}
	for _, n := range s.cfg.Notes {
		s.add("config-key-missing", "config.json", "%s", n).as(Info)
	}
	s.checkKeys()
	s.checkMTPDeclared()
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
		s.add("quant-config-stale", "config.json: quantization_config", "%s", s.stale.Reason)
	case !readable(s.decl.method) && s.decl.Method.Known():
		s.add("quant-method-published", "config.json", "quant_method %q", s.decl.method)
		s.checkPatterns()
	case !readable(s.decl.method):
		s.add("quant-method-unknown", "config.json", "quant_method %q", s.decl.method)
	case !s.ascend && !s.has(quant.ManifestName): // glmconv tries its patterns before it writes
		s.checkPatterns()
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

// checkUndeclared looks for codes in a checkpoint whose config knows nothing
// of them.
func (s *subject) checkUndeclared() {
	n, first := 0, (*module)(nil)
	for _, m := range s.modules {
		if m.form.quantized() {
			if n++; first == nil {
				first = m
			}
		}
	}
	if n > 0 {
		s.add("config-not-quantized", "config.json", "%d modules are quantised (%s is %s) and there is no quantization_config", n, first.row.Module, first.form)
	}
}
