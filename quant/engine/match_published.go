package engine

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// matcher looks modules up in another tool's declaration as one engine does.
type matcher struct {
	r   Release
	cfg *glm.Config
	c   *Config
	d   *declaration.Declaration
}

// resolvePublished matches a module with a declaration of ModelOpt, Quark,
// GPTQ, AWQ or auto-round in vLLM or SGLang. ok is false for other methods.
func resolvePublished(r Release, cfg *glm.Config, c *Config, m Module) (Resolution, bool) {
	if c.Declaration == nil {
		return Resolution{}, false
	}
	x := matcher{r, cfg, c, c.Declaration}
	var look func(Module) Resolution
	switch vllm := r.Engine == VLLM; x.d.Method {
	case declaration.ModelOpt:
		look = pick(vllm, x.modelOptVLLM, x.modelOptSGLang)
	case declaration.Quark:
		look = x.quark
	case declaration.GPTQ:
		look = pick(vllm, x.gptqVLLM, x.gptqSGLang)
	case declaration.AWQ:
		look = pick(vllm, x.awqVLLM, x.awqSGLang)
	case declaration.AutoRound:
		look = pick(vllm, x.autoRoundVLLM, x.autoRoundSGLang)
	default:
		return Resolution{}, false
	}
	return look(m), true
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// built is a module that the engine builds for a group's codes.
func (x matcher) built(g *declaration.Group) Resolution {
	if !g.Judged && !g.Weights.Quantized() {
		return Resolution{Unknown: x.d.Why(g)}
	}
	return Resolution{Weight: g.Weights.Codes()}
}

// all is the group for every module that nothing else names.
func (x matcher) all() *declaration.Group {
	if len(x.d.Groups) == 0 {
		return &declaration.Group{}
	}
	return &x.d.Groups[0]
}

// entry is a name of the declaration as the engine compares it: vLLM maps the
// beginnings of GLM-4.5V's names to its own, SGLang takes all as they are.
func (x matcher) entry(text string) string {
	if x.r.Engine != VLLM || !x.cfg.NestedText() || text == "lm_head" {
		return text
	}
	return mapName(VLLM, x.cfg, text)
}

// shardsOf are the names by which a fused module is looked up: its shards, or
// for a module that the engine knows no shards of, its own.
func shardsOf(m Module, fused bool) []string {
	if fused && len(m.Shards) > 0 && m.Kind == Linear {
		return m.Shards
	}
	return []string{m.Name}
}

// inPart asks for all shards of a module: none, all, or the engine's error.
func inPart(m Module, names []string, holds func(string) bool) (hit bool, err string) {
	switch n := count(names, holds); {
	case n == 0:
		return false, ""
	case n < len(names):
		return false, fmt.Sprintf("ValueError: Detected some but not all shards of %s are quantized", m.Name)
	}
	return true, ""
}

// last is the part of a name behind its last dot.
func last(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// fusedVision: the tower's fused projection is stored fused, and is known by
// that name alone outside of compressed-tensors.
func (m Module) fusedVision() bool {
	return m.Role == glm.VisionLinear && (strings.HasSuffix(m.Name, "qkv") || strings.HasSuffix(m.Name, "qkv_proj"))
}

// onlyFloat4 tells 4-bit floats.
func onlyFloat4(w format.Weight) bool { return w.Type == format.Float && w.Bits == 4 }
