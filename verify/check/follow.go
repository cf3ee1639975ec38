package check

import (
	"slices"
	"strings"
)

// absence are the codes of what is missing or seems to be.
var absence = []string{
	"tensor-missing", "router-bias-missing", "mtp-incomplete", "config-mtp-absent", "mtp-copy-missing", "companion-missing",
	"description-entry-unused", "description-mismatch", "rot-missing", "group-mixed", "experts-mixed",
}

// follows are the findings that are only what follows from another one. They
// are left out: one fault, one finding.
var follows = map[string][]string{
	"foreign-names":      append([]string{"tensor-unexpected", "config-mtp-undeclared", "weight-not-quantized", "config-not-quantized"}, absence...),
	"layer-count":        append([]string{"tensor-unexpected", "tensor-shape", "config-mtp-undeclared"}, absence...),
	"expert-count":       {"tensor-shape", "tensor-unexpected", "tensor-missing", "mtp-incomplete"},
	"config-other-model": append([]string{"tensor-unexpected", "tensor-shape", "config-mtp-undeclared", "weight-not-quantized", "token-ids", "end-tokens", "media-tokens"}, absence...),
	"config-size":        append([]string{"tensor-shape", "companion-shape", "weight-encoding"}, absence...),
	"config-key-wrong":   {"tensor-missing", "tensor-unexpected", "companion-unexpected", "router-bias-missing", "weight-not-quantized", "mtp-incomplete"},
	"config-indexers":    {"tensor-unexpected", "config-key-missing"},
	"config-mtp-count":   {"mtp-incomplete", "router-bias-missing", "mtp-copy-missing"},
	"adapter-alone":      append([]string{"tensor-unexpected", "foreign-names", "config-mtp-undeclared"}, absence...),
	"description-names": {
		"description-entry-missing", "description-entry-unused", "description-mismatch", "weight-encoding", "weight-not-quantized", "ignored-but-quantized", "description-scheme",
	},
	"description-invalid": {
		"description-entry-missing", "description-entry-unused", "description-mismatch", "weight-encoding", "weight-not-quantized", "ignored-but-quantized",
		"config-not-quantized",
	},
	"mtp-shape":          {"tensor-shape", "tensor-unexpected", "mtp-incomplete", "tensor-missing"},
	"vocabulary":         {"tensor-shape", "token-ids"},
	"mtp-copy-stale":     {"tensor-shape"},
	"rotation-mixed":     {"mtp-copy-stale"},
	"not-safetensors":    {"shard-missing"},
	"file-beside-folder": {"shard-missing"},
	"lfs-pointer":        {"shard-invalid", "config-invalid", "description-invalid", "index-invalid", "file-size"},
	"index-invalid":      append([]string{"shard-unlisted"}, absence...),
	"scales-left":        {"weight-not-quantized", "pattern-unused"},
	"stale-quantization": {
		"weight-not-quantized", "pattern-unused", "description-entry-unused", "description-entry-missing", "description-mismatch",
		"stale-index", "leftover-shard", "index-missing", "weight-encoding", "mtp-copy-missing",
	},
}

// unreadable are the codes of shards that cannot be read.
var unreadable = []string{"shard-truncated", "shard-missing", "shard-invalid", "lfs-pointer", "file-elsewhere"}

// dropConsequences takes out what only follows from another finding: of
// foreign names that the table's are missing, of a shard that cannot be read
// that the tensors in it are.
func (s *subject) dropConsequences() {
	r := s.report
	gone := s.consequences()
	lost, elsewhere, encoded := s.lostShards(), map[string]bool{}, map[string]bool{}
	for _, f := range r.Findings {
		encoded[f.Where] = encoded[f.Where] || f.Code == "weight-encoding" && f.Severity == Error
		elsewhere[f.Where] = elsewhere[f.Where] || f.Code == "file-elsewhere"
	}
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool {
		switch {
		case gone(f), f.Code == "shard-missing" && elsewhere[f.Where]:
			return true
		case f.Code == "tensor-missing" && strings.Contains(f.Where, ".indexer.") && r.Has("config-indexers"):
			return true
		case f.Code == "code-range" && encoded[strings.TrimSuffix(f.Where, ".weight")],
			f.Code == "zero-point-wrong" && encoded[strings.TrimSuffix(f.Where, ".qzeros")]:
			return true
		case f.Code == "mtp-copy-stale" && slices.ContainsFunc(s.trunkFaults(), func(of string) bool { return s.copyOf(f.Where) == of }):
			return true
		}
		if len(lost) == 0 {
			return false
		}
		switch f.Code {
		case "index-total-size", "description-entry-unused", "pattern-unused":
			return true
		case "leftover-shard", "temp-file":
			return lost[f.Where]
		case "config-mtp-absent":
			return s.inLostShard(s.cfg.LayerPrefix(s.cfg.Layers))
		}
		return slices.Contains(absence, f.Code) && s.inLostShard(f.Where)
	})
}

