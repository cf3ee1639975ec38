package glm

import "slices"

// The rows that all families share, by block of a decoder layer.
var (
	// mtpInRows open an MTP layer (docs/facts/families.md 3.1, 5.3).
	mtpInRows = []row{
		{name: "embed_tokens.weight", role: MTPEmbedding, shape: "V H", when: ifMTPCopy},
		{name: "enorm.weight", role: MTPNorm, shape: "H", when: ifMTP},
		{name: "hnorm.weight", role: MTPNorm, shape: "H", when: ifMTP},
		{name: "eh_proj.weight", role: MTPProj, shape: "H 2*H", when: ifMTP},
	}
	normRows = []row{
		{name: "input_layernorm.weight", role: LayerNorm, shape: "H"},
		{name: "post_attention_layernorm.weight", role: LayerNorm, shape: "H"},
	}
	// gqaRows: o_proj has no bias even where q, k and v have one.
	gqaRows = []row{
		{name: "self_attn.q_proj.weight", role: AttnQ, shape: "NH*D H", group: "self_attn.qkv_proj"},
		{name: "self_attn.q_proj.bias", role: AttnQ, shape: "NH*D", when: ifBias, group: "self_attn.qkv_proj"},
		{name: "self_attn.k_proj.weight", role: AttnK, shape: "KV*D H", group: "self_attn.qkv_proj"},
		{name: "self_attn.k_proj.bias", role: AttnK, shape: "KV*D", when: ifBias, group: "self_attn.qkv_proj"},
		{name: "self_attn.v_proj.weight", role: AttnV, shape: "KV*D H", group: "self_attn.qkv_proj"},
		{name: "self_attn.v_proj.bias", role: AttnV, shape: "KV*D", when: ifBias, group: "self_attn.qkv_proj"},
		{name: "self_attn.o_proj.weight", role: AttnO, shape: "H NH*D"},
		{name: "self_attn.q_norm.weight", role: QKNorm, shape: "D", when: ifQKNorm},
		{name: "self_attn.k_norm.weight", role: QKNorm, shape: "D", when: ifQKNorm},
	}
	mlpRows = []row{
		{name: "mlp.gate_proj.weight", role: DenseGate, shape: "I H", when: ifDense, group: "mlp.gate_up_proj"},
		{name: "mlp.up_proj.weight", role: DenseUp, shape: "I H", when: ifDense, group: "mlp.gate_up_proj"},
		{name: "mlp.down_proj.weight", role: DenseDown, shape: "H I", when: ifDense},
		{name: "mlp.gate.weight", role: Router, shape: "E H", when: ifSparse},
		{name: "mlp.gate.e_score_correction_bias", role: RouterBias, shape: "E", when: ifSparse},
		{name: "mlp.experts.{E}.gate_proj.weight", role: ExpertGate, shape: "M H", when: ifSparse, group: "mlp.experts"},
		{name: "mlp.experts.{E}.up_proj.weight", role: ExpertUp, shape: "M H", when: ifSparse, group: "mlp.experts"},
		{name: "mlp.experts.{E}.down_proj.weight", role: ExpertDown, shape: "H M", when: ifSparse, group: "mlp.experts"},
		{name: "mlp.shared_experts.gate_proj.weight", role: SharedGate, shape: "M*S H", when: ifSparse, group: "mlp.shared_experts.gate_up_proj"},
		{name: "mlp.shared_experts.up_proj.weight", role: SharedUp, shape: "M*S H", when: ifSparse, group: "mlp.shared_experts.gate_up_proj"},
		{name: "mlp.shared_experts.down_proj.weight", role: SharedDown, shape: "H M*S", when: ifSparse},
	}
	mtpOutRows = []row{
		{name: "shared_head.norm.weight", role: MTPNorm, shape: "H", when: ifMTP},
		{name: "shared_head.head.weight", role: MTPHead, shape: "V H", when: ifMTPCopy},
	}
)

// glm4Moe is GLM-4.5, 4.5-Air, 4.6 and 4.7 (docs/facts/families.md 3.1).
var glm4Moe = family{
	family:       Glm4Moe,
	architecture: "Glm4MoeForCausalLM",
	prefix:       "model.",
	layer:        slices.Concat(mtpInRows, normRows, gqaRows, mlpRows, mtpOutRows),
}
