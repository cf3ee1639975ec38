package format

import "fmt"

// Type is the kind of number that codes stand for.
type Type uint8

// The types. None is the zero value: values are stored as they are.
const (
	None  Type = iota
	Int        // two's complement integers, or unsigned ones with a zero point
	Float      // floating point: E4M3 with 8 bits, E2M1 with 4, E2M3 with 6
)

// String returns "", "int" or "fp".
func (t Type) String() string { return [...]string{"", "int", "fp"}[t] }

// Strategy says which values share a scale.
type Strategy uint8

// The strategies, named as compressed-tensors names them.
const (
	NoStrategy  Strategy = iota
	Tensor               // the whole tensor
	Channel              // a row: one output channel of a weight
	Group                // Weight.Group columns of a row
	Block                // Weight.BlockRows × Weight.BlockCols values
	TensorGroup          // groups, whose scales have a scale of the whole tensor besides (NVFP4)
	Token                // activations: a row of the input
)

var strategies = [...]string{"", "tensor", "channel", "group", "block", "tensor_group", "token"}

// String returns the name that compressed-tensors has for the strategy.
func (s Strategy) String() string { return strategies[s] }

// ParseStrategy reads a name of compressed-tensors.
func ParseStrategy(name string) (Strategy, bool) {
	for i, s := range strategies {
		if s == name && i > 0 {
			return Strategy(i), true
		}
	}
	return NoStrategy, false
}

// Packing says how codes lie in the bytes of their tensor. [O, I] is the
// weight: output channels and input columns.
type Packing uint8

// The packings.
const (
	Bytes       Packing = iota // [O, I], a byte a code
	Words                      // I32 [O, ⌈I·bits/32⌉] along the input, offset by 2^(bits-1) (pack-quantized)
	Nibbles                    // U8 [O, I/2] along the input, the even column in the low half (FP4)
	RowPairs                   // I8 [O/2, I] along the output, the even row in the low half (Ascend W4A8_DYNAMIC)
	GPTQWords                  // I32 [⌈I·bits/32⌉, O] along the input, unsigned, zero points stored less one (GPTQ)
	AWQWords                   // I32 [I, O·bits/32] along the output in the order 0 2 4 6 1 3 5 7 (AWQ)
	GPTQv2Words                // as GPTQWords, zero points stored as they are (gptq_v2)
)

// String describes the packing in words.
func (p Packing) String() string {
	return [...]string{"a byte a code", "32-bit words along the input", "two codes a byte along the input", "two rows a byte",
		"GPTQ words", "AWQ words", "GPTQ v2 words"}[p]
}

// Scale is the element type of scales.
type Scale uint8

// The element types of scales. AnyScale is the zero value: not known, or not
// of interest.
const (
	AnyScale Scale = iota
	F32
	BF16
	F16
	E4M3
	E8M0 // powers of two (MX)
)

// String returns the name of the type, "" for AnyScale.
func (s Scale) String() string { return [...]string{"", "F32", "BF16", "F16", "F8_E4M3", "F8_E8M0"}[s] }

// Weight is what a weight is quantized to. The zero value is a weight that is
// not.
type Weight struct {
	Type     Type
	Bits     int      // of a code
	Strategy Strategy // which weights share a scale

	Group                int // columns of a group: Group and TensorGroup
	BlockRows, BlockCols int // Block

	ZeroPoints bool // codes are unsigned and have a zero point a scale
	Packing    Packing

	Scale  Scale // as stored
	Used   Scale // what the engine rounds stored scales to before it multiplies; AnyScale: it takes them as they are
	Global Scale // of the scale's scale, AnyScale where there is none
}

// Float8 is E4M3 with a scale for each output channel.
var Float8 = Weight{Type: Float, Bits: 8, Strategy: Channel}

// Float8Block is E4M3 with a scale for each block of 128 rows and columns.
var Float8Block = Weight{Type: Float, Bits: 8, Strategy: Block, BlockRows: 128, BlockCols: 128}

