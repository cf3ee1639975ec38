package runtime

import (
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// Weight is a run of rows of a 2-D weight, ready for a kernel: either stored
// floating-point data or codes with scales.
type Weight struct {
	Rows, Cols int
	Type       kernel.FloatType  // of Data
	Data       []byte            // [Rows, Cols], little-endian; nil when quantised
	Quant      *numeric.Matrix   // nil when not quantised
	Act        format.Activation // of the input of a quantized weight
	ActScale   float32           // of inputs that have one from the checkpoint

	static  *static // nil unless a scale and a zero point of the input are stored
	release func()  // gives the memory back, to be used again; nil where it stays
}

// Bytes returns the memory that the weight takes.
func (w *Weight) Bytes() int64 {
	if w.Quant != nil {
		return int64(len(w.Quant.Codes)) + 4*int64(len(w.Quant.Scales))
	}
	return int64(len(w.Data))
}

// align is what the first row of a slice is a multiple of: scale blocks, and
// the panels of the kernels.
func (w *Weight) align() int {
	const panel = 64
	if w.Quant == nil || panel%w.Quant.BlockRows == 0 {
		return panel
	}
	return panel * w.Quant.BlockRows
}

// cost is the number of multiplications of a product, and what reading the
// weight costs besides.
func (w *Weight) cost(in *input) int { return w.Rows * w.Cols * (in.rows + 1) }

// prepare makes the form of the input that product needs, so that products with
// rows of the weight can run at the same time.
func (w *Weight) prepare(in *input) {
	switch {
	case in.rows == 0:
	case w.Quant == nil:
		in.asFloats()
	case w.on(in.path) != nil:
		in.asStatic(w.static)
	case rounded(w.Act):
		in.round(w.Act, w.ActScale)
	case w.Act.Type == format.Int:
		in.asInt8()
	case w.Act.Type == format.Float:
		in.asE4M3(w.Act.Group)
	default:
		in.values()
	}
}

// product computes y[M,Rows] = in[M,Cols] · wᵀ with the engines' arithmetic;
// row i of y starts at y[i·ldy].
func (w *Weight) product(y []float32, ldy int, in *input, workers *kernel.Workers) {
	switch {
	case in.rows == 0: // nothing to compute
	case w.Quant == nil:
		kernel.FloatProduct(y, ldy, in.asFloats(), w.Type, w.Data, w.Rows, workers)
	case w.on(in.path) != nil:
		kernel.Int8Static(y, ldy, in.asStatic(w.static), w.Quant, w.static.Bias, w.static.Deq, workers)
	case rounded(w.Act):
		kernel.WeightOnly(y, ldy, in.round(w.Act, w.ActScale), in.rows, w.Quant, workers)
	case w.Act.Type == format.Int:
		kernel.Int8(y, ldy, in.asInt8(), w.Quant, workers)
	case w.Act.Type == format.Float:
		kernel.E4M3(y, ldy, in.asE4M3(w.Act.Group), w.Quant, workers)
	default:
		kernel.WeightOnly(y, ldy, in.values(), in.rows, w.Quant, workers)
	}
}

// input is the input [rows, cols] of one or several linear modules. Its
// quantised forms are made when the first module asks for them; a token's form
// depends on nothing but the token.
type input struct {
	x          []float32
	rows, cols int
	divisor    float32 // of int8 activations
	path       NPUPath
	workers    *kernel.Workers

	floats *kernel.FloatRows
	int8   *kernel.Int8Rows
	e4m3   map[int]*kernel.E4M3Rows // by group, 0 for the whole row
	static map[staticForm]*kernel.Int8Rows
	again  map[rounding][]float32 // rounded and widened

	parent *input // of rows that were picked from another input
	picked []int32
}

func (m *Model) input(x []float32, cols int) *input {
	return &input{x: x, rows: len(x) / cols, cols: cols, divisor: m.opt.ActDivisor, path: m.opt.Path, workers: m.workers}
}

// gather returns the given rows. They are picked from the form of the parent
// that is asked for: a token that goes to several experts is quantised once.
func (in *input) gather(rows []int32) *input {
	return &input{rows: len(rows), cols: in.cols, divisor: in.divisor, path: in.path, workers: in.workers, parent: in, picked: rows}
}

// values returns the input unquantised.
func (in *input) values() []float32 {
	if in.x == nil && in.parent != nil {
		from := in.parent.values()
		in.x = make([]float32, in.rows*in.cols)
		for i, r := range in.picked {
			copy(in.x[i*in.cols:][:in.cols], from[int(r)*in.cols:])
		}
	}
	return in.x
}

// rounding is what an input is rounded to, with its scale if there is one.
type rounding struct {
	act   format.Activation
	scale float32
}

// round returns the input rounded to the numbers of a format.
func (in *input) round(act format.Activation, scale float32) []float32 {
	key := rounding{act, scale}
	y, ok := in.again[key]
	switch {
	case ok:
		return y
	case in.parent != nil:
		from := in.parent.round(act, scale)
		y = make([]float32, in.rows*in.cols)
		for i, r := range in.picked {
			copy(y[i*in.cols:][:in.cols], from[int(r)*in.cols:])
		}
	case act == format.NVFP4Local:
		y = kernel.RoundNVFP4(in.x, in.rows, in.cols, scale, in.workers)
	case act == format.MXFP4Group:
		y = kernel.RoundMX(in.x, in.rows, in.cols, numeric.E2M1, in.workers)
	case act == format.MXFP8Group:
		y = kernel.RoundMX(in.x, in.rows, in.cols, numeric.E4M3, in.workers)
	default:
		y = kernel.RoundStaticE4M3(in.x, in.rows, in.cols, scale, in.workers)
	}
	if in.again == nil {
		in.again = map[rounding][]float32{}
	}
	in.again[key] = y
	return y
}

func (in *input) asFloats() *kernel.FloatRows {
	if in.floats == nil {
		in.floats = &kernel.FloatRows{M: in.rows, K: in.cols, X: in.values()}
	}
	return in.floats
}

func (in *input) asInt8() *kernel.Int8Rows {
	switch {
	case in.int8 != nil:
	case in.parent != nil:
		in.int8 = in.parent.asInt8().Gather(in.picked)
	default:
		in.int8 = kernel.QuantizeInt8(in.x, in.rows, in.cols, in.divisor, in.workers)
	}
	return in.int8
}

func (in *input) asE4M3(group int) *kernel.E4M3Rows {
	a := in.e4m3[group]
	switch {
	case a != nil:
		return a
	case in.parent != nil:
		a = in.parent.asE4M3(group).Gather(in.picked)
	default:
		a = kernel.QuantizeE4M3(in.x, in.rows, in.cols, group, in.workers)
	}
	if in.e4m3 == nil {
		in.e4m3 = map[int]*kernel.E4M3Rows{}
	}
	in.e4m3[group] = a
	return a
}
