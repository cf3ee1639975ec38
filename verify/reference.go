package verify

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// What the result of a quantized source is compared with
// (docs/facts/formats.md 10.4).
const (
	// ReferenceSource is the source's own forward pass with the rounding of
	// activations that it declares: what its users are served.
	ReferenceSource = "source"
	// ReferenceWeights is the forward pass with the source's decoded weights and
	// unrounded activations: what the weights alone have lost.
	ReferenceWeights = "weights"
)

// chooseReference returns what a quantized source is taken for; "" for a source
// in full precision, which has no choice. A result that holds codes is compared
// with what the source's users are served.
func chooseReference(f *folders, src, dst, asked string) string {
	cfg, err := glm.LoadConfig(src)
	switch {
	case err != nil || cfg.Quantization == "":
		return ""
	case asked != "":
		return asked
	}
	if codes, err := sample(f, dst); err != nil || len(codes) == 0 {
		return ReferenceWeights
	}
	return ReferenceSource
}

// inputsOf returns what a checkpoint declares of the inputs of its modules.
func inputsOf(dir string) func(module string) format.Activation {
	none := func(string) format.Activation { return format.Activation{} }
	cfg, err := glm.LoadConfig(dir)
	if err != nil || cfg.QuantizationConfig == nil {
		return none
	}
	d, err := declaration.Config(cfg.QuantizationConfig)
	if err != nil {
		return none
	}
	return func(module string) format.Activation { return d.Of(module).Input() }
}
