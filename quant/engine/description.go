package engine

import (
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/glm"
)

// scheme is a value of an Ascend description as the engines take it
// (engine-vllm-ascend.md 1.1, engine-sglang.md 6).
type scheme struct {
	encoding Encoding
	// Which engine registers it for linears and for routed experts.
	linear, experts map[Engine]bool
}

var (
	both       = map[Engine]bool{Ascend: true, SGLang: true}
	ascendOnly = map[Engine]bool{Ascend: true}
)

var schemes = map[string]scheme{
	"FLOAT":                  {Float, both, ascendOnly},
	"W8A8":                   {"int8 channel", both, nil},
	"W8A8_DYNAMIC":           {"int8 channel", both, both},
	"W8A8_MIX":               {"int8 channel", ascendOnly, ascendOnly},
	"W8A16":                  {"int8 channel", ascendOnly, nil},
	"W4A8_DYNAMIC":           {"int4 channel", ascendOnly, both},
	"W4A16":                  {"int4 group 32", nil, ascendOnly},
	"W4A4_DYNAMIC":           {"int4 channel", both, map[Engine]bool{SGLang: true}},
	"W4A4_FLATQUANT_DYNAMIC": {"int4 channel", ascendOnly, nil},
	"W8A8_MXFP8":             {"fp8 mx", both, both},
}

// asEncoding translates the scheme strings of an Ascend description.
func asEncoding(s string) (Encoding, bool) {
	v, ok := schemes[s]
	return v.encoding, ok
}

// resolveDescription looks a module up in quant_model_description.json.
func resolveDescription(e Engine, cfg *glm.Config, c *Config, m Module) Resolution {
	keys, floats := c.runtimeKeys(e, cfg)
	if e == SGLang {
		return describedSGLang(cfg, c, keys, m)
	}
	return describedAscend(keys, floats, m)
}

// describedAscend is vllm-ascend's way (engine-vllm-ascend.md 2): a fused
// module is FLOAT or not by all its shards and has their common scheme; any
// key that begins like a single module's name and says FLOAT makes it FLOAT;
// experts go by expert 0.
func describedAscend(keys map[string]string, floats []string, m Module) Resolution {
	names := m.Shards
	switch {
	case m.Kind == Experts:
		names = expertNames(m)
	case len(names) == 0:
		if i, _ := slices.BinarySearch(floats, m.Name); i < len(floats) && strings.HasPrefix(floats[i], m.Name) {
			return float()
		}
		names = []string{m.Name}
	}
	for _, n := range names {
		if _, ok := keys[n+".weight"]; !ok {
			return refused("KeyError: '%s.weight'", n)
		}
	}
	value := func(n string) string { return keys[n+".weight"] }
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
	return Resolution{Encoding: s.encoding, Class: first}
}

// describedSGLang is SGLang's way on NPUs (engine-sglang.md 6): linears without
// an entry or with an unknown scheme are built in BF16, with a warning;
// routed experts are never FLOAT, and w13 and w2 are looked up apart. Started
// without a flag the draft is unquantised. With --quantization modelslim it
// reads the description too, under model.layers.N for glm_moe_dsa and under
// model.decoder, where there is never an entry, for the others; so only a
// quantised draft of glm_moe_dsa is started with the flag.
func describedSGLang(cfg *glm.Config, c *Config, keys map[string]string, m Module) Resolution {
	if m.Draft {
		prefix := cfg.LayerPrefix(cfg.Layers)
		if v := keys[prefix+"mlp.experts.0.gate_proj.weight"]; cfg.Family != glm.GlmMoeDsa || v == "" || v == "FLOAT" {
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
	value := func(n string) string { return keys[n+".weight"] }
	if m.Kind == Experts {
		names := expertNames(m)
		up, down := schemes[value(names[0])], schemes[value(names[2])]
		if value(names[0]) != value(names[1]) {
			return refused("ValueError: gate and up of %s differ", m.Name)
		}
		if !up.experts[SGLang] || !down.experts[SGLang] {
			return refused("ValueError: routed experts %s are FLOAT, missing or of an unknown scheme", m.Name)
		}
		r := Resolution{Encoding: up.encoding, Class: value(names[0])}
		if down.encoding != up.encoding {
			r.down = down.encoding
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
		return Resolution{Encoding: s.encoding, Class: value(names[0])}
	}
	return float()
}

// keyView says for whom description keys were renamed.
type keyView struct {
	engine Engine
	family glm.Family
}

// runtimeKeys maps the description's keys to runtime names and adds the alias
// without ".shared_head" and that of packed weights. SGLang takes the keys as
// they are. floats are the keys of FLOAT weights, sorted.
func (c *Config) runtimeKeys(e Engine, cfg *glm.Config) (keys map[string]string, floats []string) {
	view := keyView{e, cfg.Family}
	c.mu.Lock()
	keys, floats = c.keys[view], c.floats[view]
	c.mu.Unlock()
	if keys != nil {
		return keys, floats
	}
	keys = make(map[string]string, len(c.Description))
	for k, v := range c.Description {
		s, ok := v.(string)
		if !ok {
			continue
		}
		name := k
		if e == Ascend {
			name = mapName(e, cfg, k)
		}
		keys[name] = s
		if strings.Contains(name, ".shared_head.") {
			keys[strings.Replace(name, ".shared_head.", ".", 1)] = s
		}
		if base, ok := strings.CutSuffix(name, ".weight_packed"); ok {
			keys[base+".weight"] = s
		}
	}
	for k, v := range keys {
		if v == "FLOAT" && strings.HasSuffix(k, ".weight") {
			floats = append(floats, k)
		}
	}
	slices.Sort(floats)
	c.mu.Lock() // two engines make their views at the same time
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys, c.floats = map[keyView]map[string]string{}, map[keyView][]string{}
	}
	c.keys[view], c.floats[view] = keys, floats
	return keys, floats
}
