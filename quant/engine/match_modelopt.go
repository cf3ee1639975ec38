package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// ModelOpt (docs/facts/formats.md 4.4): vllm 0.32 modelopt.py:is_layer_excluded,
// sglang 0.5.23 modelopt_quant.py:is_layer_excluded and quant/utils.py:is_layer_skipped.

// modelOptVLLM: an exclusion is a name, of shards and experts too; a part of
// a name; or a glob.
func (x matcher) modelOptVLLM(m Module) Resolution {
	if why := x.modelOptRefusedVLLM(); why != "" {
		return refusedWhole("%s", why)
	}
	if m.Kind == Embedding {
		return float()
	}
	switch skip, err := x.excludedVLLM(m); {
	case err != "":
		return refused("%s", err)
	case skip, inTower(m.Name):
		return float()
	}
	if strings.EqualFold(x.d.Algorithm, "MIXED_PRECISION") {
		return x.mixed(m, m.Shards, true)
	}
	if w := x.all().Weights; m.Kind == Experts && w.Type == format.Float && w.Bits == 8 && w.Scale != format.E8M0 {
		return Resolution{Weight: oneScale} // the one class for FP8 experts has a scale a tensor
	}
	return x.built(x.all())
}

// inTower: names that vLLM never quantizes; GLM's tower is called otherwise.
func inTower(name string) bool {
	return strings.Contains(name, "vision_tower") || strings.Contains(name, "vision_model") || strings.Contains(name, "vit_large_projector")
}

// modelOptRefusedVLLM is what vLLM says of the declaration as a whole.
func (x matcher) modelOptRefusedVLLM() string {
	algo := strings.ToUpper(x.d.Algorithm)
	switch algo {
	case "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "NVFP4", "W4A16_NVFP4", "MXFP8":
	case "MIXED_PRECISION":
		if len(x.d.Rules) == 0 {
			return "ValueError: MIXED_PRECISION quant_algo requires a non-empty 'quantized_layers' mapping"
		}
	default:
		return fmt.Sprintf("ValueError: ModelOpt currently only supports FP8, FP8_PER_CHANNEL_PER_TOKEN, FP8_PB_WO, NVFP4, W4A16_NVFP4, MXFP8 and MIXED_PRECISION, not %s",
			x.d.Algorithm)
	}
	if !x.d.States("quantization") || strings.HasPrefix(algo, "FP8") || algo == "MIXED_PRECISION" {
		return ""
	}
	for _, key := range []string{"group_size", "kv_cache_quant_algo", "exclude_modules"} {
		if !x.d.States("quantization."+key) && !(key == "group_size" && algo == "MXFP8") {
			return fmt.Sprintf("ValueError: %s quantization requires the field %s in hf_quant_config.json", algo, key)
		}
	}
	return ""
}

// excludedVLLM reports whether an entry of the exclusions means the module.
func (x matcher) excludedVLLM(m Module) (skip bool, err string) {
	list := x.exclusionsVLLM()
	if strings.Contains(m.Name, "experts") && len(m.Shards) == 0 {
		for _, text := range list {
			if strings.Contains(text, "experts") && strings.Contains(text, m.Name) {
				return true, ""
			}
		}
	} else if skip, err = inPart(m, shardsOf(m, !slices.Contains(list, m.Name)), func(n string) bool { return slices.Contains(list, n) }); skip || err != "" {
		return skip, err
	}
	for _, text := range list {
		if text != m.Name && (strings.Contains(m.Name, text) || strings.Contains(strings.TrimPrefix(m.Name, "language_model."), text)) {
			return true, ""
		}
	}
	return slices.ContainsFunc(list, func(text string) bool { return x.c.glob(text).Match(m.Name) }), ""
}

// exclusionsVLLM are the exclusions under vLLM's names: where a model maps
// names, "x*" becomes "x" and "x.*" before.
func (x matcher) exclusionsVLLM() []string {
	return x.c.listed(string(x.cfg.Family), func() []string {
		var out []string
		for _, p := range x.d.Ignore.Entries {
			text := p.Text
			if n := len(text); x.cfg.NestedText() && n >= 2 && text[n-1] == '*' && text[n-2] != '.' {
				out = append(out, x.entry(text[:n-1]), x.entry(text[:n-1]+".*"))
				continue
			}
			out = append(out, x.entry(text))
		}
		return out
	})
}

