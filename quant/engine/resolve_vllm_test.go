package engine_test

import (
	"testing"

	"github.com/glmconv/glmconv/quant/engine"
)

// docs/facts/engine-vllm.md 2.1 and 2.3, compressed-tensors.
func TestVLLMCompressedTensors(t *testing.T) {
	const air, v, flash, dsa = "glm-4.5-air", "glm-4.5v", "glm-4.7-flash", "glm-5"
	qkv, gateUp := "model.layers.1.self_attn.qkv_proj", "model.layers.0.mlp.gate_up_proj"
	experts := "model.layers.1.mlp.experts"
	named := func(targets ...string) string { return ct("[]", group(fp8Args, targets...)) }
	decide(t, engine.VLLM, []decision{
		{"nothing ignored", air, fp8(), qkv, chan8},
		{"Linear does not reach the head", air, fp8(), "lm_head", float},
		{"nothing matches: unquantised without a word", air, named("re:.*mlp.*"), qkv, float},

		{"fused name ignored", air, fp8(qkv), qkv, float},
		{"all shards ignored", air, fp8(`re:.*layers\.1\.self_attn\.[qkv]_proj$`), qkv, float},
		{"a shard ignored", air, fp8("model.layers.1.self_attn.q_proj"), qkv, "!different quantization schemes"},
		{"a parent is no prefix", air, fp8("model.layers.1"), qkv, chan8},
		{"a suffix matches nothing", air, fp8("o_proj"), "model.layers.1.self_attn.o_proj", chan8},
		{"patterns match from the start", air, fp8(`re:self_attn\.`), qkv, chan8},
		{"patterns keep case", air, fp8(`re:.*SELF_ATTN\.`), qkv, chan8},

		{"parent of the experts", air, fp8(experts), experts, chan8},
		{"another expert than 0", air, fp8(`re:.*mlp\.experts\.1\.`), experts, chan8},
		{"expert 0", air, fp8(`re:.*mlp\.experts\.0\.`), experts, float},
		{"expert 0 in part", air, fp8(experts + ".0.down_proj"), experts, "!All MoE projections"},
		{"down in another group", air, ct("[]", group(int4Args, `re:.*experts\.\d+\.(gate|up)_proj$`), group(fp8Args, `re:.*experts\.\d+\.down_proj$`)), experts, "!All MoE projections"},

		{"half of a fused module targeted", air, named("model.layers.0.mlp.gate_proj"), gateUp, float},
		{"shards in two groups: the first decides", air, ct("[]", group(int4Args, "model.layers.0.mlp.up_proj"), group(fp8Args, "model.layers.0.mlp.gate_proj")), gateUp, chan8},
		{"name before class", air, ct("[]", group(fp8Args, "Linear"), group(int4Args, `re:.*gate_up_proj$`)), gateUp, int4g},
		{"shards before class", air, ct("[]", group(int4Args, `re:.*mlp\.(gate|up)_proj$`), group(fp8Args, "Linear")), gateUp, int4g},
		{"class where not all shards are named", air, ct("[]", group(int4Args, `re:.*mlp\.up_proj$`), group(fp8Args, "Linear")), gateUp, chan8},
		{"class in lower case, in part", air, named("columnparallel"), gateUp, chan8},
		{"a class that is another's", air, named("RowParallelLinear"), gateUp, float},
		{"a target in two groups: the last", air, ct("[]", group(fp8Args, "Linear"), group(int4Args, "Linear")), qkv, int4g},
		{"a wide target quantises the draft's head", air, ct(list("lm_head", `re:.*shared_head\.head$`), group(fp8Args, "re:.*")), "model.layers.46.head", chan8},
		{"the draft's head under its runtime name", air, ct(list(`re:.*layers\.\d+\.head$`), group(fp8Args, "re:.*")), "model.layers.46.head", float},

		{"layer 0 alone", air, fp8(`re:.*layers\.0\.mlp\..*`), gateUp, float},
		{"not layer 10", air, fp8(`re:.*layers\.0\.mlp\..*`), "model.layers.10.mlp.shared_experts.down_proj", chan8},
		{"MTP by its layer", air, fp8(`re:.*layers\.46\..*`), "model.layers.46.self_attn.qkv_proj", float},
		{"dots not escaped: layer 40 too", air, fp8(`re:.*layers.4..*`), "model.layers.40.self_attn.o_proj", float},

		{"names are mapped", v, fp8("model.language_model.layers.0.self_attn.o_proj"), "language_model.model.layers.0.self_attn.o_proj", float},
		{"patterns are not mapped", v, fp8(`re:model\.visual\..*`), "visual.blocks.0.attn.proj", chan8},
		{"a pattern of runtime names", v, fp8(`re:.*visual\..*`), "visual.blocks.0.attn.qkv_proj", float},
		{"exact names miss the tower's qkv_proj", v, fp8("model.visual.blocks.0.attn.qkv"), "visual.blocks.0.attn.qkv_proj", chan8},
		{"exact names hit the rest of the tower", v, fp8("model.visual.blocks.0.attn.proj"), "visual.blocks.0.attn.proj", float},
		{"the literal lm_head is not the head", v, ct(list("lm_head"), group(fp8Args, "re:.*")), "language_model.lm_head", chan8},

		{"fused latent projection", dsa, fp8(`re:.*self_attn\.(q_a_proj|kv_a_proj_with_mqa)$`), "model.layers.0.self_attn.fused_qkv_a_proj", float},
		{"…proj$ hits the fused name", flash, named(`re:.*self_attn\..*proj$`), "model.layers.0.self_attn.fused_qkv_a_proj", chan8},
		{"one latent projection ignored", flash, fp8(`re:.*self_attn\.kv_a_proj_with_mqa$`), "model.layers.0.self_attn.fused_qkv_a_proj", "!different quantization schemes"},
		{"Linear does not reach embed_tokens", dsa, fp8(), "model.embed_tokens", float},
	})
}

