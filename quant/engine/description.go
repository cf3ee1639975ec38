package engine

import (
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// scheme is a value of an Ascend description as the engines take it
// (docs/facts/engine-vllm-ascend.md 1.1, docs/facts/engine-sglang.md 6).
type scheme struct {
	weight format.Weight
	// Which engine registers it for linears and for routed experts.
	linear, experts map[Engine]bool
}

var (
	both       = map[Engine]bool{Ascend: true, SGLang: true}
	ascendOnly = map[Engine]bool{Ascend: true}
)

var schemes = map[string]scheme{
	"FLOAT":                  {format.Weight{}, both, ascendOnly},
	"W8A8":                   {format.Int8, both, nil},
	"W8A8_DYNAMIC":           {format.Int8, both, both},
	"W8A8_MIX":               {format.Int8, ascendOnly, ascendOnly},
	"W8A16":                  {format.Int8, ascendOnly, nil},
	"W4A8_DYNAMIC":           {format.Int4(0), ascendOnly, both},
	"W4A16":                  {format.Int4(32), nil, ascendOnly},
	"W4A4_DYNAMIC":           {format.Int4(0), both, map[Engine]bool{SGLang: true}},
	"W4A4_FLATQUANT_DYNAMIC": {format.Int4(0), ascendOnly, nil},
	"W8A8_MXFP8":             {format.MXFP8, both, both},
}

// asWeight translates the scheme strings of an Ascend description.
func asWeight(s string) (format.Weight, bool) {
	v, ok := schemes[s]
	return v.weight, ok
}

// resolveDescription looks a module up in quant_model_description.json.
func resolveDescription(e Engine, cfg *glm.Config, c *Config, m Module) Resolution {
	v := c.view(e, cfg)
	if e == SGLang {
		return v.sglang(cfg, m)
	}
	return v.ascend(m)
}

// ascend is vllm-ascend's way (docs/facts/engine-vllm-ascend.md 2): a fused
// module is FLOAT or not by all its shards and has their common scheme; any
// key that begins like a single module's name and says FLOAT makes it FLOAT;
// experts go by expert 0.
func (v *view) ascend(m Module) Resolution {
	names := m.Shards
	switch {
	case m.Kind == Experts:
		names = expertNames(m)
	case len(names) == 0:
		if i, _ := slices.BinarySearch(v.floats, m.Name); i < len(v.floats) && strings.HasPrefix(v.floats[i], m.Name) {
			return float()
		}
		names = []string{m.Name}
	}
	for _, n := range names {
		if _, ok := v.schemes[n]; !ok {
			return refused("KeyError: '%s.weight'", n)
		}
	}
	value := func(n string) string { return v.schemes[n] }
	switch floats := count(names, func(n string) bool { return value(n) == "FLOAT" }); {
	case floats == len(names):
		return float()
	case floats > 0:
		return refused("ValueError: Detected some but not all shards of %s are quantized", m.Name)
	}
	first := value(names[0])
	if count(names, func(n string) bool { return value(n) == first }) < len(names) {
		return refused("ValueError: Not all shards of %s have one scheme", m.Name)
	}
	s := schemes[first]
	if m.Kind == Experts && !s.experts[Ascend] || m.Kind != Experts && !s.linear[Ascend] {
		return refused("NotImplementedError: %s has no scheme %s", m.Name, first)
	}
	return Resolution{Weight: s.weight, Class: first}
}

// sglang is SGLang's way on NPUs (docs/facts/engine-sglang.md 6): linears without
// an entry or with an unknown scheme are built in BF16, with a warning;
// routed experts are never FLOAT, and w13 and w2 are looked up apart. Started
// without a flag the draft is unquantised. With --quantization modelslim it
// reads the description too, under model.layers.N for glm_moe_dsa and under
// model.decoder, where there is never an entry, for the others; so only a
// quantised draft of glm_moe_dsa is started with the flag.
func (v *view) sglang(cfg *glm.Config, m Module) Resolution {
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
		up, down := schemes[value(names[0])], schemes[value(names[2])]
		if value(names[0]) != value(names[1]) {
			return refused("ValueError: gate and up of %s differ", m.Name)
		}
		if !up.experts[SGLang] || !down.experts[SGLang] {
			return refused("ValueError: routed experts %s are FLOAT, missing or of an unknown scheme", m.Name)
		}
		r := Resolution{Weight: up.weight, Class: value(names[0])}
		if down.weight != up.weight {
			r.down = &down.weight
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
	if s := schemes[value(names[0])]; s.linear[SGLang] {
		return Resolution{Weight: s.weight, Class: value(names[0])}
	}
	return float()
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
