package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/glm"
)

// asEncoding translates the scheme strings of an Ascend description.
func asEncoding(s string) (Encoding, bool) {
	switch s {
	case "FLOAT":
		return Float, true
	case "W8A8_DYNAMIC", "W8A8", "W8A8_MIX":
		return "int8 channel", true
	case "W4A8_DYNAMIC":
		return "int4 channel", true
	}
	return "", false
}

// resolveDescription looks a module up in quant_model_description.json the way
// vllm-ascend does (engine-vllm-ascend.md 2, 5) and SGLang on an NPU
// (engine-sglang.md 6).
func resolveDescription(e Engine, cfg *glm.Config, c *Config, m Module) Resolution {
	keys := runtimeKeys(e, cfg, c)
	if e == SGLang && m.Draft {
		return Resolution{Encoding: Float} // without a flag of its own the draft is built unquantised
	}
	one := func(name string) (Encoding, string) {
		v, ok := keys[name+".weight"]
		if !ok {
			if e == SGLang && m.Kind != Experts {
				return Float, ""
			}
			return "", "KeyError: '" + name + ".weight'"
		}
		enc, ok := asEncoding(v)
		if !ok || m.Kind == Experts && v == "W8A8" || m.Kind != Experts && enc == "int4 channel" {
			return "", fmt.Sprintf("NotImplementedError: quant_type=%s for %s", v, name)
		}
		return enc, ""
	}
	names := m.Shards
	switch {
	case m.Kind == Experts:
		names = expertNames(m)
	case len(names) == 0:
		names = []string{m.Name}
		if e == Ascend && c.floatBelow(e, m.Name) {
			return Resolution{Encoding: Float}
		}
	}
	var first Encoding
	for i, n := range names {
		enc, complaint := one(n)
		switch {
		case complaint != "":
			return Resolution{Err: complaint}
		case i == 0:
			first = enc
		case enc != first:
			return Resolution{Err: "Detected some but not all shards of " + m.Name + " are quantized"}
		}
	}
	if e == SGLang && m.Kind == Experts && first == Float {
		return Resolution{Err: "ValueError: routed experts cannot be FLOAT"}
	}
	return Resolution{Encoding: first}
}

// floatBelow reports whether any FLOAT key begins like the module: that makes
// the module FLOAT.
func (c *Config) floatBelow(e Engine, module string) bool {
	floats := c.floats[e]
	i, _ := slices.BinarySearch(floats, module)
	return i < len(floats) && strings.HasPrefix(floats[i], module)
}

// runtimeKeys maps the description's keys to runtime names and adds the alias
// without ".shared_head".
func runtimeKeys(e Engine, cfg *glm.Config, c *Config) map[string]string {
	if c.keys[e] != nil {
		return c.keys[e]
	}
	keys := make(map[string]string, len(c.Description))
	for k, v := range c.Description {
		s, ok := v.(string)
		if !ok {
			continue
		}
		name := k
		if cfg.Family == glm.Glm4vMoe && e == Ascend {
			name = mapName(e, k)
		}
		keys[name] = s
		if strings.Contains(name, ".shared_head.") {
			keys[strings.Replace(name, ".shared_head.", ".", 1)] = s
		}
	}
	if c.keys == nil {
		c.keys, c.floats = map[Engine]map[string]string{}, map[Engine][]string{}
	}
	c.keys[e] = keys
	for k, v := range keys {
		if v == "FLOAT" && strings.HasSuffix(k, ".weight") {
			c.floats[e] = append(c.floats[e], k)
		}
	}
	slices.Sort(c.floats[e])
	return keys
}
