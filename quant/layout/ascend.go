package layout

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// ascend is the ModelSlim V1 layout that vllm-ascend reads (docs/facts/ascend.md
// 1, 2). With P the module and [N, K] the weight:
//
//	W8A8_DYNAMIC  P.weight I8 [N,K]    P.weight_scale F32 [N,1] (BF16 values)  P.weight_offset F32 [N,1] zeros
//	W4A8_DYNAMIC  P.weight I8 [N/2,K]  P.weight_scale F32 [N,1]  P.weight_offset F32 [N,1] zeros
//	              P.scale_bias F32 [N,1] for gate and up, [N,16] for down: 8·s·Σq
//	FLOAT         source dtype; biases of quantised layers are widened to F32
type ascend struct{}

// downParts is the number of K-slices of a down projection's scale_bias.
const downParts = 16

func (ascend) Format() Format    { return Ascend }
func (ascend) IndexName() string { return "quant_model_weights.safetensors.index.json" }

func biasParts(w Weight) int {
	if w.Tensor.Role == glm.ExpertDown {
		return downParts
	}
	return 1
}

// What is appended to a module for the tensors of a quantised weight, in the
// order of their data.
var (
	int8Parts = []string{".weight", ".weight_scale", ".weight_offset"}
	int4Parts = []string{".weight", ".weight_scale", ".weight_offset", ".scale_bias"}
	floatPart = []string{""}
)

// names returns the names of a weight's tensors: a stem and what follows it.
func (ascend) names(w *Weight) (stem string, parts []string) {
	switch {
	case !w.Encoding.Quantized():
		return w.Tensor.Name, floatPart
	case w.Encoding == Int4ChannelAsc:
		return w.Tensor.Module, int4Parts
	}
	return w.Tensor.Module, int8Parts
}

func (l ascend) Outputs(w Weight) []safetensors.Spec {
	if !w.Encoding.Quantized() {
		return floatOutput(w)
	}
	stem, parts := l.names(&w)
	rows, cols := w.Dims()
	n, k := int64(rows), int64(cols)
	out := make([]safetensors.Spec, len(parts))
	column := []int64{n, 1}
	for i, part := range parts {
		out[i] = safetensors.Spec{Name: stem + part, DType: safetensors.F32, Shape: column}
	}
	out[0].DType, out[0].Shape = safetensors.I8, []int64{n, k}
	if w.Encoding == Int4ChannelAsc {
		out[0].Shape[0] = n / 2
		if p := int64(biasParts(w)); p > 1 {
			out[3].Shape = []int64{n, p}
		}
	}
	return out
}

func (ascend) Numeric(w Weight, a Arith) numeric.Spec { return numericBase(w, numeric.Ascend, a) }

func (ascend) RowAlign(w Weight, a Arith) int {
	switch {
	case w.Encoding == Int4ChannelAsc && a == numeric.Compat:
		return 0 // the reference's search stops when no row of the weight improves
	case w.Encoding == Int4ChannelAsc:
		return 2
	}
	return 1
}

func (ascend) AppendTile(w Weight, _ int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	var err error
	if w.Encoding == Int4ChannelAsc {
		if out[0], err = numeric.AppendInt4RowPairs(out[0], m.Codes, m.Cols); err != nil {
			return nil, fmt.Errorf("%s: %w", w.Tensor.Name, err)
		}
		bias, err := numeric.ScaleBias(m, biasParts(w))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Tensor.Name, err)
		}
		out[3] = numeric.AppendF32(out[3], bias)
	} else {
		out[0] = appendCodes(out[0], m.Codes)
	}
	out[1] = numeric.AppendF32(out[1], m.Scales)
	for range m.Rows {
		out[2] = binary.LittleEndian.AppendUint32(out[2], math.Float32bits(0))
	}
	return out, nil
}

// appendCodes is append, for nothing where the codes were computed in dst
// (numeric.Scratch.Into).
func appendCodes(dst, codes []byte) []byte {
	if n := len(codes); len(dst) == 0 && cap(dst) >= n && n > 0 && &dst[:n][0] == &codes[0] {
		return dst[:n]
	}
	return append(dst, codes...)
}
