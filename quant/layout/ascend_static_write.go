package layout

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// StaticInput is how the input of a weight is quantized when its range is known
// before: x_q = x/Scale + Offset, rounded to int8.
type StaticInput struct {
	Scale  float32 // a BF16 number
	Offset int8
}

// staticSlack is how much wider than needed a scale may be for the sake of its
// reciprocal.
const staticSlack = 1.02

// NewStaticInput returns the scale and zero point of inputs from lo to hi, which
// are taken to include 0 (docs/facts/ascend.md 2.1): (hi−lo)/255 and more, at
// least 2^-23. The scale is a BF16 number, since engines round it to one, and the
// one among the next few whose BF16 reciprocal is nearest to its own: plain
// path and MLAPO then quantize alike (docs/facts/ascend.md 2.4).
func NewStaticInput(lo, hi float32) (StaticInput, error) {
	lo, hi = min(lo, 0), max(hi, 0)
	need := max((hi-lo)/255, 1.0/(1<<23))
	if !(need <= math.MaxFloat32/512) {
		return StaticInput{}, fmt.Errorf("layout: a range of %g to %g is none", lo, hi)
	}
	s := numeric.RoundBF16(need)
	for s < need {
		s = nextBF16(s)
	}
	best, least := s, math.Inf(1)
	for ; s <= staticSlack*need || math.IsInf(least, 1); s = nextBF16(s) {
		r := numeric.RoundBF16(1 / s)
		if off := math.Abs(float64(s)*float64(r) - 1); off < least {
			best, least = s, off
		}
	}
	return StaticInput{best, zeroPoint(lo, best)}, nil
}

// zeroPoint is the code of 0 (docs/facts/ascend.md 2.1).
func zeroPoint(lo, scale float32) int8 {
	return int8(min(max(math.RoundToEven(-float64(lo)/float64(scale))-128, -128), 127))
}

// NewExactInput is NewStaticInput with the scale that the range asks for, in F32:
// of what engines do not round to BF16.
func NewExactInput(lo, hi float32) (StaticInput, error) {
	lo, hi = min(lo, 0), max(hi, 0)
	scale := max(hi/255-lo/255, 1.0/(1<<23))
	if !(scale <= math.MaxFloat32/512) {
		return StaticInput{}, fmt.Errorf("layout: a range of %g to %g is none", lo, hi)
	}
	return StaticInput{scale, zeroPoint(lo, scale)}, nil
}

func nextBF16(s float32) float32 {
	return math.Float32frombits((math.Float32bits(s) &^ 0xffff) + 1<<16)
}

// The linears of attention that msmodelslim's recipes quantize statically: of
// latent and of grouped-query attention (docs/facts/ascend.md 3.1).
var (
	latentStatic  = []glm.Role{glm.AttnQA, glm.AttnKVA, glm.AttnQB, glm.AttnO, glm.IndexerQB}
	groupedStatic = []glm.Role{glm.AttnQ, glm.AttnK, glm.AttnV, glm.AttnO}
)

// takesStatic reports whether a linear of the model may have a static input.
func takesStatic(cfg *glm.Config, t *glm.Tensor) bool {
	roles := groupedStatic
	if cfg.LatentAttention() {
		roles = latentStatic
	}
	return cfg.DType != "float16" && slices.Contains(roles, t.Role)
}

// staticParts are the tensors of a weight with a static input.
var staticParts = []string{".weight", ".deq_scale", ".quant_bias", ".input_scale", ".input_offset"}

func isStatic(w *Weight) bool { return w.Quantized() && w.Act.When == format.Static }

func staticOutputs(w *Weight) []safetensors.Spec {
	rows, cols := w.Dims()
	p, n := w.Tensor.Module, int64(rows)
	return []safetensors.Spec{spec(p, "weight", safetensors.I8, n, int64(cols)), spec(p, "deq_scale", safetensors.F32, n),
		spec(p, "quant_bias", safetensors.I32, n), spec(p, "input_scale", safetensors.F32, 1), spec(p, "input_offset", safetensors.F32, 1)}
}

// TakesBias reports whether a weight's tensors hold the bias of its module, so that
// Bias is to be set before they are written.
func (w *Weight) TakesBias() bool { return isStatic(w) }

// Rows are what rows of int8 codes are multiplied by under the input, with the
// rows' biases in units of deq_scale where the module has them. Sums are exact.
func (in StaticInput) Rows(m *numeric.Matrix, bias []float32) *StaticRows {
	out := &StaticRows{Scale: in.Scale, Offset: int(in.Offset), Deq: make([]float32, len(m.Scales)), Bias: make([]int32, len(m.Scales))}
	for r, s := range m.Scales {
		sum := int64(0)
		for _, c := range m.Codes[r*m.Cols:][:m.Cols] {
			sum += int64(int8(c)) //nolint:gosec // the bits of an int8
		}
		out.Deq[r] = s * in.Scale
		own := 0.0
		if bias != nil {
			own = math.RoundToEven(float64(bias[r]) / float64(out.Deq[r]))
		}
		shift := float64(-int64(in.Offset) * sum) // at most 128·127·columns
		out.Bias[r] = int32(min(max(own+shift, math.MinInt32), math.MaxInt32))
	}
	return out
}

// appendStatic appends a tile of a weight with a static input.
func appendStatic(w *Weight, row0 int, m *numeric.Matrix, out [][]byte) [][]byte {
	out[0] = appendCodes(out[0], m.Codes)
	rows := w.Input.Rows(m, w.Bias)
	out[1] = numeric.AppendF32(out[1], rows.Deq)
	for _, b := range rows.Bias {
		out[2] = binary.LittleEndian.AppendUint32(out[2], uint32(b)) //nolint:gosec // its bits
	}
	if row0 == 0 {
		out[3] = numeric.AppendF32(out[3], []float32{w.Input.Scale})
		out[4] = numeric.AppendF32(out[4], []float32{float32(w.Input.Offset)})
	}
	return out
}
