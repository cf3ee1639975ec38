package engine

import (
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// resolveAscend matches a module in vllm-ascend: with a description by its own
// rules, with other configurations by vLLM's, whose classes its own ones
// extend. What the platform does not list ends before any module is built
// (platform.py:supported_quantization).
func resolveAscend(r Release, cfg *glm.Config, c *Config, m Module) Resolution {
	switch c.Method {
	case "ascend":
		return c.view(Ascend, cfg).ascend(r, m)
	case "fp8":
		switch {
		case !r.holds(span{from: "0.21"}):
			return refusedWhole("ValueError: fp8 quantization is currently not supported in npu")
		case !r.holds(nativeFP8):
			return refusedWhole("AttributeError: the configuration has no attribute 'o_groups' (DeepSeek-V4's fp8)")
		}
		return resolveFP8VLLM(cfg, c, m)
	case "compressed-tensors":
		res := matchVLLM(cfg, c, m, r.holds(span{from: "0.27"}))
		if res.unmatched && r.holds(span{until: "0.24"}) {
			return refused("ValueError: Unable to find matching target for %s in the compressed-tensors layer config", m.Name)
		}
		return res
	case "modelopt":
		if d := c.Declaration; d != nil && r.holds(mxOfModelOpt) && len(d.Groups) > 0 && d.Groups[0].Weights.SameCodes(format.MXFP8) {
			res, _ := resolvePublished(vllm.release(len(vllm.releases)-1), cfg, c, m)
			return res
		}
	}
	if c.Declaration == nil || !slices.Contains(published, Layout(c.Method)) {
		return unknownMethod(r, c)
	}
	return refusedWhole("ValueError: %s quantization is currently not supported in npu", c.Method)
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
