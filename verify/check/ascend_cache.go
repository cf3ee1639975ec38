package check

import (
	"encoding/json"
	"strings"
)

// cacheC8 tells whether the description declares an int8 cache of keys and
// values, with its scales beside k_proj and v_proj.
func (s *subject) cacheC8() bool {
	return s.says("kv_cache_type") == "C8" || s.says("kv_quant_type") == "C8"
}

// indexerC8 tells whether it declares an int8 cache of the indexer's keys.
func (s *subject) indexerC8() bool {
	if s.says("indexer_quant_type") != "" {
		return true
	}
	for key := range s.desc {
		if strings.HasSuffix(key, ".indexer.quant_type") {
			return true
		}
	}
	return false
}

// latentC8 tells whether it declares an int8 cache of key-value latents.
func (s *subject) latentC8() bool {
	for key := range s.desc {
		if strings.HasSuffix(key, ".self_attn.quant_type") {
			return true
		}
	}
	return false
}

// says returns a key of the description that is a string.
func (s *subject) says(key string) string {
	var text string
	_ = json.Unmarshal(s.desc[key], &text)
	return text
}

// explained tells whether a key of the description explains a tensor that is
// in no family's table: the matrix of a rotated model, the scales of an int8
// cache, the Hadamard matrices of the indexer's cache.
func (s *subject) explained(name string) bool {
	switch {
	case !s.ascend:
		return false
	case name == rotName:
		return true
	case strings.HasSuffix(name, ".kv_cache_scale"), strings.HasSuffix(name, ".kv_cache_offset"):
		return s.cacheC8()
	case strings.HasSuffix(name, ".indexer.q_rot"), strings.HasSuffix(name, ".indexer.k_rot"):
		return s.indexerC8()
	}
	return false
}
