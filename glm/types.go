package glm

import "github.com/glmconv/glmconv/safetensors"

// Family is a model_type of config.json.
type Family string

// The families that have a table in this package.
const (
	Glm4Moe     Family = "glm4_moe"      // GLM-4.5, 4.5-Air, 4.6, 4.7
	Glm4vMoe    Family = "glm4v_moe"     // GLM-4.5V, 4.6V
	GlmMoeDsa   Family = "glm_moe_dsa"   // GLM-5, 5.1, 5.2, 5.3
	Glm4MoeLite Family = "glm4_moe_lite" // GLM-4.7-Flash
)

// Tensor is one row of a family's table: a tensor that a checkpoint of the
// given config holds, under its official (per-expert) name.
type Tensor struct {
	Name     string            // full name, e.g. "model.layers.3.mlp.experts.0.up_proj.weight"
	Module   string            // name without its last part
	Param    string            // last part: "weight", "bias", "e_score_correction_bias"
	Role     Role              // what it is for
	DType    safetensors.DType // in a BF16 release: BF16, F32 for the router bias
	Shape    []int64
	Layer    int    // decoder layer (or vision block) index, -1 outside layers
	Expert   int    // routed expert index, -1 otherwise
	MTP      bool   // belongs to the MTP layer(s): Layer >= num_hidden_layers
	Optional bool   // may be absent in a good checkpoint (MTP copies of embedding and head)
	Group    string // fused group, e.g. "model.layers.3.self_attn.qkv_proj"; "" when the engines do not fuse it
}

// Entry is a table row found in a checkpoint. A fused v5 expert tensor
// (experts.gate_up_proj [E,2M,H]) appears as one Entry per expert and
// projection: Source then names the stacked tensor and Offset says where in
// its data this row starts.
type Entry struct {
	*Tensor                  // of the table, shared
	Source  safetensors.Info // the tensor on disk (Source.Name may differ from Name only for fused experts)
	Offset  int64            // byte offset of this entry inside the source tensor's data
	Size    int64            // bytes of this entry inside the source tensor
}

// MTP says what is known of the multi-token-prediction layer of a checkpoint.
type MTP struct {
	Layer        int    // index, equal to num_hidden_layers
	EmbedTokens  bool   // layers.N.embed_tokens.weight is stored
	SharedHead   bool   // layers.N.shared_head.head.weight is stored
	File         string // shard that holds eh_proj
	Complete     bool   // every non-optional tensor of the layer is there
	MissingCount int
}

// Model is a checkpoint described in the family's terms.
type Model struct {
	Config     *Config
	Entries    []Entry            // what is there, in table order
	Missing    []Tensor           // required and absent
	Unexpected []safetensors.Info // there, but in no table
	MTP        *MTP               // nil when the config declares none and none is stored
	Misfits    []Entry            // Survey only: stored in another shape than the config implies; also in Missing if required
	Auxiliary  []safetensors.Info // Survey only: further tensors of known modules (scales, packed weights)
	Notes      []string           // oddities worth a line in a report

	rows []Tensor // see Rows
}
