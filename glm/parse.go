package glm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// Limits of plausibility. They are far above every published model and keep
// every product of sizes, and the sum over a whole checkpoint, inside int64.
const (
	maxWidth   = 1 << 20 // hidden, intermediate, ranks
	maxVocab   = 1 << 24
	maxHeads   = 1 << 12
	maxHeadDim = 1 << 12
	maxLayers  = 1 << 10
	maxExperts = 1 << 12
	// maxTables bounds layers × experts, hence the memory of a table.
	maxTables = 1 << 18
)

// LoadConfig reads dir/config.json, and ModelOpt's hf_quant_config.json where
// that alone declares a quantization. Errors of reading wrap fs errors; the
// rest are those of ParseConfig.
func LoadConfig(dir string) (*Config, error) { return loadConfig(dir, ParseConfig) }

// LoadConfigOf is LoadConfig for a checkpoint whose headers are known: see
// ParseConfigOf.
func LoadConfigOf(dir string, infos []safetensors.Info) (*Config, error) {
	return loadConfig(dir, func(data []byte) (*Config, error) { return ParseConfigOf(data, infos) })
}

func loadConfig(dir string, parse func([]byte) (*Config, error)) (*Config, error) {
	data, err := fsx.ReadIn(dir, "config.json", maxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("glm: %w", err)
	}
	cfg, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("glm: %s: %w", dir, err)
	}
	return cfg, cfg.declaredBeside(dir)
}

// modelOptFile is where ModelOpt declares a quantization beside config.json;
// its releases up to 0.29 declare it nowhere else.
const modelOptFile = "hf_quant_config.json"

// declaredBeside takes the declaration of ModelOpt's file where config.json has
// none: engines read it then (docs/facts/formats.md 2).
func (c *Config) declaredBeside(dir string) error {
	if c.QuantizationConfig != nil {
		return nil
	}
	raw, err := fsx.ReadIn(dir, modelOptFile, maxConfigSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("glm: %w", err)
	}
	var file struct {
		Q struct {
			Algorithm string `json:"quant_algo"`
		} `json:"quantization"`
	}
	if json.Unmarshal(raw, &file) == nil && file.Q.Algorithm != "" {
		c.Quantization, c.QuantizationConfig, c.QuantizationFile = "modelopt", raw, modelOptFile
	}
	return nil
}

// ParseConfig reads config.json of either naming generation
// (docs/facts/families.md 1), fills in defaults and checks that the
// sizes are plausible and agree. The error is a *ConfigError of kind ErrInvalid
// (malformed, missing field, contradiction) or ErrUnsupported (another model,
// rope type, activation or router). A quantised checkpoint's config parses: see
// RequireUnquantized.
func ParseConfig(data []byte) (*Config, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	c := &Config{Raw: append([]byte(nil), data...)}
	c.parse(o)
	if *o.err == nil {
		c.refuseQuantization(o)
	}
	if *o.err != nil {
		return nil, *o.err
	}
	return c, nil
}

// ParseConfigOf is ParseConfig for a checkpoint whose headers are known. A
// quantization that ParseConfig refuses by its name is let pass where no tensor
// is quantised: the key was left over, as QLoRA leaves bitsandbytes in a model
// that was merged, and StaleQuantization says so.
func ParseConfigOf(data []byte, infos []safetensors.Info) (*Config, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	c := &Config{Raw: append([]byte(nil), data...)}
	if c.parse(o); *o.err != nil {
		return nil, *o.err
	}
	if c.StaleQuantization(infos) == nil {
		c.refuseQuantization(o)
	}
	if *o.err != nil {
		return nil, *o.err
	}
	return c, nil
}

// refuseQuantization records that the weights are in a format that is not read.
func (c *Config) refuseQuantization(o object) {
	if what := otherQuantization(c.Quantization); what != "" {
		o.unsupported("quantization_config", "use the BF16 or FP8 release, or a file in a format that GLM engines serve", "the weights are quantised by %s, whose format is not read here", what)
	}
}

