package layout

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Layout is one way to put quantised weights on disk.
type Layout interface {
	Format() Format
	// Outputs lists the tensors a weight becomes, in the order of their data.
	Outputs(w Weight) []safetensors.Spec
	// Numeric is the arithmetic that produces the weight's codes and scales.
	Numeric(w Weight, a Arith) numeric.Spec
	// RowAlign is the number of rows that tiles must start at a multiple of;
	// 0 means that the weight must be converted in one piece.
	RowAlign(w Weight, a Arith) int
	// AppendTile appends a tile of the weight, rows from row0 on, to the data
	// of each output, in the order of Outputs. Outputs that do not grow with
	// the rows are written with the first tile.
	AppendTile(w Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error)
	// Config returns the files that tell an engine how the weights are stored:
	// config.json and whatever the layout has beside it.
	Config(d Decisions) (map[string][]byte, error)
	// IndexName is the name of the index of a sharded result.
	IndexName() string
}

// Decisions is all that a layout's configuration depends on.
type Decisions struct {
	Config    *glm.Config
	Scheme    Scheme
	GroupSize int
	Weights   []Weight // every tensor of the result, Float ones too
}

// TensorReader is the part of a checkpoint that readers of weights need;
// *safetensors.Checkpoint is one.
type TensorReader interface {
	Info(name string) (safetensors.Info, bool)
	ReadAt(info safetensors.Info, off int64, p []byte) error
}

// Dims returns the weight's [out, in]; stacked or vector tensors have one row
// per leading index.
func (w Weight) Dims() (rows, cols int) {
	if len(w.Tensor.Shape) == 0 {
		return 1, 1
	}
	rows, cols = int(w.Tensor.Shape[0]), 1
	for _, d := range w.Tensor.Shape[1:] {
		cols *= int(d)
	}
	return rows, cols
}

// Scales returns the shape of the weight's scales: [rows, columns of scales].
func (w Weight) Scales() (rows, cols int) {
	n, k := w.Dims()
	switch w.Encoding {
	case FP8BlockEnc:
		return (n + 127) / 128, (k + 127) / 128
	case Int4GroupEnc, Int4PackedEnc:
		if w.Group > 0 {
			return n, (k + w.Group - 1) / w.Group
		}
	}
	return n, 1
}

// Quantized reports whether codes and scales are stored.
func (e Encoding) Quantized() bool { return e != Float && e != Widen }

// String returns a word for reports.
func (e Encoding) String() string {
	names := [...]string{"float", "float32", "fp8 channel", "fp8 block", "int8 channel", "int4 group", "int4 packed", "int4 channel"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("Encoding(%d)", uint8(e))
}

// spec builds an output of a module.
func spec(module, param string, d safetensors.DType, shape ...int64) safetensors.Spec {
	return safetensors.Spec{Name: module + "." + param, DType: d, Shape: shape}
}

// floatOutput is the single output of a tensor that is not quantised.
func floatOutput(w Weight) []safetensors.Spec {
	d := w.Source
	if w.Encoding == Widen {
		d = safetensors.F32
	}
	return []safetensors.Spec{{Name: w.Tensor.Name, DType: d, Shape: w.Tensor.Shape}}
}

// numericBase fills in what an encoding says about codes and blocks.
func numericBase(w Weight, rule numeric.ScaleRule, a Arith) numeric.Spec {
	s := numeric.Spec{Rule: rule, Arith: a, BlockRows: 1}
	switch w.Encoding {
	case FP8ChannelEnc:
		s.Code = numeric.E4M3
	case FP8BlockEnc:
		s.Code, s.BlockRows, s.BlockCols = numeric.E4M3, 128, 128
	case Int8ChannelEnc:
		s.Code = numeric.Int8
	case Int4GroupEnc, Int4PackedEnc:
		s.Code, s.BlockCols = numeric.Int4, w.Group
	case Int4ChannelAsc:
		s.Code = numeric.Int4
	}
	return s
}
