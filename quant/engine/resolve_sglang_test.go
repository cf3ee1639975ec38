package engine_test

import (
	"testing"

	"github.com/glmconv/glmconv/quant/engine"
)

// docs/facts/engine-sglang.md 2.1 and 2.2, compressed-tensors.
func TestSGLangCompressedTensors(t *testing.T) {
	const air, v, flash, dsa = "glm-4.5-air", "glm-4.5v", "glm-4.7-flash", "glm-5"
	qkv, gateUp := "model.layers.1.self_attn.qkv_proj", "model.layers.0.mlp.gate_up_proj"
	experts := "model.layers.1.mlp.experts"
	decide(t, engine.SGLang, []decision{
		{"nothing ignored", air, fp8(), qkv, chan8},
		{"a linear that nothing matches", air, ct("[]", group(fp8Args, "re:.*mlp.*")), qkv, "!Unable to find matching target"},
		{"Linear does not reach the head", air, fp8(), "lm_head", float},
		{"a target that names the head", air, ct("[]", group(fp8Args, "Linear", "lm_head")), "lm_head", chan8},

		{"a dotted end", air, fp8("self_attn.o_proj"), "model.layers.1.self_attn.o_proj", float},
		{"an end that is not dotted", air, fp8("_proj"), "model.layers.1.self_attn.o_proj", chan8},
		{"a parent", air, fp8("model.layers.1.self_attn"), qkv, chan8},
		{"fused name", air, fp8("qkv_proj"), qkv, float},
		{"all shards: the fused module is quantised all the same", air, fp8("q_proj", "k_proj", "v_proj"), qkv, chan8},
		{"half of a fused module is forgotten", air, fp8("model.layers.0.mlp.gate_proj"), gateUp, chan8},
		{"(gate|up|down)_proj misses gate_up_proj", air, fp8(`re:.*layers\.0\.mlp\.(gate|up|down)_proj$`), gateUp, chan8},
		{"… and not down_proj", air, fp8(`re:.*layers\.0\.mlp\.(gate|up|down)_proj$`), "model.layers.0.mlp.down_proj", float},
		{"(gate_up|gate|up|down)_proj", air, fp8(`re:.*layers\.0\.mlp\.(gate_up|gate|up|down)_proj$`), gateUp, float},
		{"layer 0 and not 10", air, fp8(`re:.*layers\.0\.mlp\..*`), "model.layers.10.mlp.shared_experts.gate_up_proj", chan8},
		{"experts in part", air, fp8(experts + ".0.down_proj"), experts, "!different schemes"},

		{"MTP by its layer: no effect", air, fp8(`re:.*layers\.46\..*`), "model.decoder.self_attn.qkv_proj", chan8},
		{"MTP by model.decoder", air, fp8(`re:model\.decoder\..*`), "model.decoder.self_attn.qkv_proj", float},
		{"checkpoint names of the text", v, fp8("model.language_model.layers.0.self_attn.o_proj"), "language_model.layers.0.self_attn.o_proj", chan8},
		{"checkpoint names of the tower", v, fp8("model.visual.blocks.0.attn.proj"), "visual.blocks.0.attn.proj", chan8},
		{"a pattern for the tower", v, fp8(`re:.*visual\..*`), "visual.blocks.0.attn.qkv_proj", float},

		{"dsa expands the latent projections", dsa, fp8("q_a_proj", "kv_a_proj_with_mqa"), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", float},
		{"dsa, one of them", dsa, fp8("q_a_proj"), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!ignored in part"},
		{"lite does not", flash, fp8("q_a_proj", "kv_a_proj_with_mqa"), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", chan8},
		{"packed int4 cannot be joined", dsa, ct("[]", group(int4Args, "Linear")), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!weight_shape"},
		{"lite, the same", flash, ct("[]", group(int4Args, "Linear")), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!weight_shape"},
		{"NVFP4 has two global scales then", dsa, ct("[]", group(nvfp4Args, "Linear")), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!global scales"},
		{"lite, NVFP4", flash, ct("[]", group(nvfp4Args, "Linear")), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!global scales"},
		{"packed int8 has a weight_shape too", dsa, ct("[]", group(`"format":"pack-quantized","weights":{"num_bits":8,"type":"int","strategy":"channel"}`, "Linear")),
			"model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!weight_shape"},
		{"and is ignored", dsa, ct(list("re:.*q_a_proj", "re:.*kv_a_proj_with_mqa"), group(int4Args, "Linear")), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", float},
		{"lite, the fused name", flash, fp8(`re:.*fused_qkv_a_proj.*`), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", float},
		{"dsa, targets by shard", dsa, ct("[]", group(fp8Args, `re:.*\.(q_a_proj|kv_a_proj_with_mqa)$`)), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", chan8},
		{"dsa, one shard targeted", dsa, ct("[]", group(fp8Args, `re:.*\.q_a_proj$`)), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!Unable to find matching target"},
		{"lite, targets by shard", flash, ct("[]", group(fp8Args, `re:.*\.(q_a_proj|kv_a_proj_with_mqa)$`)), "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa", "!Unable to find matching target"},
	})
}

// docs/facts/engine-sglang.md 1: INT8 files are served by w8a8_int8, which
// reads the ignore list and no group.
func TestSGLangInt8(t *testing.T) {
	const air = "glm-4.5-air"
	int8 := func(targets string, ignore ...string) string { return ct(list(ignore...), group(int8Args, targets)) }
	qkv, experts := "model.layers.1.self_attn.qkv_proj", "model.layers.1.mlp.experts"
	decide(t, engine.SGLang, []decision{
		{"targets are not read", air, int8("re:.*mlp.*"), qkv, int8c},
		{"fused name ignored", air, int8("Linear", "re:.*qkv_proj$"), qkv, float},
		{"shards ignored", air, int8("Linear", "q_proj", "k_proj", "v_proj"), qkv, int8c},
		{"experts", air, int8("Linear"), experts, int8c},
		{"experts ignored", air, int8("Linear", `re:.*mlp\.experts\..*`), experts, "!ignored experts"},
		{"the draft's experts ignored", air, int8("Linear", `re:model\.decoder\..*`), "model.decoder.mlp.experts", "!ignored experts"},
		{"never the head", air, int8("re:.*"), "lm_head", float},
	})
}

// docs/facts/engine-sglang.md 2.1, quant_method fp8.
func TestSGLangBlockFP8(t *testing.T) {
	const air, v, flash, dsa = "glm-4.5-air", "glm-4.5v", "glm-4.7-flash", "glm-5"
	qkv, o := "model.layers.1.self_attn.qkv_proj", "model.layers.1.self_attn.o_proj"
	latent := "model.layers.0.self_attn.fused_qkv_a_proj_with_mqa"
	parts := []string{"model.layers.0.self_attn.q_a_proj", "model.layers.0.self_attn.kv_a_proj_with_mqa"}
	decide(t, engine.SGLang, []decision{
		{"a parent", air, block("model.layers.1"), o, float},
		{"a parent without model.", air, block("layers.1"), o, float},
		{"borders of dots", air, block("model.layers.1"), "model.layers.11.self_attn.o_proj", blk},
		{"an inner path", air, block("self_attn"), o, float},
		{"part of a word", air, block("self"), o, blk},
		{"no patterns", air, block(`re:.*o_proj`), o, blk},
		{"all shards", air, block("q_proj", "k_proj", "v_proj"), qkv, float},
		{"one shard", air, block("q_proj"), qkv, "!some but not all shards"},
		{"latent projections of dsa", dsa, block(parts...), latent, float},
		{"one of them", dsa, block(parts[0]), latent, "!some but not all shards"},
		{"latent projections of lite", flash, block(parts...), latent, blk},
		{"the tower", v, block("model.visual"), "visual.blocks.0.attn.qkv_proj", float},
		{"text by checkpoint names", v, block("model.language_model.layers.0.self_attn.o_proj"), "language_model.layers.0.self_attn.o_proj", float},
		{"MTP by its layer: no effect", air, block("model.layers.46"), "model.decoder.self_attn.o_proj", blk},
		{"MTP by model.decoder", air, block("model.decoder"), "model.decoder.self_attn.o_proj", float},
		{"never the head", air, block(), "lm_head", float},
	})
}
