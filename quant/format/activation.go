package format

import "fmt"

// When says where the scales of activations come from.
type When uint8

// The modes. Dynamic is the zero value.
const (
	Dynamic When = iota // from the values, as they come
	Static              // from the checkpoint
	Local               // group scales from the values, their scale from the checkpoint (NVFP4)
)

// String returns "dynamic", "static" or "local".
func (w When) String() string { return [...]string{"dynamic", "static", "local"}[w] }

// Activation is what the input of a weight is quantized to before they are
// multiplied. The zero value is an input that is not: weight-only
// quantization, or none.
type Activation struct {
	Type       Type
	Bits       int
	Strategy   Strategy // Token, Group, Tensor, TensorGroup
	Group      int      // columns of a group
	When       When
	ZeroPoints bool  // asymmetric
	Scale      Scale // of groups, where it is not F32: E4M3 (NVFP4), E8M0 (MX)
}

// The activations of the schemes that engines serve.
var (
	Int8Token   = Activation{Type: Int, Bits: 8, Strategy: Token}
	Float8Token = Activation{Type: Float, Bits: 8, Strategy: Token}
	Float8Group = Activation{Type: Float, Bits: 8, Strategy: Group, Group: 128}
	NVFP4Local  = Activation{Type: Float, Bits: 4, Strategy: TensorGroup, Group: 16, When: Local, Scale: E4M3}
	MXFP4Group  = Activation{Type: Float, Bits: 4, Strategy: Group, Group: 32, Scale: E8M0}
	MXFP8Group  = Activation{Type: Float, Bits: 8, Strategy: Group, Group: 32, Scale: E8M0}
)

// Quantized reports whether the input is quantized.
func (a Activation) Quantized() bool { return a.Type != None }

// String describes the form in the words of reports: "none", "int8 per
// token", "fp8 per token and group of 128".
func (a Activation) String() string {
	if !a.Quantized() {
		return "none"
	}
	text := fmt.Sprintf("%s%d", a.Type, a.Bits)
	if a.Scale == E8M0 {
		text = "mx" + text
	}
	switch a.Strategy {
	case Group, TensorGroup:
		text += fmt.Sprintf(" per token and group of %d", a.Group)
	default:
		text += " per " + a.Strategy.String()
	}
	switch {
	case a.When == Static && a.ZeroPoints:
		text += ", static with zero points"
	case a.When != Dynamic:
		text += ", " + a.When.String()
	case a.ZeroPoints:
		text += " with zero points"
	}
	return text
}
