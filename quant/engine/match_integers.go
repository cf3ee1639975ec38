package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// GPTQ and AWQ (docs/facts/formats.md 6.3, 7): vllm 0.32 auto_gptq.py,
// utils/gptq_utils.py and auto_awq.py; sglang 0.5.23 gptq/gptq.py, awq/awq.py
// and quant/utils.py.

// marlinGroups are the sizes of groups that Marlin has kernels for; 0: one a
// channel.
var marlinGroups = []int{0, 32, 64, 128}

// asymmetric is the engines' complaint about codes that no kernel is for.
func asymmetric(w format.Weight) string {
	if (w.Bits == 4 || w.Bits == 8) && !w.ZeroPoints {
		return ""
	}
	return fmt.Sprintf("ValueError: Unsupported quantization config: bits=%d, sym=%s", w.Bits, pick(w.ZeroPoints, "False", "True"))
}

// gptqVLLM: dynamic by re.match on the runtime name, of experts on their
// parent's; linears that no list and no tensor shows to be quantized are not.
func (x matcher) gptqVLLM(m Module) Resolution {
	g := x.all()
	if why := x.gptqRefusedVLLM(g); why != "" {
		return refusedWhole("%s", why)
	}
	switch {
	case m.Kind == Embedding, m.Kind == Head && !x.d.Head:
		return float()
	case m.Kind != Experts:
		switch coded, err := x.codedVLLM(m, g); {
		case err != "":
			return refused("%s", err)
		case !coded:
			return float()
		}
	}
	return x.overridden(m, g)
}

func (x matcher) gptqRefusedVLLM(g *declaration.Group) string {
	for _, key := range []string{"bits", "group_size", "desc_act", "sym"} {
		if !x.d.States(key) {
			return fmt.Sprintf("ValueError: Cannot find any of ['%s'] in the model's quantization config", key)
		}
	}
	if g.Order == "group" && g.Weights.Strategy == format.Group {
		return "ValueError: GPTQ group activation ordering (desc_act=True) is no longer supported"
	}
	for i := range x.d.Rules {
		if o := x.d.Rules[i].Group; o != nil && o.Order == "group" && o.Weights.Strategy == format.Group {
			return fmt.Sprintf("ValueError: GPTQ group activation ordering (desc_act=True) is enabled by dynamic rule %q", x.d.Rules[i].Pattern.Text)
		}
	}
	return asymmetric(g.Weights)
}

// overridden applies dynamic: the first rule that matches.
func (x matcher) overridden(m Module, g *declaration.Group) Resolution {
	for i := range x.d.Rules {
		rule := &x.d.Rules[i]
		if !rule.Pattern.Match(m.Name) {
			continue
		}
		if rule.Group == nil {
			return float()
		}
		g = rule.Group
		break
	}
	if why := asymmetric(g.Weights); why != "" {
		return refused("%s", why)
	}
	if m.Kind != Experts && !slices.Contains(marlinGroups, g.Weights.Group) {
		return refused("ValueError: Marlin does not support group_size = %d. Only group_sizes = [-1, 32, 64, 128] are supported", g.Weights.Group)
	}
	return x.built(g)
}

// codedVLLM reports whether vLLM finds a linear among the modules that are
// quantized: parts of names in modules_in_block_to_quantize, or those whose
// tensors are codes.
func (x matcher) codedVLLM(m Module, g *declaration.Group) (bool, string) {
	list := x.c.listed("gptq "+string(x.cfg.Family), func() []string {
		var out []string
		for _, p := range g.Targets.Entries {
			out = append(out, x.entry(p.Text))
		}
		for name, coded := range x.c.Quantized {
			if coded && len(g.Targets.Entries) == 0 {
				out = append(out, x.entry(name))
			}
		}
		return out
	})
	if len(list) == 0 {
		return true, ""
	}
	set := x.c.set("gptq "+string(x.cfg.Family), list)
	return inPart(m, shardsOf(m, !m.fusedVision()), func(n string) bool {
		return set[n] || slices.ContainsFunc(list, func(text string) bool { return strings.Contains(n, text) })
	})
}

// gptqSGLang: what Marlin cannot serve has no class; dynamic counts for
// linears alone.
func (x matcher) gptqSGLang(m Module) Resolution {
	g := x.all()
	for _, key := range []string{"bits", "group_size", "desc_act", "sym"} {
		if !x.d.States(key) {
			return refusedWhole("ValueError: Unknown quantization method: gptq (%s is missing)", key)
		}
	}
	if asymmetric(g.Weights) != "" || !slices.Contains(marlinGroups, g.Weights.Group) || x.d.Format == "marlin" {
		return refusedWhole("ValueError: Unknown quantization method: gptq (Marlin has no kernel for %s)", g.Weights)
	}
	switch {
	case m.Kind == Head && !x.d.Head, m.Kind == Embedding:
		return float()
	case m.Kind == Experts:
		return x.built(g)
	}
	return x.overridden(m, g)
}

// awqVLLM: an entry is a part of a name, of a fused module of all shards'
// names. Without entries the tensors say which modules are quantized.
func (x matcher) awqVLLM(m Module) Resolution {
	g := x.all()
	switch {
	case !x.d.States("zero_point"):
		return refusedWhole("ValueError: Cannot find any of ['zero_point'] in the model's quantization config")
	case g.Weights.Bits != 4:
		return refusedWhole("ValueError: Unsupported num_bits = %d. Supported: 4", g.Weights.Bits)
	case m.Kind == Embedding, m.Kind == Head && !x.d.Head:
		return float()
	}
	list := x.c.listed("awq "+string(x.cfg.Family), func() []string {
		var out []string
		for _, p := range x.d.Ignore.Entries {
			out = append(out, x.entry(p.Text))
		}
		if len(out) == 0 {
			for _, name := range x.c.Stored {
				if !x.c.Quantized[name] {
					out = append(out, x.entry(name))
				}
			}
		}
		return out
	})
	in := func(n string) bool {
		return slices.ContainsFunc(list, func(text string) bool { return strings.Contains(n, text) })
	}
	if in(m.Name) {
		return float()
	}
	if names := shardsOf(m, !m.fusedVision()); len(names) > 1 {
		switch skip, err := inPart(m, names, in); {
		case err != "":
			return refused("%s", err)
		case skip:
			return float()
		}
	}
	return x.built(g)
}

// awqSGLang: an entry is a part of the runtime name, of a fused module of the
// fused one. Only what Marlin serves runs in BF16 and has experts.
func (x matcher) awqSGLang(m Module) Resolution {
	g := x.all()
	marlin := x.d.States("bits") && x.d.States("group_size") && x.d.States("zero_point") && g.Weights.Bits == 4 && g.Weights.ZeroPoints &&
		slices.Contains(marlinGroups, g.Weights.Group)
	switch {
	case g.Weights.Bits != 4:
		return refusedWhole("ValueError: Currently, only 4-bit weight quantization is supported for AWQ, but got %d bits", g.Weights.Bits)
	case !marlin:
		return refusedWhole("ValueError: torch.bfloat16 is not supported for quantization method awq (Marlin has no kernel for it, and awq runs in F16 without experts)")
	case m.Kind == Head && !x.d.Head, m.Kind == Embedding:
		return float()
	}
	for _, p := range x.d.Ignore.Entries {
		if strings.Contains(m.Name, p.Text) {
			return float()
		}
	}
	if m.Kind == Head {
		return refused("AttributeError: 'ParallelLMHead' object has no attribute 'output_size'")
	}
	return x.built(g)
}
