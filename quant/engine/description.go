package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
)

// scheme is an entry of an Ascend description as an engine takes it: in which
// releases it is registered for linears and for routed experts (nil: never),
// and on which devices it runs.
type scheme struct {
	linear, experts *span
	on              func(Device) bool // nil: everywhere
}

// registered reports whether a release has a class for the scheme.
func (s scheme) registered(r Release, k Kind) bool {
	during := s.linear
	if k == Experts {
		during = s.experts
	}
	return during != nil && r.holds(*during)
}

var always = &span{}

// meaning is what an entry says of a weight and its input.
func meaning(entry string) declaration.AscendScheme {
	s, _ := declaration.ParseAscend(strings.TrimSuffix(entry, "_FLATQUANT"))
	return s
}

// otherSchemes are entries that msmodelslim writes and no table covers.
var otherSchemes = []string{"WFP8AFP8_DYNAMIC", "W4A4_MXFP4_DUALSCALE", "W16A16S", "W8A8S", "W8A8SC", "FAQuant", "FAKQuant", "INT8_DYNAMIC"}

// scheme looks a part of an Ascend folder up in the registry.
func (c cell) scheme(k kept) (Answer, string) {
	r := c.release
	if r.spec.schemes == nil {
		for _, f := range r.spec.forms {
			if f.layout == AscendLayout {
				return f.answer, f.why
			}
		}
		return NotJudged, fmt.Sprintf("no table says what %s makes of this layout", r.Title())
	}
	name := k.part.Scheme
	if name == "" {
		name = schemeOf(k.part)
	}
	answer, why := r.Registers(name, k.kind)
	switch {
	case answer == Refuses && r.Engine == SGLang && k.kind != Experts:
		return Differs, fmt.Sprintf("%s: %s, they are built in BF16 with a warning and the codes are read as weights", k.what, why)
	case answer != Loads:
		return answer, fmt.Sprintf("%s: %s", k.what, why)
	}
	if on := r.spec.schemes[name].on; on != nil && !on(c.device) {
		return Refuses, fmt.Sprintf("%s (%s) runs on Atlas 350 and 950 (A5) only", name, k.what)
	}
	return Loads, ""
}

// schemeOf is the entry that msmodelslim has for a part.
func schemeOf(p Part) string {
	for _, name := range []string{"W8A8_DYNAMIC", "W8A8", "W4A8_DYNAMIC", "W8A8_MXFP8", "W4A4_MXFP4"} {
		if s := meaning(name); s.Weights.SameCodes(p.Weight) && s.Input == p.Acts {
			return name
		}
	}
	return p.Weight.String()
}

// Registers says whether a release has a class for an entry of an Ascend
// description, for linears or for Experts: which releases do where it has not,
// and NotJudged for an entry that exists and is in no table.
func (r Release) Registers(entry string, k Kind) (Answer, string) {
	s, ok := r.spec.schemes[entry]
	kind := "linears"
	if k == Experts {
		kind = "experts"
	}
	during := s.linear
	if k == Experts {
		during = s.experts
	}
	switch {
	case ok && s.registered(r, k):
		return Loads, ""
	case ok && during != nil && during.from != "":
		return Refuses, fmt.Sprintf("%s is registered for %s from %s %s on, not in %s", entry, kind, r.Engine, during.from, r.Version)
	case ok && during != nil:
		return Refuses, fmt.Sprintf("%s is registered for %s before %s %s only", entry, kind, r.Engine, during.until)
	case !ok && (slices.Contains(otherSchemes, entry) || ascendSchemes[entry].linear != nil && r.Engine != SGLang):
		return NotJudged, fmt.Sprintf("no table says what %s makes of %s", r.Title(), entry)
	}
	return Refuses, fmt.Sprintf("%s has no scheme %s for %s", r.Title(), entry, kind)
}

// view is a description as somebody looks it up.
type view struct {
	schemes map[string]string // of a module's weight
	floats  []string          // the modules whose weight is FLOAT, sorted
}

// reader says for whom a view is made: for an engine, or with an empty name
// for tools that take a description as it is.
type reader struct {
	engine Engine
	family glm.Family
}

// view maps the description's keys to runtime names and, for engines, adds the
// alias without ".shared_head" and that of packed weights. SGLang takes the
// keys as they are.
func (c *Config) view(e Engine, cfg *glm.Config) *view {
	by := reader{engine: e}
	if e == Ascend {
		by.family = cfg.Family
	}
	c.mu.Lock()
	v := c.views[by]
	c.mu.Unlock()
	if v != nil {
		return v
	}
	v = &view{schemes: make(map[string]string, len(c.Description))}
	for _, d := range c.Description {
		name := d.Key
		if e == Ascend {
			name = mapName(e, cfg, name)
		}
		module, ok := strings.CutSuffix(name, ".weight")
		if !ok && e != "" {
			module, ok = strings.CutSuffix(name, ".weight_packed")
		}
		if !ok {
			continue
		}
		v.schemes[module] = d.Scheme
		if e != "" && strings.Contains(name, ".shared_head.") {
			if alias, ok := strings.CutSuffix(strings.Replace(name, ".shared_head.", ".", 1), ".weight"); ok {
				v.schemes[alias] = d.Scheme
			}
		}
	}
	for m, s := range v.schemes {
		if s == "FLOAT" {
			v.floats = append(v.floats, m)
		}
	}
	slices.Sort(v.floats)
	c.mu.Lock() // two engines make their views at the same time
	defer c.mu.Unlock()
	if c.views == nil {
		c.views = map[reader]*view{}
	}
	c.views[by] = v
	return v
}
