package glm

// Role is what a tensor does in the model. Decisions are made on roles, never
// on names.
type Role uint8

// The roles of all families. The bias of a projection has the role of the
// projection; Tensor.Param tells them apart.
const (
	Unknown      Role = iota
	Embedding         // model.embed_tokens
	Head              // lm_head
	FinalNorm         // model.norm
	LayerNorm         // input_layernorm, post_attention_layernorm
	QKNorm            // q_norm, k_norm
	LatentNorm        // q_a_layernorm, kv_a_layernorm
	AttnQ             // q_proj
	AttnK             // k_proj
	AttnV             // v_proj
	AttnO             // o_proj
	AttnQA            // q_a_proj
	AttnQB            // q_b_proj
	AttnKVA           // kv_a_proj_with_mqa
	AttnKVB           // kv_b_proj
	IndexerQB         // indexer.wq_b
	IndexerK          // indexer.wk
	IndexerKNorm      // indexer.k_norm (LayerNorm, weight and bias)
	IndexerProj       // indexer.weights_proj
	DenseGate         // mlp.gate_proj of a dense layer
	DenseUp
	DenseDown
	Router     // mlp.gate.weight
	RouterBias // mlp.gate.e_score_correction_bias
	ExpertGate // routed experts
	ExpertUp
	ExpertDown
	SharedGate // shared experts
	SharedUp
	SharedDown
	MTPProj       // eh_proj
	MTPNorm       // enorm, hnorm, shared_head.norm
	MTPEmbedding  // layers.N.embed_tokens
	MTPHead       // layers.N.shared_head.head
	VisionLinear  // any 2-D projection of the vision tower or its merger
	VisionConv    // patch_embed.proj, downsample
	VisionNorm    // norms of the tower, LayerNorm of the merger
	VisionPosEmbd // position table
)

var roleNames = [...]string{
	"unknown", "embedding", "head", "final_norm", "layer_norm", "qk_norm", "latent_norm",
	"attn_q", "attn_k", "attn_v", "attn_o", "attn_q_a", "attn_q_b", "attn_kv_a", "attn_kv_b",
	"indexer_q_b", "indexer_k", "indexer_k_norm", "indexer_weights",
	"dense_gate", "dense_up", "dense_down", "router", "router_bias",
	"expert_gate", "expert_up", "expert_down", "shared_gate", "shared_up", "shared_down",
	"mtp_proj", "mtp_norm", "mtp_embedding", "mtp_head",
	"vision_linear", "vision_conv", "vision_norm", "vision_position",
}

// String returns the role in snake_case, as reports and JSON show it.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "unknown"
}

// IsExpert reports whether the role is a routed expert's projection.
func (r Role) IsExpert() bool { return r >= ExpertGate && r <= ExpertDown }

// IsShared reports whether the role is the shared expert's projection.
func (r Role) IsShared() bool { return r >= SharedGate && r <= SharedDown }

// IsDense reports whether the role is a projection of a dense MLP.
func (r Role) IsDense() bool { return r >= DenseGate && r <= DenseDown }

// IsAttention reports whether the role is a linear of the attention block
// (the indexer's linears not included).
func (r Role) IsAttention() bool { return r >= AttnQ && r <= AttnKVB }

// IsIndexer reports whether the role belongs to the sparse indexer.
func (r Role) IsIndexer() bool { return r >= IndexerQB && r <= IndexerProj }

// IsVision reports whether the role belongs to the vision tower.
func (r Role) IsVision() bool { return r >= VisionLinear && r <= VisionPosEmbd }

// IsLinear reports whether the role is a 2-D projection that some scheme of
// some layout may quantise. Router, embeddings, heads, eh_proj and the vision
// tower are not: every engine builds them unquantised or is told to.
func (r Role) IsLinear() bool {
	return r.IsAttention() || r == IndexerQB || r == IndexerK || r.IsDense() || r.IsExpert() || r.IsShared()
}
