package engine

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// resolveVLLM matches a module in vLLM.
func resolveVLLM(r Release, cfg *glm.Config, c *Config, m Module) Resolution {
	switch c.Method {
	case "ascend":
		return refused("plain vLLM does not read this layout")
	case "fp8":
		return resolveFP8VLLM(cfg, c, m)
	case "compressed-tensors":
		return matchVLLM(cfg, c, m, true)
	}
	if res, ok := resolvePublished(r, cfg, c, m); ok {
		return res
	}
	return unknownMethod(r, c)
}

// matchVLLM: compressed-tensors in vLLM (docs/facts/engine-vllm.md 2.1). Plain names
// with a dot go through the model's name mapping, patterns do not. A fused
// module is ignored by its own name or by all its shards; targets match its
// name, then its shards, of which the first decides, then its class; until
// vLLM 0.27 the class came before the shards. What nothing matches stays
// unquantised.
func matchVLLM(cfg *glm.Config, c *Config, m Module, shardsFirst bool) Resolution {
	hits := func(en Entry, name string) bool {
		if en.re != nil || !strings.Contains(en.Text, ".") {
			return en.matches(name)
		}
		return mapName(VLLM, cfg, en.Text) == name
	}
	ignored := func(name string) bool {
		for _, en := range c.Ignore {
			if hits(en, name) {
				return true
			}
		}
		return false
	}
	targets := c.targets()
	named := func(name string) *Group {
		return byName(targets, func(t target) bool { return hits(t.Entry, name) })
	}
	single := func(name string) Resolution {
		if ignored(name) {
			return float()
		}
		if g := named(name); g != nil {
			return by(g)
		}
		return orUnmatched(byClass(targets, m))
	}
	if m.Kind == Experts {
		return same(expertNames(m), single, "ValueError: All MoE projections need to have same quantization scheme ("+m.Name+")")
	}
	if len(m.Shards) == 0 || ignored(m.Name) {
		return single(m.Name)
	}
	switch n := count(m.Shards, ignored); {
	case n == len(m.Shards):
		return float()
	case n > 0:
		return refused("ValueError: Found different quantization schemes for the shards of %s", m.Name)
	}
	if g := named(m.Name); g != nil {
		return by(g)
	}
	class := byClass(targets, m)
	shards := named(m.Shards[0])
	if count(m.Shards, func(s string) bool { return named(s) != nil }) < len(m.Shards) {
		shards = nil // half targeted: unquantised without a word, unless the class is
	}
	if shards != nil && (shardsFirst || class == nil) {
		return by(shards)
	}
	return orUnmatched(class)
}

// orUnmatched is what a group, or no group, says of a module.
func orUnmatched(g *Group) Resolution {
	r := by(g)
	r.unmatched = g == nil
	return r
}

// resolveFP8VLLM: quant_method fp8 in vLLM (docs/facts/engine-vllm.md 2.1). Entries are
// exact names, mapped by the model; an entry that contains ….mlp.experts skips
// the experts of that layer.
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
