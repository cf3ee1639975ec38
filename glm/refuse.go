package glm

import (
	"fmt"
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
	{"glm5_next", true, "not a supported family (GLM-5.3-Flash): 45 layers mix KDA linear attention (conv kernel 4) with rope-free MLA (qk_rope_head_dim 0), " +
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

// OtherGLM reports whether a model_type is that of a GLM of another
// architecture than those that are supported: GLM-5.3-Flash, dense and OCR
// models. ParseConfig refuses it with what it is.
func OtherGLM(name string) bool {
	for _, k := range strangers {
		if (name == k.name || k.prefix && strings.HasPrefix(name, k.name)) && strings.Contains(k.name, "glm") {
			return true
		}
	}
	return false
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
// *ConfigError of kind ErrQuantized for every other, naming the quantization
// it declares.
func (c *Config) RequireUnquantized() error {
	if c.Quantization == "" {
		return nil
	}
	return &ConfigError{Field: "quantization_config", Reason: fmt.Sprintf("the checkpoint is already quantised (%s)", c.Quantization),
		Advice: "convert from the BF16 release, or decode the weights first", Kind: ErrQuantized}
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
	if c.QuantizationFile != "" {
		return &ConfigError{Field: c.QuantizationFile, Kind: ErrQuantized,
			Reason: fmt.Sprintf("it declares %s, and no tensor is quantised: it was left over from the release that these weights were dequantised from", c.Quantization),
			Advice: "remove " + c.QuantizationFile}
	}
	return &ConfigError{Field: c.QuantizationKey, Kind: ErrQuantized,
		Reason: fmt.Sprintf("it declares %s, and no tensor is quantised: all weights are full precision and none has a scale; the key was left over from the release that these weights were dequantised from", c.Quantization),
		Advice: "remove " + c.QuantizationKey + " from config.json"}
}

func (c *Config) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}