// modelOptSGLang: an exclusion is a path in the name (of a fused module: in
// those of all shards), or a glob of the whole name or of one of its parts.
func (x matcher) modelOptSGLang(m Module) Resolution {
	algo := x.d.Algorithm
	if algo == "MIXED_PRECISION" && !x.mixedFP4() {
		return w4AFP8(m)
	}
	if why := x.modelOptRefusedSGLang(); why != "" {
		return refusedWhole("%s", why)
	}
	if m.Kind == Embedding || m.Draft && m.Kind != Head && strings.Contains(algo, "FP4") {
		return float() // the MTP layer is built in full precision, whatever is stored
	}
	if algo == "MXFP8" {
		return x.mxfp8SGLang(m)
	}
	if m.Kind != Experts {
		switch skip, err := x.skippedSGLang(m, false); {
		case err != "":
			return refused("%s", err)
		case skip:
			return float()
		}
	}
	if x.excludedSGLang(m.Name) {
		return float()
	}
	switch {
	case algo == "MIXED_PRECISION" && x.cfg.SparseAttention() && last(m.Name) == "fused_qkv_a_proj_with_mqa":
		return x.mixed(m, m.Shards, false)
	case algo == "MIXED_PRECISION":
		return x.mixed(m, nil, false)
	}
	return x.built(x.all())
}

// modelOptRefusedSGLang is what SGLang says of the declaration as a whole.
func (x matcher) modelOptRefusedSGLang() string {
	switch algo := x.d.Algorithm; algo {
	case "FP8", "NVFP4", "W4A16_NVFP4", "MXFP8", "MIXED_PRECISION":
	case "NVFP4_AWQ":
		return "" // read as NVFP4; what becomes of pre_quant_scale is not known
	default:
		return fmt.Sprintf("ValueError: ModelOpt's quant_algo %q is not supported", algo)
	}
	if strings.Contains(x.d.Algorithm, "FP4") && x.ownFile() && !x.d.States("quantization.group_size") {
		return "ValueError: No group_size found in config"
	}
	return ""
}

// mixedFP4 reports whether a layer of quantized_layers is NVFP4.
func (x matcher) mixedFP4() bool {
	return slices.ContainsFunc(x.d.Rules, func(r declaration.Rule) bool { return r.Group != nil && onlyFloat4(r.Group.Weights) })
}

// w4AFP8: MIXED_PRECISION without NVFP4 layers is taken for w4afp8, whose
// linears do not get built.
func w4AFP8(m Module) Resolution {
	switch m.Kind {
	case Linear:
		return refused("AttributeError: 'W4AFp8Config' object has no attribute 'use_mxfp8' (MIXED_PRECISION without NVFP4 layers is taken for w4afp8)")
	case Experts:
		return Resolution{Weight: format.Int4(128)}
	}
	return float()
}

// ownFile: the declaration is hf_quant_config.json, not config.json's.
func (x matcher) ownFile() bool { return x.d.Root == "hf_quant_config.json" }

// exclusionsSGLang: what stands below "quantization" in config.json is passed
// over, the exclusions too.
func (x matcher) exclusionsSGLang() []*declaration.Pattern {
	if x.d.States("quantization") && !x.ownFile() {
		return nil
	}
	return x.d.Ignore.Entries
}

// mxfp8SGLang: MXFP8 goes through the class for fp8, whose experts are looked
// up in the list too.
func (x matcher) mxfp8SGLang(m Module) Resolution {
	if m.Kind == Head {
		return float()
	}
	switch skip, err := x.skippedSGLang(m, true); {
	case err != "":
		return refused("%s", err)
	case skip:
		return float()
	}
	return x.built(x.all())
}

// expands reports whether SGLang knows the shards of a fused module:
// qkv_proj and gate_up_proj always, the latent projections for the
// sparse-attention family alone.
func (x matcher) expands(m Module) bool {
	switch last(m.Name) {
	case "qkv_proj", "gate_up_proj":
		return true
	case "fused_qkv_a_proj_with_mqa":
		return x.cfg.SparseAttention()
	}
	return false
}

