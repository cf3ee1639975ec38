package engine

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// resolveVLLM: compressed-tensors in vLLM (docs/facts/engine-vllm.md 2.1).
// Plain names with a dot go through the model's name mapping, patterns do not.
// A fused module is ignored by its own name or by all its shards; targets match
// its name, then its class, then its shards, of which the first decides. What
// nothing matches stays unquantised.
func resolveVLLM(cfg *glm.Config, c *Config, m Module) Resolution {
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
		return by(byClass(targets, m))
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
	if g := byClass(targets, m); g != nil {
		return by(g)
	}
	if count(m.Shards, func(s string) bool { return named(s) != nil }) < len(m.Shards) {
		return float() // half targeted: unquantised, without a word
	}
	return by(named(m.Shards[0]))
}

// resolveSGLang is matchSGLang, less what its loader refuses afterwards: it
// joins the tensors of q_a_proj and kv_a_proj_with_mqa, and of packed weights
// their weight_shape too, which then is the shape of nothing (found with its
// own loader, interop/tests/sglang).
func resolveSGLang(cfg *glm.Config, c *Config, m Module) Resolution {
	r := matchSGLang(cfg, c, m)
	if r.group != nil && r.group.Weights.Bits == 4 && r.group.Acts == nil && strings.HasSuffix(m.Name, ".fused_qkv_a_proj_with_mqa") {
		return refused("AssertionError: the weight_shape of %s, joined, has four numbers", strings.Join(m.Shards, " and "))
	}
	return r
}

// matchSGLang: compressed-tensors in SGLang (docs/facts/engine-sglang.md 2.1).
// Plain ignore entries match a name or its dotted end; only the
// sparse-attention family expands a fused name. A linear that nothing matches
// is an error.
func matchSGLang(cfg *glm.Config, c *Config, m Module) Resolution {
	ignored := func(name string) bool {
		for _, en := range c.Ignore {
			if en.matches(name) || en.re == nil && strings.HasSuffix(name, "."+en.Text) {
				return true
			}
		}
		return false
	}
	expands := cfg.SparseAttention() && strings.HasSuffix(m.Name, ".fused_qkv_a_proj_with_mqa")
	if expands && !ignored(m.Name) {
		switch n := count(m.Shards, ignored); {
		case n == len(m.Shards):
			return float()
		case n > 0:
			return refused("ValueError: shards of %s are ignored in part", m.Name)
		}
	}
	if c.int8Everywhere() {
		return w8a8Int8(c, m, ignored)
	}
	targets := c.targets()
	single := func(name string) Resolution {
		if ignored(name) {
			return float()
		}
		g := byName(targets, func(t target) bool { return t.matches(name) })
		if g == nil {
			g = byClass(targets, m)
		}
		switch {
		case g != nil:
			return by(g)
		case m.Kind == Head:
			return float()
		}
		return refused("ValueError: Unable to find matching target for %s", name)
	}
	if m.Kind == Experts {
		r := same(expertNames(m), single, "ValueError: the projections of "+m.Name+" have different schemes")
		return r
	}
	r := single(m.Name)
	if r.Err == "" || !expands {
		return r
	}
	var first *Group
	for i, s := range m.Shards {
		g := byName(targets, func(t target) bool { return t.matches(s) })
		if g == nil {
			return r
		}
		if i == 0 {
			first = g
		}
	}
	return by(first)
}

// int8Everywhere tells that a file is served by SGLang's own w8a8_int8 method
// (--quantization w8a8_int8), since its compressed-tensors classes have no
// INT8 experts on GPUs.
func (c *Config) int8Everywhere() bool {
	for i := range c.Groups {
		g := &c.Groups[i]
		if g.Weight != format.Int8 || g.Acts == nil || c.formatOf(g) != "int-quantized" {
			return false
		}
	}
	return len(c.Groups) > 0
}

// w8a8Int8 reads the ignore list alone: every linear and all experts are INT8
// unless ignored, and ignored experts cannot be built
// (docs/facts/engine-sglang.md 1).
func w8a8Int8(c *Config, m Module, ignored func(string) bool) Resolution {
	name := m.Name
	if m.Kind == Experts {
		if count(append(expertNames(m), name), ignored) == 0 {
			return by(&c.Groups[0])
		}
		return refused("w8a8_int8 gives ignored experts a method for linears: %s", name)
	}
	if m.Kind == Head || ignored(name) {
		return float()
	}
	return by(&c.Groups[0])
}

// formatOf is the format that counts for a group: its own, or the file's.
func (c *Config) formatOf(g *Group) string {
	if g.Format != "" {
		return g.Format
	}
	return c.Format
}
