package engine_test

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/glmconv/glmconv/quant/engine"
)

const (
	dyn8 = "W8A8_DYNAMIC"
	dyn4 = "W4A8_DYNAMIC"
)

// described is a description of module names without ".weight".
func described(modules ...map[string]string) string {
	all := map[string]string{"version": "1.0.0"}
	for _, m := range modules {
		for name, scheme := range m {
			all[name+".weight"] = scheme
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// parts gives the projections of a module one scheme each.
func parts(prefix string, schemes map[string]string) map[string]string {
	m := map[string]string{}
	for p, s := range schemes {
		m[prefix+p+"_proj"] = s
	}
	return m
}

func with(m map[string]string, name, scheme string) map[string]string {
	m = maps.Clone(m)
	m[name] = scheme
	return m
}

// docs/facts/engine-vllm-ascend.md 1.1 and 2.
func TestAscendDescription(t *testing.T) {
	const air, v, dsa = "glm-4.5-air", "glm-4.5v", "glm-5"
	attn, o := "model.layers.1.self_attn.", "model.layers.1.self_attn.o_proj"
	qkv, experts := attn+"qkv_proj", "model.layers.1.mlp.experts"
	one := func(name, scheme string) map[string]string { return map[string]string{name: scheme} }
	fused := func(q, k, v string) map[string]string { return parts(attn, map[string]string{"q": q, "k": k, "v": v}) }
	expert := func(i, gate, up, down string) map[string]string {
		return parts(experts+"."+i+".", map[string]string{"gate": gate, "up": up, "down": down})
	}
	decide(t, engine.Ascend, []decision{
		{"a linear", air, described(one(o, dyn8)), o, int8c},
		{"no entry", air, described(), o, "!KeyError"},
		{"unknown scheme", air, described(one(o, "W2A2")), o, "!NotImplementedError"},
		{"a key that begins alike and says FLOAT", air, described(with(one(o, dyn8), o+"_x", "FLOAT")), o, float},
		{"fused", air, described(fused(dyn8, dyn8, dyn8)), qkv, int8c},
		{"fused, all FLOAT", air, described(fused("FLOAT", "FLOAT", "FLOAT")), qkv, float},
		{"fused, one FLOAT", air, described(fused(dyn8, "FLOAT", dyn8)), qkv, "!some but not all shards"},
		{"fused, two schemes", air, described(fused(dyn8, "W8A8", dyn8)), qkv, "!Not all shards"},
		{"fused, one missing", air, described(parts(attn, map[string]string{"k": dyn8, "v": dyn8})), qkv, "!KeyError: 'model.layers.1.self_attn.q_proj.weight'"},
		{"expert 0 decides", air, described(expert("0", dyn4, dyn4, dyn4), expert("1", dyn8, dyn8, dyn8)), experts, "int4 channel"},
		{"expert 0 missing", air, described(expert("1", dyn8, dyn8, dyn8)), experts, "!KeyError"},
		{"projections differ", air, described(expert("0", dyn4, dyn4, dyn8)), experts, "!Not all shards"},
		{"static experts", air, described(expert("0", "W8A8", "W8A8", "W8A8")), experts, "!NotImplementedError"},
		{"int4 on a linear is accepted", air, described(one(o, dyn4)), o, "int4 channel"},
		{"the head is asked about", air, described(), "lm_head", "!KeyError"},
		{"the draft's head under its alias", air, described(one("model.layers.46.shared_head.head", "FLOAT")), "model.layers.46.head", float},
		{"embed_tokens of dsa is asked about", dsa, described(), "model.embed_tokens", "!KeyError"},
		{"text by checkpoint names", v, described(one("model.language_model.layers.0.self_attn.o_proj", dyn8)), "language_model.model.layers.0.self_attn.o_proj", int8c},
		{"the head of the vision family", v, described(one("lm_head", "FLOAT")), "language_model.lm_head", float},
		{"the tower by checkpoint names", v, described(one("model.visual.blocks.0.attn.qkv", "FLOAT")), "visual.blocks.0.attn.qkv", float},
		{"fp8 is not on the platform", air, block(), o, "!not supported in npu"},
	})
	decide(t, engine.VLLM, []decision{{"plain vLLM", air, described(one(o, dyn8)), o, "!does not read this layout"}})
}

// docs/facts/engine-sglang.md 6.
func TestSGLangDescription(t *testing.T) {
	const air, v, dsa = "glm-4.5-air", "glm-4.5v", "glm-5"
	attn, o := "model.layers.1.self_attn.", "model.layers.1.self_attn.o_proj"
	qkv, experts := attn+"qkv_proj", "model.layers.1.mlp.experts"
	one := func(name, scheme string) map[string]string { return map[string]string{name: scheme} }
	expert := func(prefix, gate, up, down string) map[string]string {
		return parts(prefix+".0.", map[string]string{"gate": gate, "up": up, "down": down})
	}
	text := "language_model.layers.1.mlp.experts"
	draft := "model.layers.78.mlp.experts"
	decide(t, engine.SGLang, []decision{
		{"a linear", air, described(one(o, dyn8)), o, int8c},
		{"no entry: BF16 without an error", air, described(), o, float},
		{"int4 on a linear is not registered", air, described(one(o, dyn4)), o, float},
		{"fused, one FLOAT", air, described(parts(attn, map[string]string{"q": dyn8, "k": "FLOAT", "v": dyn8})), qkv, "!FLOAT in part"},
		{"a missing shard counts as not FLOAT", air, described(parts(attn, map[string]string{"q": "FLOAT", "k": "FLOAT"})), qkv, "!FLOAT in part"},
		{"experts", air, described(expert(experts, dyn4, dyn4, dyn4)), experts, "int4 channel"},
		{"experts FLOAT", air, described(expert(experts, "FLOAT", "FLOAT", "FLOAT")), experts, "!ValueError"},
		{"experts missing", air, described(), experts, "!ValueError"},
		{"gate and up differ", air, described(expert(experts, dyn4, dyn8, dyn8)), experts, "!gate and up"},
		{"text by checkpoint names", v, described(expert("model."+text, dyn8, dyn8, dyn8)), text, "!ValueError"},
		{"text without model.", v, described(expert(text, dyn8, dyn8, dyn8)), text, int8c},
		{"the draft is unquantised", air, described(expert("model.layers.46.mlp.experts", dyn8, dyn8, dyn8)), "model.decoder.mlp.experts", float},
		{"a quantised draft of dsa", dsa, described(expert(draft, dyn8, dyn8, dyn8)), "model.decoder.mlp.experts", int8c},
		{"a FLOAT draft of dsa", dsa, described(expert(draft, "FLOAT", "FLOAT", "FLOAT")), "model.decoder.mlp.experts", float},
	})
}

// w13 and w2 are looked up apart: the down projections may have a scheme of
// their own.
func TestSGLangDownProjections(t *testing.T) {
	r := resolved(t, engine.SGLang, "glm-4.5-air", described(
		parts("model.layers.1.mlp.experts.0.", map[string]string{"gate": dyn4, "up": dyn4, "down": dyn8})), "model.layers.1.mlp.experts")
	for stored, want := range map[string]string{"gate_proj": "int4 channel", "up_proj": "int4 channel", "down_proj": int8c} {
		if got := r.Of("model.layers.1.mlp.experts.3." + stored).String(); got != want {
			t.Errorf("%s is built as %q, want %q", stored, got, want)
		}
	}
}