func (c *Config) parse(o object) {
	fam := familyOf(o)
	if fam == nil {
		return
	}
	c.Family, c.Architecture = fam.family, fam.architecture
	c.Quantization, c.QuantizationKey, c.QuantizationConfig = quantization(o)

	text := o
	if fam.nested {
		if !o.has("text_config") || !o.has("vision_config") {
			o.invalid("text_config", "a %s config needs text_config and vision_config", fam.family)
			return
		}
		text = o.sub("text_config")
		if name := text.textOr("model_type", ""); name != "" && name != string(fam.family) && name != string(fam.family)+"_text" {
			text.unsupported("model_type", "take config.json from the model that the weights are of", "%s has a text model of type %s_text, not %s",
				fam.family, fam.family, name)
		}
	}
	c.parseText(o, text)
	if *o.err != nil {
		return
	}
	if c.LatentAttention() {
		c.parseMLA(text)
	} else {
		c.parseGQA(text)
	}
	c.parseExperts(text)
	if c.SparseAttention() {
		c.parseIndexer(text)
	}
	c.parseRope(text)
	if fam.nested {
		c.parseVision(o)
	}
}

// familyOf finds the family of the config or records why there is none.
func familyOf(o object) *family {
	name := o.textOr("model_type", "")
	if *o.err != nil {
		return nil
	}
	if name == "" {
		o.invalid("model_type", "missing; this does not look like a model's config.json")
		return nil
	}
	fam, ok := families[Family(name)]
	if !ok {
		reason, hint := whatIs(name)
		o.unsupported("model_type", hint, "%s", reason)
		return nil
	}
	if archs := o.texts("architectures"); len(archs) > 0 && (len(archs) != 1 || archs[0] != fam.architecture) {
		o.unsupported("architectures", "only the generating model itself can be converted",
			"expected %s for model type %s", fam.architecture, name)
		return nil
	}
	return fam
}

// parseText reads what all families share. Top is the whole file, o the text
// part of it (the same for text-only models).
func (c *Config) parseText(top, o object) {
	c.VocabSize = o.size("vocab_size", 1, maxVocab)
	c.HiddenSize = o.size("hidden_size", 1, maxWidth)
	c.Layers = o.size("num_hidden_layers", 1, maxLayers)
	c.Heads = o.size("num_attention_heads", 1, maxHeads)
	c.IntermediateSize = o.size("intermediate_size", 1, maxWidth)
	c.MaxPositions = o.sizeOr("max_position_embeddings", 0, 1, 1<<31-1)
	c.RMSNormEps = o.numberOr("rms_norm_eps", 1e-5)
	c.TieEmbeddings = o.boolOr("tie_word_embeddings", top.boolOr("tie_word_embeddings", false))
	c.MTPDeclared = o.has("num_nextn_predict_layers")
	c.MTPLayers = o.sizeOr("num_nextn_predict_layers", 0, 0, 16)
	if act := o.textOr("hidden_act", "silu"); act != "silu" {
		o.unsupported("hidden_act", "", "every published GLM uses silu; other activations are not implemented")
	}
	if o.boolOr("mlp_bias", false) {
		o.unsupported("mlp_bias", "", "the MLPs of the known families have no biases")
	}
	if c.EOS = o.ids("eos_token_id"); c.EOS == nil {
		c.EOS = top.ids("eos_token_id")
	}
	c.Pad = -1
	for _, from := range []object{top, o} {
		if ids := from.ids("pad_token_id"); len(ids) == 1 {
			c.Pad = ids[0]
		}
	}
	// v5 spells it dtype; glm4v_moe may have it at either level.
	for _, from := range []object{top, o} {
		if d := from.textOr("dtype", from.textOr("torch_dtype", "")); d != "" {
			c.DType = d
		}
	}
}

// parseGQA reads the attention of glm4_moe and glm4v_moe. head_dim cannot be
// derived from hidden_size there: 5120/96 is not even an integer.
func (c *Config) parseGQA(o object) {
	c.KVHeads = o.size("num_key_value_heads", 1, maxHeads)
	c.HeadDim = o.size("head_dim", 1, maxHeadDim)
	c.AttentionBias = o.boolOr("attention_bias", false)
	c.UseQKNorm = o.boolOr("use_qk_norm", false)
	if c.Heads%c.KVHeads != 0 {
		o.invalid("num_key_value_heads", "does not divide num_attention_heads = %d", c.Heads)
	}
}

