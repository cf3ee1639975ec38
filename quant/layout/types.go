package layout

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Scheme is what arithmetic the result is served with: the value of --scheme.
type Scheme string

// The schemes.
const (
	FP8      Scheme = "fp8"
	FP8Block Scheme = "fp8-block"
	W8A8     Scheme = "w8a8"
	W4A8     Scheme = "w4a8"
	W4A16    Scheme = "w4a16"
	W4A8FP8  Scheme = "w4a8-fp8"
)

// Format is how the result lies on disk: the value of --format.
type Format string

// The formats.
const (
	CompressedTensors Format = "compressed-tensors"
	HFFP8             Format = "hf-fp8"
	Ascend            Format = "ascend"
)

// Encoding is what one weight becomes. The layout decides names and dtypes.
type Encoding uint8

// The encodings. Float keeps the source's bytes; Widen stores a BF16/F16
// vector as F32 (Ascend: biases of quantised layers).
const (
	Float Encoding = iota
	Widen
	FP8ChannelEnc // E4M3, one scale per output channel
	FP8BlockEnc   // E4M3, one scale per 128x128 block
	Int8ChannelEnc
	Int4GroupEnc   // int4, one scale per Weight.Group input columns (0: per channel)
	Int4PackedEnc  // the same numbers, 8 codes to an I32 word along the input (pack-quantized)
	Int4ChannelAsc // Ascend W4A8_DYNAMIC: int4 per channel, packed along the output
)

// Weight is a decision about one tensor: enough to know what is written.
type Weight struct {
	Tensor   glm.Tensor
	Source   safetensors.DType // dtype of the source
	Encoding Encoding
	Group    int // int4 group size, 0 = channel
	// FP8Scales: the engine rounds the group scales to FP8 (w4a8-fp8).
	FP8Scales bool
}

// Arith is re-exported so that callers need not import numeric.
type Arith = numeric.Arith
