package engine

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// resolveSGLang matches a module in SGLang.
func resolveSGLang(r Release, cfg *glm.Config, c *Config, m Module) Resolution {
	switch c.Method {
	case "ascend":
		return c.view(SGLang, cfg).sglang(r, cfg, m)
	case "fp8":
		return resolveFP8SGLang(cfg, c, m)
	case "compressed-tensors":
		return loadSGLang(cfg, c, m)
	}
	if res, ok := resolvePublished(r, cfg, c, m); ok {
		return res
	}
	return unknownMethod(r, c)
}

// loadSGLang is matchSGLang, less what its loader refuses afterwards: it
// joins the tensors of q_a_proj and kv_a_proj_with_mqa, and of packed integers
// their weight_shape too, which then is the shape of nothing (found with its
// own loader, interop/tests/sglang), of NVFP4 their global scales of one number
// each, for which its parameter has room for one (deepseek_weight_loader.py,
// ReplicatedLinear.weight_loader).
func loadSGLang(cfg *glm.Config, c *Config, m Module) Resolution {
	r := matchSGLang(cfg, c, m)
	if r.group == nil || !strings.HasSuffix(m.Name, ".fused_qkv_a_proj_with_mqa") {
		return r
	}
	switch w := r.group.Weights; {
	case w.Type == format.Int && r.group.Acts == nil && (w.Bits == 4 || w.Packing == format.Words):
		return refused("AssertionError: the weight_shape of %s, joined, has four numbers", strings.Join(m.Shards, " and "))
	case w.Strategy == format.TensorGroup:
		return refused("AssertionError: the global scales of %s, joined, are two numbers", strings.Join(m.Shards, " and "))
	}
	return r
}

// matchSGLang: compressed-tensors in SGLang (docs/facts/engine-sglang.md 2.1). Plain
// ignore entries match a name or its dotted end; only the sparse-attention
// family expands a fused name. A linear that nothing matches is an error.
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
// unless ignored, and ignored experts cannot be built (docs/facts/engine-sglang.md 1).
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

// resolveFP8SGLang: quant_method fp8 in SGLang (docs/facts/engine-sglang.md 2.1). Entries
// match on borders of dots, parents their children; patterns never. qkv_proj
// and gate_up_proj are always expanded, the latent projections for the
// sparse-attention family alone.
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

// sglang is SGLang's way on NPUs (docs/facts/engine-sglang.md 6): linears without
// an entry or with an unknown scheme are built in BF16, with a warning;
// routed experts are never FLOAT, and w13 and w2 are looked up apart. Started
// without a flag the draft is unquantised. With --quantization modelslim it
// reads the description too, under model.layers.N for glm_moe_dsa and under
// model.decoder, where there is never an entry, for the others; so only a
// quantised draft of glm_moe_dsa is started with the flag.
func (v *view) sglang(rel Release, cfg *glm.Config, m Module) Resolution {
	if m.Draft {
		prefix := cfg.LayerPrefix(cfg.Layers)
		if s := v.schemes[prefix+"mlp.experts.0.gate_proj"]; !cfg.SparseAttention() || s == "" || s == "FLOAT" {
			return float()
		}
		rename := func(n string) string { return strings.Replace(n, "model.decoder.", prefix, 1) }
		m.Name = rename(m.Name)
		shards := make([]string, len(m.Shards))
		for i, s := range m.Shards {
			shards[i] = rename(s)
		}
		m.Shards = shards
	}
	value := func(n string) string { return v.schemes[n] }
	if m.Kind == Experts {
		names := expertNames(m)
		up, down := rel.spec.schemes[value(names[0])], rel.spec.schemes[value(names[2])]
		if value(names[0]) != value(names[1]) {
			return refused("ValueError: gate and up of %s differ", m.Name)
		}
		if !up.registered(rel, Experts) || !down.registered(rel, Experts) {
			return refused("ValueError: routed experts %s are FLOAT, missing or of an unknown scheme", m.Name)
		}
		r := Resolution{Weight: meaning(value(names[0])).Weights, Class: value(names[0])}
		if w := meaning(value(names[2])).Weights; w != r.Weight {
			r.down = &w
		}
		return r
	}
	names := m.Shards
	if len(names) == 0 {
		names = []string{m.Name}
	}
	switch floats := count(names, func(n string) bool { return value(n) == "FLOAT" }); {
	case floats > 0 && floats < len(names):
		return refused("ValueError: %s is FLOAT in part", m.Name)
	case floats > 0:
		return float()
	}
	if s := rel.spec.schemes[value(names[0])]; s.registered(rel, Linear) {
		return Resolution{Weight: meaning(value(names[0])).Weights, Class: value(names[0])}
	}
	return float()
}
