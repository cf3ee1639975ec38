package engine

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// Kind is how an engine builds a module.
type Kind uint8

// The kinds that ask a quantisation config for a scheme.
const (
	Linear    Kind = iota + 1
	Experts        // the routed experts of a layer
	Head           // lm_head and the draft's head
	Embedding      // of the trunk, for the MLA families
)

// Module is a module as an engine builds it.
type Module struct {
	Name   string // runtime name
	Kind   Kind
	Shards []string // runtime names of its parts when fused: q_proj, k_proj, …; empty otherwise
	// Stored are the checkpoint's modules behind it: those of the shards, in
	// their order; of experts all gate, up and down projections. The vision
	// tower's qkv_proj has three shards and is stored as one.
	Stored []string
	Draft  bool
	Role   glm.Role // of the first stored module
}

// class is the engines' class of the module, as far as targets can name it.
// Experts are looked up as if they were linears (docs/facts/engine-vllm.md 2.3).
func (m Module) class() string {
	switch m.Kind {
	case Head:
		return "ParallelLMHead"
	case Embedding:
		return "VocabParallelEmbedding"
	case Experts:
		return "Linear"
	}
	switch {
	case strings.HasSuffix(m.Name, ".qkv_proj"):
		return "QKVParallelLinear"
	case len(m.Shards) > 0:
		return "MergedColumnParallelLinear"
	case strings.HasSuffix(m.Name, ".o_proj") || strings.HasSuffix(m.Name, ".down_proj"):
		return "RowParallelLinear"
	}
	return "Linear"
}

// Modules lists what a release builds for a config and asks its quantisation
// config about: trunk, vision tower and draft. ct tells that the config is
// compressed-tensors, which changes the name of one vision module in vLLM.
func Modules(r Release, cfg *glm.Config, ct bool) []Module {
	e := r.Engine
	var out []Module
	at := map[string]int{}
	for _, t := range cfg.Table() {
		if t.Param != "weight" {
			continue
		}
		m := Module{Name: runtimeName(e, cfg, t, t.Module, ct), Kind: kindOf(r, cfg, t), Draft: t.MTP, Role: t.Role}
		if m.Kind == 0 {
			continue
		}
		shard := ""
		switch {
		case t.Role.IsExpert():
			name := t.Module[:strings.Index(t.Module, ".experts.")] + ".experts"
			m.Name = runtimeName(e, cfg, t, name, ct)
		case t.Group != "" || visionGateUp(t):
			group := t.Group
			if group == "" {
				group = t.Module[:strings.LastIndexByte(t.Module, '.')] + ".gate_up_proj"
			}
			shard, m.Name = m.Name, runtimeName(e, cfg, t, group, ct)
			if e == SGLang && strings.HasSuffix(m.Name, ".fused_qkv_a_proj") {
				m.Name += "_with_mqa"
			}
		}
		if t.Role == glm.VisionLinear && strings.HasSuffix(m.Name, ".qkv_proj") {
			for _, p := range []string{"q", "k", "v"} {
				m.Shards = append(m.Shards, strings.TrimSuffix(m.Name, "qkv_proj")+p+"_proj")
			}
		}
		i, ok := at[m.Name]
		if !ok {
			i = len(out)
			at[m.Name] = i
			out = append(out, m)
		}
		out[i].Stored = append(out[i].Stored, t.Module)
		if shard != "" {
			out[i].Shards = append(out[i].Shards, shard)
		}
	}
	return out
}

// LooksUp returns the stored modules whose entries a release asks a description
// for: every linear, of the experts of a layer the first, heads, and the
// embedding where it is built with the configuration.
func LooksUp(r Release, cfg *glm.Config) map[string]bool {
	asked := map[string]bool{}
	for _, m := range Modules(r, cfg, false) {
		for _, name := range m.Stored {
			if m.Kind != Experts || strings.Contains(name, ".experts.0.") {
				asked[name] = true
			}
		}
	}
	return asked
}

// visionGateUp: the tower's gate and up projections are one merged linear in
// vLLM, which the family's table does not group because they are never
// quantised.
func visionGateUp(t glm.Tensor) bool {
	return t.Role == glm.VisionLinear && (strings.HasSuffix(t.Module, ".gate_proj") || strings.HasSuffix(t.Module, ".up_proj"))
}

// kindOf tells which modules an engine builds with a quantisation config; the
// router, eh_proj and the fused indexer projection never are
// (docs/facts/engine-vllm.md 1.1, docs/facts/engine-vllm-ascend.md 2, 4).
func kindOf(r Release, cfg *glm.Config, t glm.Tensor) Kind {
	switch {
	case t.Role.IsExpert():
		return Experts
	case t.Role == glm.IndexerK:
		if r.Engine == Ascend && r.holds(span{until: "0.20"}) {
			return Linear // a linear of its own in vLLM 0.18
		}
		return 0
	case t.Role.IsLinear() || t.Role == glm.VisionLinear:
		return Linear
	case t.Role == glm.Head || t.Role == glm.MTPHead:
		return Head
	case t.Role == glm.Embedding && r.Engine != SGLang && cfg.LatentAttention():
		return Embedding
	}
	return 0
}

// runtimeName translates a checkpoint module name.
func runtimeName(e Engine, cfg *glm.Config, t glm.Tensor, name string, ct bool) string {
	if t.MTP {
		prefix := cfg.LayerPrefix(t.Layer)
		rest := strings.TrimPrefix(name, prefix)
		switch {
		case e == SGLang && strings.HasPrefix(rest, "shared_head"):
			return "model." + rest
		case e == SGLang:
			return "model.decoder." + rest
		}
		return prefix + strings.Replace(rest, "shared_head.head", "head", 1)
	}
	name = mapName(e, cfg, name)
	if (e == SGLang || e == VLLM && ct) && strings.HasSuffix(name, ".attn.qkv") {
		name += "_proj"
	}
	return name
}

// mapName is the engines' mapping of GLM-4.5V names.
func mapName(e Engine, cfg *glm.Config, name string) string {
	if !cfg.NestedText() {
		return name
	}
	if rest, ok := strings.CutPrefix(name, "model.visual."); ok {
		return "visual." + rest
	}
	if rest, ok := strings.CutPrefix(name, "model.language_model."); ok {
		if e == SGLang {
			return "language_model." + rest
		}
		return "language_model.model." + rest
	}
	if e != SGLang && (name == "lm_head" || strings.HasPrefix(name, "lm_head.")) {
		return "language_model." + name
	}
	return name
}
