package diff

import (
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/safetensors"
)

// Form is how a weight is stored. JSON has it as text.
type Form struct {
	Weight  format.Weight     // zero: values are stored
	DType   safetensors.DType // of values
	Stacked bool              // values are part of a stacked expert tensor
}

// Quantized reports whether codes and scales are stored.
func (f Form) Quantized() bool { return f.Weight.Quantized() }

// String describes the form: "int8 channel", "BF16", "stacked BF16"; it is
// empty for the zero value.
func (f Form) String() string {
	switch {
	case f.Quantized():
		return f.Weight.String()
	case f.DType == safetensors.Invalid:
		return ""
	case f.Stacked:
		return "stacked " + f.DType.String()
	}
	return f.DType.String()
}

// MarshalText writes what String returns.
func (f Form) MarshalText() ([]byte, error) { return []byte(f.String()), nil }