// consequences tells of a finding whether it only follows from an error, of the
// same tensors where that is about some. A warning explains no fault.
func (s *subject) consequences() func(f Finding) bool {
	roots := map[string][]string{} // codes and where they were found
	for _, f := range s.report.Findings {
		if _, ok := follows[f.Code]; ok && f.Severity == Error {
			roots[f.Code] = append(roots[f.Code], f.Where)
		}
	}
	return func(f Finding) bool {
		for root, places := range roots {
			if slices.Contains(follows[root], f.Code) && s.concerns(root, places, f.Where) {
				return true
			}
		}
		return false
	}
}

// concerns tells whether what was found in these places is about a tensor, or a
// module, as well.
func (s *subject) concerns(root string, places []string, where string) bool {
	if strings.HasPrefix(where, "config.json") || s.cfg == nil {
		return true
	}
	switch root {
	case "mtp-copy-stale":
		return slices.Contains(places, where)
	case "vocabulary":
		if strings.HasSuffix(where, "_token_id") { // beyond a vocab_size that is wrong
			return true
		}
		embed, head := s.cfg.MTPNames(s.cfg.Layers)
		return slices.Contains([]string{s.cfg.EmbeddingName(), s.cfg.HeadName(), embed, head}, strings.TrimSuffix(where, ".weight")+".weight")
	case "mtp-shape", "config-mtp-count":
		for l := range max(s.cfg.MTPLayers, 1) {
			if strings.HasPrefix(where, s.cfg.LayerPrefix(s.cfg.Layers+l)) {
				return true
			}
		}
		return false
	case "expert-count":
		return strings.Contains(where, ".mlp.")
	case "config-key-wrong":
		return slices.ContainsFunc(places, func(key string) bool {
			switch strings.TrimPrefix(key, "config.json: ") {
			case "first_k_dense_replace":
				return strings.Contains(where, ".mlp.")
			case "use_qk_norm":
				return strings.HasSuffix(where, ".q_norm.weight") || strings.HasSuffix(where, ".k_norm.weight")
			case "attention_bias":
				return strings.HasSuffix(where, "_proj.bias")
			}
			return strings.Contains(where, "visual.blocks.")
		})
	case "config-indexers":
		return strings.Contains(where, ".indexer")
	}
	return true
}

// dropEchoes takes out what engines are found to misread only because the
// declaration that they ask cannot be used.
func (s *subject) dropEchoes() {
	if r := s.report; r.Has("description-names") || r.Has("description-invalid") || r.Has("stale-quantization") {
		s.report.Findings = slices.DeleteFunc(s.report.Findings, func(f Finding) bool { return f.Code == "engine-misreads" || f.Code == "engine-refuses" })
	}
}

// trunkFaults are the model's own embedding and head where their values are
// spoilt: what the MTP layer has is not stale then.
func (s *subject) trunkFaults() (names []string) {
	for _, f := range s.report.Findings {
		if f.Severity != Error {
			continue
		}
		if f.Code == "weight-nonfinite" || f.Code == "weight-zero" || f.Code == "weight-constant" || f.Code == "zero-region" {
			names = append(names, f.Where)
		}
	}
	return names
}

// copyOf returns the tensor that one of the MTP layer is a copy of.
func (s *subject) copyOf(name string) string {
	if s.cfg == nil {
		return ""
	}
	switch embed, head := s.cfg.MTPNames(s.cfg.Layers); name {
	case embed:
		return s.cfg.EmbeddingName()
	case head:
		return s.cfg.HeadName()
	}
	return ""
}

// lostShards returns the shards that cannot be read.
func (s *subject) lostShards() map[string]bool {
	lost := map[string]bool{}
	for _, f := range s.report.Findings {
		file, _, _ := strings.Cut(f.Where, ": ")
		if slices.Contains(unreadable, f.Code) && strings.HasSuffix(file, ".safetensors") {
			lost[file] = true
		}
	}
	return lost
}

// inLostShard tells whether a tensor, module or group may be in a shard that
// cannot be read: its index says so, or there is none that could say.
func (s *subject) inLostShard(where string) bool {
	if s.ckpt == nil || s.ckpt.IndexName() == "" {
		return true
	}
	return s.ckpt.Lost(strings.TrimSuffix(where, ".")) != ""
}
