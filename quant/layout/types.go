package layout

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Scheme is what arithmetic the result is served with.
type Scheme string

// The schemes.
const (
	FP8      Scheme = "fp8"
	FP8Block Scheme = "fp8-block"
	W8A8     Scheme = "w8a8"
	W4A8     Scheme = "w4a8"
	W4A16    Scheme = "w4a16"
	W4A8FP8  Scheme = "w4a8-fp8"
	BF16     Scheme = "bf16"
	NVFP4    Scheme = "nvfp4"
	NVFP4A16 Scheme = "nvfp4a16"
	MXFP4    Scheme = "mxfp4"
	MXFP4A16 Scheme = "mxfp4a16"
	MXFP8    Scheme = "mxfp8"
	MXFP8A16 Scheme = "mxfp8a16"
	Int4Int8 Scheme = "int4-int8-mix"
)

// Format is how the result lies on disk.
type Format string

// The formats.
const (
	CompressedTensors Format = "compressed-tensors"
	HFFP8             Format = "hf-fp8"
	Ascend            Format = "ascend"
	ModelOpt          Format = "modelopt"
	Plain             Format = "plain"
)

// The formats of other tools that are read and not written.
const (
	Quark Format = "quark"
	GPTQ  Format = "gptq"
	AWQ   Format = "awq"
)

// Weight is a decision about one tensor: enough to know what is written.
type Weight struct {
	Tensor *glm.Tensor       // of the family's table, shared
	Source safetensors.DType // dtype of the source
	Quant  format.Weight     // zero: values are stored
	Act    format.Activation // of the input of a quantized weight
	Input  StaticInput       // where Act is static
	Bias   []float32         // where Act is static and the module has a bias: of a tile's rows
	DType  safetensors.DType // of stored values: the source's, or F32 where the layout wants it wider

	// Numbers that are not known from headers: the global scale of NVFP4 weights
	// and the largest magnitude of the input where its scale is static or local.
	Global, InputMax float32
}

// Quantized reports whether codes and scales are stored.
func (w *Weight) Quantized() bool { return w.Quant.Quantized() }

// Widened reports whether values are stored in a wider type than the source's.
func (w *Weight) Widened() bool { return !w.Quantized() && w.DType != w.Source }

// Dims returns the weight's [out, in]; stacked or vector tensors have one row
// per leading index.
func (w *Weight) Dims() (rows, cols int) {
	if len(w.Tensor.Shape) == 0 {
		return 1, 1
	}
	rows, cols = int(w.Tensor.Shape[0]), 1
	for _, d := range w.Tensor.Shape[1:] {
		cols *= int(d)
	}
	return rows, cols
}

// Arith is re-exported so that callers need not import numeric.
type Arith = numeric.Arith
