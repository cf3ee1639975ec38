package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// auto-round (docs/facts/formats.md 8): vllm 0.32 inc/inc.py,
// inc/config_parser.py and inc/schemes; sglang 0.5.23 auto_round.py.

// autoRoundVLLM: extra_config by the whole name, by its end, by an expression
// that is found anywhere; of fused modules by their shards. Experts are asked
// for as their parent.
func (x matcher) autoRoundVLLM(m Module) Resolution {
	base := x.all()
	if why := x.autoRoundRefusedVLLM(base); why != "" {
		return refusedWhole("%s", why)
	}
	if m.Kind == Embedding {
		return float()
	}
	for i := range x.d.Rules {
		rule := &x.d.Rules[i]
		if text := x.entry(rule.Pattern.Text); rule.Group == nil && (text == m.Name || text == "model."+m.Name) {
			return float()
		}
	}
	return x.autoRoundScheme(m, x.autoRoundGroup(m, base))
}

// autoRoundGroup is INCConfigParser._resolve_raw; nil: full precision.
func (x matcher) autoRoundGroup(m Module, base *declaration.Group) found {
	if i := x.ruleNamed(m.Name); i >= 0 {
		return found{group: x.d.Rules[i].Group}
	}
	for i := range x.d.Rules {
		if text := x.entry(x.d.Rules[i].Pattern.Text); strings.HasSuffix(m.Name, "."+text) {
			return found{group: x.d.Rules[i].Group}
		}
	}
	base = x.inBlocks(m, base)
	if len(m.Shards) > 0 && m.Kind == Linear {
		asked := false
		for _, s := range m.Shards {
			asked = asked || x.ruleNamed(s) >= 0 || x.ruleMatching(s, false) >= 0
		}
		if asked {
			return x.agreed(m, m.Shards, base, false)
		}
	}
	return found{group: x.ruled(m.Name, base, false)}
}

// found is the scheme of a module, or the engine's complaint.
type found struct {
	group *declaration.Group // nil: full precision
	err   string
}

// agreed is the scheme of all names.
func (x matcher) agreed(m Module, names []string, base *declaration.Group, full bool) found {
	first := x.ruled(names[0], base, full)
	for _, n := range names[1:] {
		if g := x.ruled(n, base, full); !sameGroup(g, first) {
			return found{err: fmt.Sprintf("ValueError: Fused module '%s' requires consistent quant config for its shards", m.Name)}
		}
	}
	return found{group: first}
}

func sameGroup(a, b *declaration.Group) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Weights == b.Weights
}

// ruled is the scheme of one name: its entry, the first expression, or base.
func (x matcher) ruled(name string, base *declaration.Group, full bool) *declaration.Group {
	if i := x.ruleNamed(name); i >= 0 {
		return x.d.Rules[i].Group
	}
	if i := x.ruleMatching(name, full); i >= 0 {
		return x.d.Rules[i].Group
	}
	return base
}

func (x matcher) ruleNamed(name string) int {
	for i := range x.d.Rules {
		if x.entry(x.d.Rules[i].Pattern.Text) == name {
			return i
		}
	}
	return -1
}

