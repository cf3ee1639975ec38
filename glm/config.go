package glm

import "encoding/json"

// Config is config.json of either generation, normalised: one name for each
// fact, defaults filled in (docs/facts/families.md 1). Sizes are in
// elements; zero means "not in this family".
type Config struct {
	Family       Family
	Architecture string // architectures[0]

	VocabSize        int
	HiddenSize       int
	Layers           int // num_hidden_layers; the MTP layer comes after them
	Heads            int
	KVHeads          int
	HeadDim          int  // glm4_moe, glm4v_moe; ignored by the MLA families
	AttentionBias    bool // q/k/v biases; o_proj never has one
	UseQKNorm        bool
	IntermediateSize int
	RMSNormEps       float64
	TieEmbeddings    bool
	MaxPositions     int
	EOS              []int
	Pad              int // -1 when absent

	// Mixture of experts. Dense[i] tells whether decoder layer i has a dense
	// MLP (mlp_layer_types if present, else first_k_dense_replace).
	MoEIntermediateSize int
	Experts             int // n_routed_experts
	ExpertsPerToken     int
	SharedExperts       int
	Dense               []bool
	NGroup, TopKGroup   int
	NormTopK            bool
	RoutedScaling       float64

	// Rope. Width is the number of rotated dimensions of a head.
	RopeTheta       float64
	RopeWidth       int
	RopeInterleaved bool  // pairs (2j, 2j+1) instead of (i, i+Width/2)
	MRopeSections   []int // glm4v_moe: frequencies per axis, e.g. 8, 12, 12

	// MLA families.
	QLoraRank, KVLoraRank                  int
	QKNopeHeadDim, QKRopeHeadDim, VHeadDim int

	// Sparse attention indexer (glm_moe_dsa). IndexerFull[i] tells whether
	// decoder layer i has an indexer of its own; others share the nearest
	// preceding one. The MTP layer always has its own.
	IndexHeads, IndexHeadDim, IndexTopK int
	IndexerInterleaved                  bool
	IndexerFull                         []bool
	IndexShareForMTP                    bool

	MTPLayers   int  // num_nextn_predict_layers, 0 when absent
	MTPDeclared bool // the key is there (vLLM needs it: docs/facts/engine-vllm.md 3)

	Vision *VisionConfig // glm4v_moe only

	DType string // "bfloat16", … as config.json says; "" if it does not

	// Quantization is the quant_method of an existing quantization_config (or
	// compression_config), "" for a full-precision checkpoint.
	Quantization string

	// QuantizationConfig is the JSON object behind Quantization, nil for a
	// full-precision checkpoint.
	QuantizationConfig json.RawMessage

	// QuantizationKey is where config.json holds it: "quantization_config",
	// "compression_config", or one of them in text_config; "" elsewhere.
	QuantizationKey string

	// QuantizationFile is the file beside config.json that holds it, "" for
	// config.json.
	QuantizationFile string

	// Notes are oddities worth a line in a report; none of them stops a
	// conversion.
	Notes []string

	// Raw is the file's bytes, kept so that writers change only what they must.
	Raw []byte

	cache *tableCache // see Table
}

// VisionConfig is the vision tower of glm4v_moe.
type VisionConfig struct {
	Depth, HiddenSize, Heads, InChannels           int
	ImageSize, PatchSize, TemporalPatch, MergeSize int
	OutHiddenSize, IntermediateSize                int
	RMSNormEps                                     float64
	ImageTokenID, VideoTokenID                     int
	ImageStartID, ImageEndID                       int
	VideoStartID, VideoEndID                       int
}

// QKHeadDim is the width of a query head of the MLA families.
func (c *Config) QKHeadDim() int { return c.QKNopeHeadDim + c.QKRopeHeadDim }
