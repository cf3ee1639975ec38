package glm

import "slices"

// mlaRows are multi-head latent attention. q_b_proj has for each head its
// nope rows, then its rope rows; kv_b_proj for each head its key rows, then
// its value rows.
var mlaRows = []row{
	{name: "self_attn.q_a_proj.weight", role: AttnQA, shape: "QR H", group: "self_attn.fused_qkv_a_proj"},
	{name: "self_attn.q_a_layernorm.weight", role: LatentNorm, shape: "QR"},
	{name: "self_attn.q_b_proj.weight", role: AttnQB, shape: "NH*NOPE+NH*ROPE QR"},
	{name: "self_attn.kv_a_proj_with_mqa.weight", role: AttnKVA, shape: "KR+ROPE H", group: "self_attn.fused_qkv_a_proj"},
	{name: "self_attn.kv_a_layernorm.weight", role: LatentNorm, shape: "KR"},
	{name: "self_attn.kv_b_proj.weight", role: AttnKVB, shape: "NH*NOPE+NH*VD KR"},
	{name: "self_attn.o_proj.weight", role: AttnO, shape: "H NH*VD"},
}

// glm4MoeLite is GLM-4.7-Flash (docs/facts/families.md 3.4).
var glm4MoeLite = family{
	family:       Glm4MoeLite,
	architecture: "Glm4MoeLiteForCausalLM",
	prefix:       "model.",
	latent:       true,
	layer:        slices.Concat(mtpInRows, normRows, mlaRows, mlpRows, mtpOutRows),
}