// ruleMatching is the first entry with characters of expressions that is
// found in the name, or is all of it.
func (x matcher) ruleMatching(name string, full bool) int {
	for i := range x.d.Rules {
		p := x.d.Rules[i].Pattern
		if !strings.ContainsAny(p.Text, `*+?^$()[]{}|\`) {
			continue
		}
		if full && x.c.full(p.Text, name) || !full && x.c.search(x.entry(p.Text), name) {
			return i
		}
	}
	return -1
}

// full and search are Python's re.fullmatch and re.search; an expression that
// is none matches nothing.
func (c *Config) full(text, name string) bool {
	return c.expression("full "+text, `\A(?:`+text+`)\Z`, name)
}
func (c *Config) search(text, name string) bool { return c.expression("search "+text, text, name) }

func (c *Config) expression(key, expr, name string) bool {
	p := c.compiled(key, func() (*declaration.Pattern, error) { return declaration.New(expr, declaration.Search) })
	return p != nil && p.Match(name)
}

// inBlocks: modules outside of the named blocks, and heads unless they are
// inside of one, are not quantized.
func (x matcher) inBlocks(m Module, base *declaration.Group) *declaration.Group {
	blocks := base.Targets.Entries
	if len(blocks) == 0 {
		if m.Kind == Head {
			return nil
		}
		return base
	}
	for _, p := range blocks {
		if strings.HasPrefix(m.Name, x.entry(p.Text)) {
			return base
		}
	}
	return nil
}

// autoRoundRefusedVLLM is what vLLM says of the declaration as a whole.
func (x matcher) autoRoundRefusedVLLM(g *declaration.Group) string {
	w := g.Weights
	packing := x.d.Format
	if packing == "" {
		packing = "auto_gptq"
	}
	switch {
	case packing != "auto_gptq" && packing != "auto_awq" && packing != "fp8" && packing != "llm_compressor":
		return fmt.Sprintf("ValueError: Unsupported packing_format: auto_round:%s", x.d.Format)
	case w.Type == format.Int && packing != "auto_gptq" && packing != "auto_awq":
		return fmt.Sprintf("AssertionError: INC int quantization only supports auto_gptq and auto_awq, but found auto_round:%s", packing)
	case w.Type == format.Float && w.Bits == 8 && w.Scale != format.E8M0 && w.Strategy != format.Block:
		return "AssertionError: INC block-wise FP8 requires a 2-D group_size"
	case w.Type == format.Float && w.Strategy == format.TensorGroup:
		return "ValueError: Unsupported data_type: nv_fp"
	}
	return ""
}

// autoRoundScheme is the class for a module's scheme.
func (x matcher) autoRoundScheme(m Module, f found) Resolution {
	switch {
	case f.err != "":
		return refused("%s", f.err)
	case f.group == nil:
		return float()
	}
	w := f.group.Weights
	if x.r.Engine == VLLM && w.Type == format.Int && (w.Bits == 4 || w.Bits == 8) && m.Kind != Experts {
		if w.Packing == format.GPTQWords && w.ZeroPoints || !slices.Contains(marlinGroups, w.Group) {
			return refused("NotImplementedError: INC quantization with bits=%d, sym=%s in groups of %d is not supported", w.Bits, pick(w.ZeroPoints, "False", "True"), w.Group)
		}
	}
	return x.built(f.group)
}

// autoRoundSGLang: extra_config by the whole name or an expression of all of
// it; of experts by the entries below their parent, which must agree. Only the
// sparse-attention family has shards of a fused module.
func (x matcher) autoRoundSGLang(m Module) Resolution {
	base := x.all()
	if why := x.autoRoundRefusedSGLang(base); why != "" {
		return refusedWhole("%s", why)
	}
	if m.Kind == Embedding {
		return float()
	}
	if i := x.ruleNamed(m.Name); i >= 0 {
		return x.autoRoundScheme(m, found{group: x.d.Rules[i].Group})
	}
	base = x.inBlocks(m, base)
	if m.Kind == Experts {
		if f, ok := x.belowExperts(m, base); ok {
			return x.autoRoundScheme(m, f)
		}
	}
	if len(x.d.Rules) > 0 && x.cfg.SparseAttention() && last(m.Name) == "fused_qkv_a_proj_with_mqa" {
		return x.autoRoundScheme(m, x.agreed(m, m.Shards, base, true))
	}
	return x.autoRoundScheme(m, found{group: x.ruled(m.Name, base, true)})
}

// belowExperts are the entries whose text begins with the experts' name.
func (x matcher) belowExperts(m Module, base *declaration.Group) (f found, ok bool) {
	for i := range x.d.Rules {
		rule := &x.d.Rules[i]
		switch {
		case !strings.HasPrefix(rule.Pattern.Text, m.Name):
		case !ok:
			f.group, ok = rule.Group, true
		case !sameGroup(f.group, rule.Group):
			return found{err: fmt.Sprintf("ValueError: Fused MoE layer '%s' requires consistent quant config for all sub-layers", m.Name)}, true
		}
	}
	return f, ok
}

func (x matcher) autoRoundRefusedSGLang(g *declaration.Group) string {
	switch w := g.Weights; {
	case w.Type != format.Int:
		return "ValueError: Unsupported data_type: auto-round data types other than int are not supported"
	case x.d.Format != "" && x.d.Format != "auto_gptq" && x.d.Format != "auto_awq":
		return fmt.Sprintf("ValueError: Unsupported packing_format: auto_round:%s", x.d.Format)
	case w.Bits != 2 && w.Bits != 3 && w.Bits != 4 && w.Bits != 8:
		return fmt.Sprintf("ValueError: Unsupported weight_bits: %d", w.Bits)
	}
	return ""
}
