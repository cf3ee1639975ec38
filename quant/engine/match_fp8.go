package engine

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// blockFP8 is what quant_method fp8 makes of a module that is not listed.
func blockFP8() Resolution { return Resolution{Weight: format.Float8Block} }

// resolveFP8VLLM: quant_method fp8 in vLLM (docs/facts/engine-vllm.md 2.1).
// Entries are exact names, mapped by the model; an entry that contains
// ….mlp.experts skips the experts of that layer.
func resolveFP8VLLM(cfg *glm.Config, c *Config, m Module) Resolution {
	if m.Kind == Head || m.Kind == Embedding {
		return float()
	}
	names := c.mapped(cfg)
	if m.Kind == Experts {
		for n := range names {
			if strings.Contains(n+".", m.Name+".") {
				return float()
			}
		}
		return blockFP8()
	}
	skipped := func(name string) bool { return names[name] }
	n := count(m.Shards, skipped)
	switch {
	case skipped(m.Name), n > 0 && n == len(m.Shards):
		return float()
	case n > 0:
		return refused("ValueError: Detected some but not all shards of %s are quantized", m.Name)
	}
	return blockFP8()
}

// mapped are the entries of an fp8 list under vLLM's names.
func (c *Config) mapped(cfg *glm.Config) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names[cfg.Family] == nil {
		names := make(map[string]bool, len(c.NotConvert))
		for _, en := range c.NotConvert {
			names[mapName(VLLM, cfg, en)] = true
		}
		if c.names == nil {
			c.names = map[glm.Family]map[string]bool{}
		}
		c.names[cfg.Family] = names
	}
	return c.names[cfg.Family]
}

// dotted are the spellings under which SGLang finds an entry of the list: as
// it is, and without "model." in front.
func (c *Config) dotted() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.words == nil {
		c.words = make(map[string]bool, 2*len(c.NotConvert))
		for _, en := range c.NotConvert {
			c.words[en] = true
			c.words[strings.TrimPrefix(en, "model.")] = true
		}
	}
	return c.words
}

// resolveFP8SGLang: quant_method fp8 in SGLang (docs/facts/engine-sglang.md
// 2.1). Entries match on borders of dots, parents their children; patterns
// never. qkv_proj and gate_up_proj are always expanded, the latent projections
// for the sparse-attention family alone.
func resolveFP8SGLang(cfg *glm.Config, c *Config, m Module) Resolution {
	if m.Kind == Head || m.Kind == Embedding {
		return float()
	}
	words := c.dotted()
	skipped := func(name string) bool { return onPath(words, name) }
	shards := m.Shards
	if m.Kind == Experts || !cfg.SparseAttention() && strings.HasSuffix(m.Name, ".fused_qkv_a_proj_with_mqa") {
		shards = nil
	}
	n := count(shards, skipped)
	switch {
	case skipped(m.Name), n > 0 && n == len(shards):
		return float()
	case n > 0:
		return refused("ValueError: Detected some but not all shards of %s are quantized", m.Name)
	}
	return blockFP8()
}

// onPath reports whether a word equals name, is a prefix of it or a path
// inside it, on borders of dots.
func onPath(words map[string]bool, name string) bool {
	parts := strings.Split(name, ".")
	for i, at := 0, 0; i < len(parts); i++ {
		end := at
		for _, p := range parts[i:] {
			end += len(p)
			if words[name[at:end]] {
				return true
			}
			end++ // the dot
		}
		at += len(parts[i]) + 1
	}
	return false
}