// parseMLA reads multi-head latent attention. head_dim is ignored on purpose:
// GLM-5 says 64, GLM-5.2 a misleading 192.
func (c *Config) parseMLA(o object) {
	c.KVHeads = o.sizeOr("num_key_value_heads", c.Heads, 1, maxHeads)
	c.QLoraRank = o.size("q_lora_rank", 1, maxWidth)
	c.KVLoraRank = o.size("kv_lora_rank", 1, maxWidth)
	c.QKNopeHeadDim = o.size("qk_nope_head_dim", 1, maxHeadDim)
	c.QKRopeHeadDim = o.size("qk_rope_head_dim", 1, maxHeadDim)
	c.VHeadDim = o.size("v_head_dim", 1, maxHeadDim)
	if c.KVHeads != c.Heads {
		o.invalid("num_key_value_heads", "latent attention has as many key heads as query heads, %d", c.Heads)
	}
	if qk := o.sizeOr("qk_head_dim", c.QKHeadDim(), 1, 2*maxHeadDim); qk != c.QKHeadDim() {
		o.invalid("qk_head_dim", "is not qk_nope_head_dim + qk_rope_head_dim = %d", c.QKHeadDim())
	}
	if o.boolOr("attention_bias", false) {
		o.unsupported("attention_bias", "", "no known model with latent attention has attention biases")
	}
}

// parseExperts reads the router and the expert layout.
func (c *Config) parseExperts(o object) {
	c.MoEIntermediateSize = o.size("moe_intermediate_size", 1, maxWidth)
	key := "n_routed_experts"
	for _, alias := range []string{"num_local_experts", "num_experts"} { // v5 code, old drafts
		if !o.has(key) && o.has(alias) {
			key = alias
		}
	}
	c.Experts = o.size(key, 1, maxExperts)
	c.ExpertsPerToken = o.size("num_experts_per_tok", 1, maxExperts)
	c.SharedExperts = o.sizeOr("n_shared_experts", 1, 1, 64)
	c.NGroup = o.sizeOr("n_group", 1, 1, maxExperts)
	c.TopKGroup = o.sizeOr("topk_group", 1, 1, maxExperts)
	c.NormTopK = o.boolOr("norm_topk_prob", true)
	c.RoutedScaling = o.number("routed_scaling_factor")
	if c.ExpertsPerToken > c.Experts {
		o.invalid("num_experts_per_tok", "more than the %d routed experts", c.Experts)
	}
	if c.Experts%c.NGroup != 0 {
		o.invalid("n_group", "does not divide the %d routed experts", c.Experts)
	}
	if c.TopKGroup > c.NGroup {
		o.invalid("topk_group", "more than n_group = %d", c.NGroup)
	} else if per := c.Experts / max(c.NGroup, 1); c.ExpertsPerToken > per*c.TopKGroup {
		o.invalid("num_experts_per_tok", "more than the %d experts in topk_group groups", per*c.TopKGroup)
	}
	if (c.Layers+c.MTPLayers)*c.Experts > maxTables {
		o.invalid(key, "%d layers of %d experts are more than any GLM has", c.Layers, c.Experts)
	}
	// The BF16 releases of 4.5 to 4.7 leave these out; they mean the same.
	if s := o.textOr("scoring_func", "sigmoid"); s != "sigmoid" {
		o.unsupported("scoring_func", "", "every published GLM scores experts with sigmoid")
	}
	if s := o.textOr("topk_method", "noaux_tc"); s != "noaux_tc" {
		o.unsupported("topk_method", "", "every published GLM selects experts with noaux_tc")
	}
	if o.sizeOr("moe_layer_freq", 1, 0, maxLayers) != 1 {
		o.unsupported("moe_layer_freq", "", "only 1 (every layer after the dense ones) is known")
	}
	c.parseDense(o)
}

// quantization returns the method and text of an existing quantisation.
func quantization(o object) (method, at string, raw json.RawMessage) {
	for _, within := range []string{"", "text_config."} {
		from := o
		if within != "" {
			from = o.sub("text_config")
		}
		for _, key := range []string{"quantization_config", "compression_config"} {
			if !from.has(key) {
				continue
			}
			q := from.sub(key)
			method = q.textOr("quant_method", "")
			if method == "" {
				method = "unknown"
			}
			return method, within + key, from.fields[key]
		}
	}
	return "", "", nil
}

// AsConfigError returns the ConfigError inside err, or nil.
func AsConfigError(err error) *ConfigError {
	var ce *ConfigError
	if errors.As(err, &ce) {
		return ce
	}
	return nil
}