// Int8 is int8 with a scale for each output channel.
var Int8 = Weight{Type: Int, Bits: 8, Strategy: Channel}

// Int4 is int4 with a scale for each group of input columns; 0: for each
// output channel.
func Int4(group int) Weight { return Integer(4, group) }

// Integer is a symmetric integer of 2 to 8 bits in groups of input columns;
// 0: for each output channel.
func Integer(bits, group int) Weight {
	w := Weight{Type: Int, Bits: bits, Strategy: Channel}
	if group > 0 {
		w.Strategy, w.Group = Group, group
	}
	return w
}

// NVFP4 is E2M1 in groups of 16 with E4M3 scales below one F32 scale.
var NVFP4 = Weight{Type: Float, Bits: 4, Strategy: TensorGroup, Group: 16, Packing: Nibbles, Scale: E4M3, Global: F32}

// MXFP4 is E2M1 in groups of 32 whose scales are powers of two.
var MXFP4 = Weight{Type: Float, Bits: 4, Strategy: Group, Group: 32, Packing: Nibbles, Scale: E8M0}

// MXFP8 is E4M3 in groups of 32 whose scales are powers of two.
var MXFP8 = Weight{Type: Float, Bits: 8, Strategy: Group, Group: 32, Scale: E8M0}

// Packed returns w with another packing.
func (w Weight) Packed(p Packing) Weight {
	w.Packing = p
	return w
}

// Scaled returns w with the given type of stored scales.
func (w Weight) Scaled(s Scale) Weight {
	w.Scale = s
	return w
}

// Quantized reports whether codes and scales are stored in place of values.
func (w Weight) Quantized() bool { return w.Type != None }

// Codes returns what the codes and scales mean, without how they are stored:
// packing and the types of the scales are zero.
func (w Weight) Codes() Weight {
	w.Packing, w.Scale, w.Used, w.Global = Bytes, AnyScale, AnyScale, AnyScale
	return w
}

// SameCodes reports whether two weights hold the same kind of numbers,
// however they are packed and whatever type their scales have.
func (w Weight) SameCodes(v Weight) bool { return w.Codes() == v.Codes() }

// ScaleShape returns the shape of the scales of a weight [rows, cols]; (0, 0)
// for a weight that is not quantized.
func (w Weight) ScaleShape(rows, cols int) (r, c int) {
	br, bc := w.Extent(rows, cols)
	if br == 0 || bc == 0 {
		return 0, 0
	}
	return (rows + br - 1) / br, (cols + bc - 1) / bc
}

// Extent returns the rows and columns of a weight [rows, cols] that share a
// scale; (0, 0) for a weight that is not quantized.
func (w Weight) Extent(rows, cols int) (r, c int) {
	switch w.Strategy {
	case Tensor:
		return rows, cols
	case Channel, Token:
		return 1, cols
	case Group, TensorGroup:
		return 1, w.Group
	case Block:
		return w.BlockRows, w.BlockCols
	}
	return 0, 0
}

// String describes the codes in the words of reports: "float", "fp8 channel",
// "fp8 block", "int4 group 128". Blocks of 128×128 need no size; zero points
// and scales that are powers of two are said.
func (w Weight) String() string {
	if !w.Quantized() {
		return "float"
	}
	text := fmt.Sprintf("%s%d %s", w.Type, w.Bits, w.Strategy)
	switch {
	case w.Strategy == TensorGroup:
		text = fmt.Sprintf("%s%d group %d below a tensor scale", w.Type, w.Bits, w.Group)
	case w.Strategy == Group:
		text += fmt.Sprintf(" %d", w.Group)
	case w.Strategy == Block && (w.BlockRows != 128 || w.BlockCols != 128):
		text += fmt.Sprintf(" %dx%d", w.BlockRows, w.BlockCols)
	}
	if w.Scale == E8M0 {
		text = "mx" + text
	}
	if w.ZeroPoints {
		text += " with zero points"
	}
	return text
}
