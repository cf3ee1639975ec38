package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// quark: an exclusion is a name or a "re:" pattern; an excluded expert
// excludes all of its layer. Then layer_quant_config decides, then the global
// specification (docs/facts/formats.md 5; vllm 0.32 quark/utils.py and
// quark.py, sglang 0.5.23 quark/utils.py and quark.py).
func (x matcher) quark(m Module) Resolution {
	if !x.d.States("export") {
		return refusedWhole("ValueError: The export key should be included in the configurations of Quark quantized model")
	}
	lacks := x.lacksTables()
	if m.Kind == Embedding || m.Kind == Head && (lacks == "" || x.r.Engine == VLLM) && !(x.r.Engine == SGLang && onlyFloat4(x.all().Weights) && x.all().Weights.Strategy == format.TensorGroup) {
		return float()
	}
	switch skip, err := x.ignoredQuark(m); {
	case err != "":
		return refused("%s", err)
	case skip:
		return float()
	case lacks != "":
		return refused("%s", lacks)
	}
	var first *declaration.Group
	for i, name := range x.quarkShards(m) {
		g, err := x.quarkGroup(m, name)
		switch {
		case err != "":
			return refused("%s", err)
		case i == 0:
			first = g
		case g.Weights != first.Weights || g.Input != first.Input:
			return refused("ValueError: Found a different quantization configuration for the shards of %s", m.Name)
		}
	}
	if why := x.quarkScheme(first, m.Kind); why != "" {
		return refused("%s", why)
	}
	return x.built(first)
}

// lacksTables is the complaint about a declaration without a table that the
// engine looks every module up in: of classes, in SGLang of names too. An empty
// one will do.
func (x matcher) lacksTables() string {
	switch classes := x.d.States("layer_type_quant_config"); {
	case x.r.Engine == VLLM && !classes:
		return "AttributeError: 'NoneType' object has no attribute 'get' (layer_type_quant_config is missing)"
	case x.r.Engine == SGLang && !(classes && x.d.States("layer_quant_config")):
		return "TypeError: argument of type 'NoneType' is not iterable (layer_quant_config or layer_type_quant_config is missing)"
	}
	return ""
}

// quarkShards are the names that a fused module is looked up by. SGLang has
// no shards of qkv_proj for it.
func (x matcher) quarkShards(m Module) []string {
	if x.r.Engine == SGLang && last(m.Name) == "gate_up_proj" && len(m.Shards) == 0 {
		return visionShards(m.Name)
	}
	return shardsOf(m, x.r.Engine == VLLM && !m.fusedVision() || last(m.Name) != "qkv_proj" && !m.fusedVision())
}

// ignoredQuark: the fused name, then all shards.
func (x matcher) ignoredQuark(m Module) (skip bool, err string) {
	hits := func(name string) bool { return x.excludedQuark(name) }
	if x.r.Engine == SGLang && m.Draft && x.cfg.SparseAttention() {
		hits = func(name string) bool { return x.excludedQuark(name) || x.excludedDraft(m, name) }
	}
	if hits(m.Name) || m.Kind == Experts && x.childExcluded(m) {
		return true, ""
	}
	if names := x.quarkShards(m); len(names) > 1 {
		skip, err = inPart(m, names, hits)
		if err != "" {
			err = "ValueError: Found different quantization schemes for the shards of " + m.Name
		}
	}
	return skip, err
}

// excludedQuark: an entry is the name, or its expression matches.
func (x matcher) excludedQuark(name string) bool {
	if x.c.set("quark "+string(x.r.Engine)+string(x.cfg.Family), x.quarkNames())[name] {
		return true
	}
	for _, p := range x.d.Ignore.Entries {
		if p.IsRegexp() && p.Match(name) {
			return true
		}
	}
	return false
}

func (x matcher) quarkNames() []string {
	return x.c.listed("quark "+string(x.r.Engine)+string(x.cfg.Family), func() []string {
		var out []string
		for _, p := range x.d.Ignore.Entries {
			if !p.IsRegexp() {
				out = append(out, x.entry(p.Text))
			}
		}
		return out
	})
}

// childExcluded: an excluded expert leaves all experts of the layer alone.
func (x matcher) childExcluded(m Module) bool {
	prefixes := []string{m.Name + "."}
	if x.r.Engine == SGLang && m.Draft && x.cfg.SparseAttention() {
		prefixes = append(prefixes, x.draftName(m.Name)+".")
	}
	return slices.ContainsFunc(x.quarkNames(), func(text string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(text, p) })
	})
}

// excludedDraft: for the sparse-attention family SGLang adds the exclusions of
// layer N under the draft's names; expressions are not among them.
func (x matcher) excludedDraft(m Module, name string) bool {
	return x.c.set("quark "+string(x.r.Engine)+string(x.cfg.Family), x.quarkNames())[x.draftName(name)]
}

// draftName is the checkpoint's name of a module of SGLang's draft.
func (x matcher) draftName(name string) string {
	return strings.Replace(name, "model.decoder.", x.cfg.LayerPrefix(x.cfg.Layers), 1)
}