// skippedSGLang is quant/utils.py:is_layer_skipped. The class for fp8 finds
// entries without "model." in front, too.
func (x matcher) skippedSGLang(m Module, fp8 bool) (skip bool, err string) {
	key := pick(fp8, "fp8 words", "words")
	words := x.c.listed(key, func() []string {
		var out []string
		for _, p := range x.exclusionsSGLang() {
			text := strings.TrimRight(p.Text, ".")
			if out = append(out, text); fp8 {
				out = append(out, strings.TrimPrefix(text, "model."))
			}
		}
		return out
	})
	set := x.c.set(key, words)
	holds := func(name string) bool { return onPath(set, name) }
	names := []string{m.Name}
	if x.expands(m) {
		if names = m.Shards; len(names) == 0 {
			names = visionShards(m.Name)
		}
	}
	if len(names) > 1 {
		return inPart(m, names, holds)
	}
	if holds(m.Name) {
		return true, ""
	}
	return strings.Contains(m.Name, "experts") && slices.ContainsFunc(words, func(w string) bool {
		return strings.Contains(w, "experts") && strings.Contains(w, m.Name)
	}), ""
}

// visionShards are the names that SGLang makes of a fused projection that has
// no shards in the file.
func visionShards(name string) []string {
	prefix := strings.TrimSuffix(name, last(name))
	if last(name) == "gate_up_proj" {
		return []string{prefix + "gate_proj", prefix + "up_proj"}
	}
	return []string{prefix + "q_proj", prefix + "k_proj", prefix + "v_proj"}
}

// latent are the last parts of exclusions that SGLang finds inside the last
// part of a name, too.
var latent = []string{"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"}

// excludedSGLang is ModelOptQuantConfig.is_layer_excluded.
func (x matcher) excludedSGLang(name string) bool {
	names := []string{name}
	if rest, ok := strings.CutPrefix(name, "language_model."); ok {
		names = append(names, rest)
	}
	for _, p := range x.exclusionsSGLang() {
		tail := last(p.Text)
		for _, n := range names {
			if x.c.wildcard(p.Text, n) || slices.Contains(latent, tail) && strings.Contains(last(n), tail) {
				return true
			}
			for part := range strings.SplitSeq(n, ".") {
				if x.c.wildcard(p.Text, part) {
					return true
				}
			}
		}
	}
	return false
}

// mixed looks a module up in quantized_layers: by its name, by its shards,
// then by the first entry below it. vLLM asks the parent of experts, too.
func (x matcher) mixed(m Module, shards []string, vllm bool) Resolution {
	by := func(i int) Resolution {
		if g := x.d.Rules[i].Group; g != nil {
			return x.built(g)
		}
		return float()
	}
	names := x.layerNames(m.Name)
	for _, n := range names {
		for i := range x.d.Rules {
			if x.entry(x.d.Rules[i].Pattern.Text) == n {
				return by(i)
			}
		}
	}
	var found []int
	for _, s := range shards {
		for _, n := range x.layerNames(s) {
			for i := range x.d.Rules {
				if x.entry(x.d.Rules[i].Pattern.Text) == n {
					found = append(found, i)
				}
			}
		}
	}
	if len(found) > 0 {
		first := by(found[0])
		for _, i := range found[1:] {
			if by(i).Weight != first.Weight {
				return refused("ValueError: Mixed quant_algo within fused layer %s", m.Name)
			}
		}
		return first
	}
	if vllm && m.Kind == Experts {
		for _, n := range names {
			names = append(names, strings.TrimSuffix(n, ".experts"))
		}
	}
	for _, n := range names {
		for i := range x.d.Rules {
			if strings.HasPrefix(x.entry(x.d.Rules[i].Pattern.Text), n+".") {
				return by(i)
			}
		}
	}
	return float()
}

// layerNames are the spellings under which quantized_layers is searched.
func (x matcher) layerNames(name string) []string {
	out := []string{name}
	if strings.HasSuffix(name, ".lm_head") {
		out = append(out, "lm_head")
	}
	switch rest, ok := strings.CutPrefix(name, "language_model.model."); {
	case ok:
		out = append(out, "model.language_model."+rest)
	case strings.HasPrefix(name, "model.") && x.r.Engine == SGLang:
		out = append(out, "model.language_model."+strings.TrimPrefix(name, "model."))
	}
	return out
}
