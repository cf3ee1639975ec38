package glm

import (
	"strconv"
	"strings"
)

// ModuleOf splits a tensor name at its last dot: the module and the
// parameter. A name without a dot is all parameter.
func ModuleOf(name string) (module, param string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// LayerPrefix returns the start of the names of decoder layer i, with the
// final dot: "model.layers.3.".
func (c *Config) LayerPrefix(i int) string {
	return families[c.Family].prefix + "layers." + strconv.Itoa(i) + "."
}

// EmbeddingName returns the name of the token embedding [V, H].
func (c *Config) EmbeddingName() string { return families[c.Family].prefix + "embed_tokens.weight" }

// HeadName returns the name of the output head [V, H].
func (c *Config) HeadName() string { return "lm_head.weight" }

// FinalNormName returns the name of the norm before the head [H].
func (c *Config) FinalNormName() string { return families[c.Family].prefix + "norm.weight" }

// MTPNames returns the names of the copies of embedding and head, both
// [V, H], that MTP layer i may hold (docs/facts/families.md 5.3).
func (c *Config) MTPNames(layer int) (embed, head string) {
	p := c.LayerPrefix(layer)
	return p + "embed_tokens.weight", p + "shared_head.head.weight"
}

// StackedExperts returns the names of the stacked expert tensors of decoder
// layer i as transformers v5 saves them: gate and up [E, 2M, H], down
// [E, H, M] (docs/facts/families.md 3.5).
func (c *Config) StackedExperts(layer int) (gateUp, down string) {
	p := c.LayerPrefix(layer) + "mlp.experts."
	return p + "gate_up_proj", p + "down_proj"
}

// Lookup returns the table row of a tensor name, nil for names of no row.
func (c *Config) Lookup(name string) *Tensor { return c.Index()[name] }

// Stack returns rows with the per-expert tensors of each layer replaced by the
// two stacked ones that transformers v5 saves: the inverse of what Describe
// does with them. Expert and Group are those of the whole set.
func Stack(c *Config, rows []Tensor) []Tensor {
	out := make([]Tensor, 0, len(rows))
	e, m, h := int64(c.Experts), int64(c.MoEIntermediateSize), int64(c.HiddenSize)
	for _, t := range rows {
		if !t.Role.IsExpert() {
			out = append(out, t)
			continue
		}
		if t.Expert != 0 || t.Role == ExpertUp {
			continue
		}
		gateUp, down := c.StackedExperts(t.Layer)
		t.Name, t.Shape = gateUp, []int64{e, 2 * m, h}
		if t.Role == ExpertDown {
			t.Name, t.Shape = down, []int64{e, h, m}
		}
		t.Module, t.Param = ModuleOf(t.Name)
		t.Expert = -1
		out = append(out, t)
	}
	return out
}