// quarkGroup is the specification of one name: the first of layer_quant_config
// that means it, or the global one. vLLM takes an entry without a star for a
// text that contains the name; in SGLang entries may name single experts.
func (x matcher) quarkGroup(m Module, name string) (g *declaration.Group, err string) {
	vllm := x.r.Engine == VLLM
	for i := range x.d.Rules {
		rule := &x.d.Rules[i]
		text := x.entry(rule.Pattern.Text)
		if !vllm && m.Draft && x.cfg.SparseAttention() {
			text = strings.Replace(text, x.cfg.LayerPrefix(x.cfg.Layers), "model.decoder.", 1)
		}
		hit := false
		if vllm && !strings.Contains(text, "*") {
			hit = strings.Contains(text, name)
		} else {
			hit = x.c.glob(text).Match(name)
		}
		if hit {
			return ruleGroup(rule), ""
		}
	}
	if !vllm && m.Kind == Experts {
		if g, err = x.namedExperts(m); g != nil || err != "" {
			return g, err
		}
	}
	if g := x.d.Classes[m.classSGLang()]; g != nil && !vllm { // vLLM looks for the class itself among names, and never finds it
		return g, ""
	}
	return x.all(), ""
}

// classSGLang is the name of the class that SGLang builds a module of, by
// which layer_type_quant_config is looked up (0.5.23: models/glm4_moe.py,
// glm4_moe_lite.py, deepseek_v2.py, glm4v.py; layers/attention/vision.py,
// dsa/dsa_indexer.py; get_moe_impl_class without an all-to-all backend).
func (m Module) classSGLang() string {
	switch m.Kind {
	case Experts:
		return "FusedMoE"
	case Head:
		return "ParallelLMHead"
	}
	switch last(m.Name) {
	case "qkv_proj":
		return "QKVParallelLinear"
	case "gate_up_proj":
		return "MergedColumnParallelLinear"
	case "q_b_proj", "kv_b_proj", "q_proj":
		return "ColumnParallelLinear"
	case "o_proj", "down_proj":
		return "RowParallelLinear"
	case "proj":
		if strings.HasSuffix(m.Name, ".attn.proj") {
			return "RowParallelLinear"
		}
	}
	return "ReplicatedLinear" // joined latents, the indexer's wq_b, the tower's merger
}

func ruleGroup(r *declaration.Rule) *declaration.Group {
	if r.Group == nil {
		return &declaration.Group{Name: r.Pattern.Text, Judged: true}
	}
	return r.Group
}

// namedExperts: entries for single experts, which must all be there and agree.
func (x matcher) namedExperts(m Module) (g *declaration.Group, err string) {
	prefixes := []string{m.Name + "."}
	if m.Draft && x.cfg.SparseAttention() {
		prefixes = append(prefixes, x.draftName(m.Name)+".")
	}
	for i := range x.d.Rules {
		rule := &x.d.Rules[i]
		for _, p := range prefixes {
			if !strings.HasPrefix(rule.Pattern.Text, p) {
				continue
			}
			if next := ruleGroup(rule); g == nil {
				g = next
			} else if next.Weights != g.Weights || next.Input != g.Input {
				return nil, fmt.Sprintf("ValueError: Found different quantization configurations among the experts of %s", m.Name)
			}
		}
	}
	return g, ""
}

// quarkScheme is why an engine has no class for a specification, "" where it
// has.
func (x matcher) quarkScheme(g *declaration.Group, kind Kind) string {
	if !g.Judged {
		return ""
	}
	w, in := g.Weights, g.Input
	mx := w.SameCodes(format.MXFP4) && w.Scale == format.E8M0
	ok := false
	switch vllm := x.r.Engine == VLLM; {
	case w.Type == format.Float && w.Bits == 8 && w.Strategy == format.Block:
		ok = in.Type == format.Float && in.Bits == 8 && in.When == format.Dynamic
	case w.Type == format.Float && w.Bits == 8 && (w.Strategy == format.Tensor || w.Strategy == format.Channel):
		ok = in.Type == format.Float && in.Bits == 8 && (in.When == format.Dynamic || in.Strategy == format.Tensor)
	case mx && in.Type == format.Float && in.Bits == 8 && in.When == format.Static && in.Strategy == format.Tensor:
		ok = vllm || kind == Experts
	case mx && vllm:
		ok = !in.Quantized() || in.When == format.Dynamic
	case mx:
		ok = in.Type == format.Float && in.Bits == 4 && in.Group == 32 && in.When == format.Dynamic && in.Scale == format.E8M0
	case w.SameCodes(format.NVFP4):
		ok = vllm && in == format.NVFP4Local
	case w.SameCodes(format.Int8):
		ok = vllm
	}
	if ok {
		return ""
	}
	if kind == Experts {
		return "RuntimeError: Unsupported FusedMoe scheme"
	}
	return fmt.Sprintf("NotImplementedError: No quark compatible scheme was found for %s with %s activations", w, in)
}

// Scales says why a release has no place for the scales of a module's weight
// that have this many dimensions, "" where it has or that is not known. Quark
// stores one scale a channel as [N]. Both engines' classes for its FP8, of
// linears and of experts, register them so and take no [N, 1]; of its int8
// vLLM's linears take both and its experts [N] alone (vllm 0.32
// quark/schemes/quark_w8a8_fp8.py, quark_w8a8_int8.py and quark_moe.py, sglang
// 0.5.23 quark/schemes).
func (r Release) Scales(l Layout, k Kind, w format.Weight, dims int) string {
	if l != Quark || w.Strategy != format.Channel || dims != 2 || r.Engine == Ascend || w.Type == format.Int && k != Experts {
		return ""
	}
	return "the scales of its channels are registered as [N], the file has [N, 1]"
}
