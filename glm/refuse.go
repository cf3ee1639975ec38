package glm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// whatIs says what a model_type without a table here is, and what to do.
func whatIs(name string) (reason, hint string) {
	const known = "supported model types are glm4_moe, glm4v_moe, glm_moe_dsa and glm4_moe_lite"
	for _, k := range strangers {
		if name == k.name || (k.prefix && strings.HasPrefix(name, k.name)) {
			return k.what, known
		}
	}
	return "not a model family this tool knows", known
}

var strangers = []struct {
	name   string
	prefix bool // every model_type that starts with name
	what   string
}{
	{"glm4v_moe_text", false, "the text part of a glm4v_moe model on its own; the whole checkpoint's config.json is needed"},
	{"glm4v", true, "a dense GLM-4V model (GLM-4.1V, GLM-4.6V-Flash): interleaved rope, sandwich norms, no experts"},
	{"glm46v", true, "a dense GLM-4.6V-Flash model: interleaved rope, sandwich norms, no experts"},
	{"glm5_next", true, "GLM-5.3-Flash: 45 layers mix KDA linear attention (conv kernel 4) with rope-free MLA (qk_rope_head_dim 0), " +
		"4-way hyper-connections, a pooled indexer, SwiGLU clamped at 10, 288 experts and a vision tower"},
	{"glm_ocr", true, "GLM-OCR, a dense vision model"},
	{"glm4_moe_mtp", false, "an engine's draft view of glm4_moe, not a checkpoint of its own"},
	{"glm4_moe_lite_mtp", false, "an engine's draft view of glm4_moe_lite, not a checkpoint of its own"},
	{"glm4", false, "a dense GLM-4 (GLM-4-0414, GLM-Z1): interleaved rope, sandwich norms, no experts"},
	{"glm", false, "a dense GLM-4-9B: no experts"},
	{"chatglm", false, "a ChatGLM model: no experts, other tensor names"},
	{"deepseek", true, "a DeepSeek model: near to glm_moe_dsa, but with other rope scaling, router groups and names"},
	{"kimi", true, "a Kimi model"},
	{"llama", true, "a Llama model"},
	{"mistral", true, "a Mistral model"},
	{"mixtral", true, "a Mixtral model"},
	{"qwen", true, "a Qwen model"},
	{"gemma", true, "a Gemma model"},
	{"gpt_oss", true, "a gpt-oss model"},
	{"minimax", true, "a MiniMax model"},
}

// otherQuantization names a quantization whose files are refused by its name:
// none of them holds a GLM that the engines here serve (docs/facts/formats.md 2).
func otherQuantization(method string) string {
	switch m := strings.ToLower(method); m {
	case "bitsandbytes", "gguf", "hqq", "aqlm", "vptq", "exl3", "torchao", "fbgemm_fp8", "w4afp8", "fp_quant", "quanto", "eetq":
		return m
	case "mxfp4":
		return "mxfp4 (the form of GPT-OSS, with packed experts)"
	}
	return ""
}

// RequireUnquantized returns nil for a full-precision checkpoint and a
// *ConfigError of kind ErrQuantized for every other, naming what it is.
func (c *Config) RequireUnquantized() error {
	if c.Quantization == "" {
		return nil
	}
	var q struct {
		Method       string          `json:"quant_method"`
		Format       string          `json:"format"`
		WeightBlock  json.RawMessage `json:"weight_block_size"`
		ConfigGroups map[string]struct {
			Weights struct {
				NumBits  json.RawMessage `json:"num_bits"`
				Type     string          `json:"type"`
				Strategy string          `json:"strategy"`
			} `json:"weights"`
		} `json:"config_groups"`
	}
	// A config too odd for this struct is still quantised: say what is known.
	_ = json.Unmarshal(c.QuantizationConfig, &q)
	what := fmt.Sprintf("the checkpoint is already quantised (%s)", c.Quantization)
	hint := "convert from the BF16 release"
	fp8 := func(kind string) {
		what = "the checkpoint is an " + kind + " release"
		hint = "quantize --scheme bf16 decodes it"
	}
	switch {
	case c.Quantization == "fp8" && len(q.WeightBlock) > 0 && string(q.WeightBlock) != "null":
		fp8("FP8 block")
	case c.Quantization == "fp8":
		fp8("FP8")
	case c.Quantization == "compressed-tensors":
		if q.Format != "" {
			what = fmt.Sprintf("the checkpoint is already quantised (compressed-tensors, %s)", q.Format)
		}
		all, strategies := len(q.ConfigGroups) > 0, map[string]bool{}
		for _, g := range q.ConfigGroups {
			all = all && g.Weights.Type == "float" && string(g.Weights.NumBits) == "8"
			strategies[g.Weights.Strategy] = true
		}
		switch {
		case all && len(strategies) == 1:
			fp8(strings.TrimSpace("FP8 " + slices.Collect(maps.Keys(strategies))[0]))
		case all:
			fp8("FP8")
		}
	}
	return &ConfigError{Field: "quantization_config", Reason: what, Advice: hint, Kind: ErrQuantized}
}

// companions are the ends of names that only quantised weights have beside
// them.
var companions = []string{".weight_scale", ".weight_scale_inv", ".weight_packed", ".qweight", ".qzeros", ".scales", ".weight_scale_2",
	".weight_global_scale", ".weight_offset", ".deq_scale"}

// StaleQuantization returns nil where the tensors may be quantised as
// config.json says, or it says nothing. Where it declares a quantisation and
// no tensor has codes or scales, the key was left over when the weights were
// dequantised: a *ConfigError of kind ErrQuantized says so.
func (c *Config) StaleQuantization(infos []safetensors.Info) error {
	if c.Quantization == "" || len(infos) == 0 {
		return nil
	}
	for i := range infos {
		switch t := &infos[i]; t.DType {
		case safetensors.BF16, safetensors.F16, safetensors.F32, safetensors.F64:
			for _, end := range companions {
				if strings.HasSuffix(t.Name, end) {
					return nil
				}
			}
		case safetensors.I64, safetensors.I32, safetensors.Bool:
			if len(t.Shape) > 1 {
				return nil // packed codes
			}
		default:
			return nil
		}
	}
	return &ConfigError{Field: "quantization_config", Kind: ErrQuantized,
		Reason: fmt.Sprintf("it declares %s, and no tensor is quantised: all weights are full precision and none has a scale; the key was left over from the release that these weights were dequantised from", c.Quantization),
		Advice: "remove quantization_config from config.json"}
}

func (c *Config) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}