// docs/facts/engine-vllm.md 2.1, quant_method fp8.
func TestVLLMBlockFP8(t *testing.T) {
	const air, v, dsa = "glm-4.5-air", "glm-4.5v", "glm-5"
	attn, qkv := "model.layers.1.self_attn.o_proj", "model.layers.1.self_attn.qkv_proj"
	experts := "model.layers.1.mlp.experts"
	decide(t, engine.VLLM, []decision{
		{"not listed", air, block(), qkv, blk},
		{"listed", air, block(attn), attn, float},
		{"a layer is no prefix", air, block("model.layers.1"), attn, blk},
		{"no patterns", air, block(`re:.*o_proj`), attn, blk},
		{"all shards", air, block("model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.1.self_attn.v_proj"), qkv, float},
		{"one shard", air, block("model.layers.1.self_attn.k_proj"), qkv, "!some but not all shards"},
		{"one expert named: none is quantised", air, block(experts + ".7.up_proj"), experts, float},
		{"experts of layer 1, not of 11", air, block(experts + ".7.up_proj"), "model.layers.11.mlp.experts", blk},
		{"experts of layer 11, not of 1", air, block("model.layers.11.mlp.experts.0.up_proj"), experts, blk},
		{"never the head", air, block(), "lm_head", float},
		{"never embed_tokens", dsa, block(), "model.embed_tokens", float},
		{"the tower by its own prefix", v, block("visual"), "visual.blocks.0.attn.proj", blk},
		{"the tower by exact names", v, block("model.visual.blocks.0.attn.qkv"), "visual.blocks.0.attn.qkv", float},
		{"text by checkpoint names", v, block("model.language_model.layers.0.self_attn.o_proj"), "language_model.model.layers.0.self_attn.o_proj", float},
		{"MTP by its layer: no effect", air, block("model.layers.46"), "model.layers.46.self_attn.o_proj", blk},
	})
}
