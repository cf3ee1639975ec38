package engine

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/internal/glm"
)

// Resolution is what an engine decides for a module.
type Resolution struct {
	Encoding Encoding
	Err      string // the engine's complaint; "" when it builds the module
}

// Resolve applies the engine's matching rules to one module.
func Resolve(e Engine, cfg *glm.Config, c *Config, m Module) Resolution {
	switch {
	case c.Method == "ascend" && e == VLLM:
		return Resolution{Err: "plain vLLM does not read this layout"}
	case c.Method == "ascend":
		return resolveDescription(e, cfg, c, m)
	case c.Method == "fp8" && e == Ascend:
		return Resolution{Err: "vllm-ascend 0.18 has no class for fp8"}
	case c.Method == "fp8":
		return resolveFP8(e, c, m)
	case c.Method == "compressed-tensors" && e == SGLang:
		return resolveSGLang(cfg, c, m)
	case c.Method == "compressed-tensors":
		return resolveVLLM(e, c, m)
	}
	return Resolution{Err: fmt.Sprintf("quant_method %q is not known", c.Method)}
}

// expertNames are the names that stand for all experts of a layer.
func expertNames(m Module) []string {
	return []string{m.Name + ".0.gate_proj", m.Name + ".0.up_proj", m.Name + ".0.down_proj"}
}

// same folds the answers for several names into one.
func same(names []string, answer func(string) Encoding, complaint string) Resolution {
	first := answer(names[0])
	for _, n := range names[1:] {
		if answer(n) != first {
			return Resolution{Err: complaint}
		}
	}
	return Resolution{Encoding: first}
}

// resolveVLLM: compressed-tensors in vLLM (engine-vllm.md 2.1). Plain names of
// the ignore list go through the model's name mapping, patterns do not. A
// fused module is ignored by its own name or by all its shards; targets match
// its name, then its class, then its shards, of which the first decides.
func resolveVLLM(e Engine, c *Config, m Module) Resolution {
	ignored := func(name string) bool {
		for _, en := range c.Ignore {
			if en.re == nil && mapName(e, en.Text) == name || en.re != nil && en.matches(name) {
				return true
			}
		}
		return false
	}
	byName := func(name string) (Encoding, bool) {
		for _, g := range c.Groups {
			for _, t := range g.Targets {
				if t.Text != "Linear" && t.matches(name) {
					return g.Encoding, true
				}
			}
		}
		return Float, false
	}
	byClass := func() (Encoding, bool) {
		for _, g := range c.Groups {
			for _, t := range g.Targets {
				if t.Text == "Linear" && m.Kind != Head && m.Kind != Embedding {
					return g.Encoding, true
				}
			}
		}
		return Float, false
	}
	single := func(name string) Encoding {
		if ignored(name) {
			return Float
		}
		if enc, ok := byName(name); ok {
			return enc
		}
		enc, _ := byClass()
		return enc
	}
	if m.Kind == Experts {
		return same(expertNames(m), single, "All MoE projections need to have same quantization scheme")
	}
	if len(m.Shards) == 0 || ignored(m.Name) {
		return Resolution{Encoding: single(m.Name)}
	}
	n := 0
	for _, s := range m.Shards {
		if ignored(s) {
			n++
		}
	}
	switch {
	case n == len(m.Shards):
		return Resolution{Encoding: Float}
	case n > 0:
		return Resolution{Err: "Found different quantization schemes for the shards of " + m.Name}
	}
	if enc, ok := byName(m.Name); ok {
		return Resolution{Encoding: enc}
	}
	if enc, ok := byClass(); ok {
		return Resolution{Encoding: enc}
	}
	first, all := Float, true
	for i, s := range m.Shards {
		enc, ok := byName(s)
		if i == 0 {
			first = enc
		}
		all = all && ok
	}
	if !all {
		return Resolution{Encoding: Float} // half targeted: unquantised, without a word
	}
	return Resolution{Encoding: first}
}

// resolveSGLang: compressed-tensors in SGLang (engine-sglang.md 2.1). Plain
// entries match a name or its end; only the sparse-attention family expands
// its fused names.
func resolveSGLang(cfg *glm.Config, c *Config, m Module) Resolution {
	ignored := func(name string) bool {
		for _, en := range c.Ignore {
			if en.matches(name) || en.re == nil && strings.HasSuffix(name, "."+en.Text) {
				return true
			}
		}
		return false
	}
	target := func(name string) (Encoding, bool) {
		for _, g := range c.Groups {
			for _, t := range g.Targets {
				if t.Text != "Linear" && t.matches(name) {
					return g.Encoding, true
				}
			}
		}
		for _, g := range c.Groups {
			for _, t := range g.Targets {
				if t.Text == "Linear" && m.Kind != Head {
					return g.Encoding, true
				}
			}
		}
		return Float, false
	}
	single := func(name string) Encoding {
		if ignored(name) {
			return Float
		}
		enc, _ := target(name)
		return enc
	}
	if m.Kind == Experts {
		return same(expertNames(m), single, "projections of the experts differ")
	}
	expands := cfg.Family == glm.GlmMoeDsa && strings.HasSuffix(m.Name, ".fused_qkv_a_proj_with_mqa")
	if expands && !ignored(m.Name) {
		n := 0
		for _, s := range m.Shards {
			if ignored(s) {
				n++
			}
		}
		if n == len(m.Shards) {
			return Resolution{Encoding: Float}
		}
		if n > 0 {
			return Resolution{Err: "shards of " + m.Name + " are ignored in part"}
		}
	}
	if ignored(m.Name) || m.Kind == Head {
		return Resolution{Encoding: single(m.Name)}
	}
	enc, ok := target(m.Name)
	if !ok && expands {
		enc, ok = target(m.Shards[0])
	}
	if !ok {
		return Resolution{Err: "Unable to find matching target for " + m.Name}
	}
	return Resolution{Encoding: enc}
}

// resolveFP8: quant_method fp8 (engine-vllm.md 2.1, engine-sglang.md 2.1).
func resolveFP8(e Engine, c *Config, m Module) Resolution {
	const block = Encoding("fp8 block")
	if m.Kind == Head || m.Kind == Embedding {
		return Resolution{Encoding: Float}
	}
	skipped := func(name string) bool {
		for _, en := range c.NotConvert {
			if e == VLLM && mapName(e, en) == name || e == SGLang && dotted(name, en) {
				return true
			}
		}
		return false
	}
	if m.Kind == Experts {
		for _, en := range c.NotConvert {
			if e == VLLM && strings.Contains(mapName(e, en), m.Name) {
				return Resolution{Encoding: Float}
			}
		}
		if skipped(m.Name) {
			return Resolution{Encoding: Float}
		}
		return Resolution{Encoding: block}
	}
	names := m.Shards
	if len(names) == 0 || skipped(m.Name) && e == SGLang {
		names = []string{m.Name}
	}
	return same(names, func(n string) Encoding {
		if skipped(n) {
			return Float
		}
		return block
	}, "Detected some but not all shards of "+m.Name+" are quantized")
}

// dotted reports whether entry equals name, is a prefix of it or a path inside
// it, on borders of dots, with or without "model." in front.
func dotted(name, entry string) bool {
	for _, en := range []string{entry, strings.TrimPrefix(entry, "model.")} {
		if en != "" && strings.Contains("."+name+".", "."+en+".") {
			return true
		}
	}
	return false
}
