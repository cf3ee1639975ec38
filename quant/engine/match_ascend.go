package engine

import (
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// resolveAscend matches a module in vllm-ascend: with a description by its own
// rules, with other configurations by vLLM's.
func resolveAscend(r Release, cfg *glm.Config, c *Config, m Module) Resolution {
	switch c.Method {
	case "ascend":
		return c.view(Ascend, cfg).ascend(r, m)
	case "fp8":
		if !r.holds(span{from: "0.21"}) {
			return refused("%s has no class for fp8", r.Title())
		}
		return resolveFP8VLLM(cfg, c, m)
	case "compressed-tensors":
		return matchVLLM(cfg, c, m)
	}
	return unknownMethod(r, c)
}

// ascend is vllm-ascend's way (docs/facts/engine-vllm-ascend.md 2): a fused
// module is FLOAT or not by all its shards and has their common scheme; any
// key that begins like a single module's name and says FLOAT makes it FLOAT;
// experts go by expert 0.
func (v *view) ascend(r Release, m Module) Resolution {
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
	if answer, why := r.Registers(first, m.Kind); answer == NotJudged {
		return Resolution{Unknown: why}
	} else if answer != Loads {
		return refused("NotImplementedError: %s", why)
	}
	return Resolution{Weight: meaning(first).Weights, Class: first}
}
