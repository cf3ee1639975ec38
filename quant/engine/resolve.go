package engine

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// Resolution is what an engine decides for a module.
type Resolution struct {
	Weight format.Weight
	Err    string // the engine's complaint; "" when it builds the module
	Class  string // the engine's class for it; "" when unquantised
	// Whole tells that the complaint is about the declaration: no module is
	// built.
	Whole bool
	// Unknown says what no table knows: the module is not judged.
	Unknown string

	down  *format.Weight // of the experts' down projections where it differs
	group *Group         // compressed-tensors: the group that decided
	// unmatched tells a module that no group of compressed-tensors is for.
	unmatched bool
}

// Of returns what one stored module behind the resolved one is taken for. It
// differs from Weight only for the down projections of routed experts on
// SGLang's NPU path, which decides on them alone (docs/facts/engine-sglang.md 6).
func (r Resolution) Of(stored string) format.Weight {
	if r.down != nil && strings.HasSuffix(stored, ".down_proj") {
		return *r.down
	}
	return r.Weight
}

func float() Resolution { return Resolution{} }

func refused(format string, args ...any) Resolution {
	return Resolution{Err: fmt.Sprintf(format, args...)}
}

// refusedWhole is the engine's complaint about the declaration.
func refusedWhole(format string, args ...any) Resolution {
	return Resolution{Err: fmt.Sprintf(format, args...), Whole: true}
}

func by(g *Group) Resolution {
	if g == nil {
		return float()
	}
	return Resolution{Weight: g.Weight, group: g}
}

// Resolve applies a release's matching rules to one module: what its config
// declares the weight to be. Whether the engine has a class for it is the
// question of [Judge].
func Resolve(r Release, cfg *glm.Config, c *Config, m Module) Resolution {
	if d := c.Declaration; d != nil && c.Method == "compressed-tensors" {
		for i := range d.Groups {
			if d.Groups[i].Preset {
				// vllm 0.32 and sglang 0.5.23 compressed_tensors.py, vllm-ascend 0.30: quant_config.get("targets")
				return refusedWhole("AttributeError: 'list' object has no attribute 'get' (config_groups names the scheme %q in place of an object)", d.Groups[i].Name)
			}
		}
	}
	return r.spec.resolve(r, cfg, c, m)
}

func unknownMethod(r Release, c *Config) Resolution {
	return Resolution{Unknown: fmt.Sprintf("no table says what %s makes of quant_method %q", r.Title(), c.Method)}
}

// blockFP8 is what quant_method fp8 makes of a module that is not listed.
func blockFP8() Resolution { return Resolution{Weight: format.Float8Block} }

// expertNames are the names that stand for all experts of a layer.
func expertNames(m Module) []string {
	return []string{m.Name + ".0.gate_proj", m.Name + ".0.up_proj", m.Name + ".0.down_proj"}
}

// same folds the answers for several names into one.
func same(names []string, answer func(string) Resolution, complaint string) Resolution {
	first := answer(names[0])
	for _, n := range names[1:] {
		if r := answer(n); r.Weight != first.Weight || r.Err != first.Err {
			return refused("%s", complaint)
		}
	}
	return first
}

// count returns how many names a predicate holds for.
func count(names []string, holds func(string) bool) (n int) {
	for _, name := range names {
		if holds(name) {
			n++
		}
	}
	return n
}

// byClass returns the group that names the module's class: the part of a
// target that is neither a pattern nor the whole name, upper and lower case
// alike.
func byClass(targets []target, m Module) *Group {
	class := strings.ToLower(m.class())
	for _, t := range targets {
		if t.re == nil && strings.Contains(class, strings.ToLower(t.Text)) {
			return t.group
		}
	}
	return nil
}

func byName(targets []target, same func(t target) bool) *Group {
	for _, t := range targets {
		if same(t) {
			return t.group
		}
	}
	return nil
}

// Declared is what a config says of a module under the name that the
// checkpoint gives it: the reading of tools that build no engine's modules
// (compressed-tensors itself, transformers, msmodelslim). A literal of an fp8
// list stands for its children too, as in transformers. ok is false when a
// description has no entry.
func Declared(c *Config, module string) (p Part, ok bool) {
	switch c.Method {
	case "ascend":
		entry := c.view("", nil).schemes[module]
		s := meaning(entry)
		return Part{s.Weights, s.Input, entry}, entry != ""
	case "fp8":
		for _, en := range c.NotConvert {
			if en == module || strings.HasPrefix(module, en+".") {
				return Part{}, true
			}
		}
		return Part{Weight: format.Float8Block, Acts: format.Float8Group}, true
	}
	if c.Method != "compressed-tensors" && c.Declaration != nil {
		if g := c.Declaration.Of(module).Group; g != nil {
			return Part{Weight: g.Weights, Acts: g.Input}, true
		}
		return Part{}, true
	}
	for _, en := range c.Ignore {
		if en.matches(module) {
			return Part{}, true
		}
	}
	targets := c.targets()
	g := byName(targets, func(t target) bool { return t.matches(module) })
	if g == nil {
		g = byClass(targets, Module{Name: module, Kind: Linear})
	}
	if g == nil {
		return Part{}, true
	}
	p = Part{Weight: g.Weights}
	if g.Acts != nil {
		p.Acts = *g.Acts
	}
	return p, true
}

// formatOf is the format that counts for a group: its own, or the file's.
func (c *Config) formatOf(g *Group) string {
	if g.Format != "" {
		return g.Format
	}
	return c.Format
}
