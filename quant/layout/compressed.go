package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// compressedTensors is the layout of vllm-project/compressed-tensors
// (docs/facts/layouts.md 1.3). With P the module and [O, I] the weight:
//
//	float-quantized channel  P.weight F8_E4M3 [O,I]   P.weight_scale BF16 [O,1]
//	float-quantized block    P.weight F8_E4M3 [O,I]   P.weight_scale BF16 [⌈O/128⌉,⌈I/128⌉]
//	int-quantized 8 bits     P.weight I8 [O,I]        P.weight_scale BF16 [O,1]
//	int-quantized 4 bits     P.weight I8 [O,I] −8…7   P.weight_scale BF16 [O,I/g]
//	pack-quantized           P.weight_packed I32 [O,⌈I/8⌉]  P.weight_scale BF16 [O,I/g]  P.weight_shape I64 [2]
type compressedTensors struct{}

func (compressedTensors) Format() Format    { return CompressedTensors }
func (compressedTensors) IndexName() string { return "model.safetensors.index.json" }

func (compressedTensors) Outputs(w Weight) []safetensors.Spec {
	if !w.Encoding.Quantized() {
		return floatOutput(w)
	}
	n, k := w.Dims()
	sr, sc := w.Scales()
	p := w.Tensor.Module
	scale := spec(p, "weight_scale", safetensors.BF16, int64(sr), int64(sc))
	switch w.Encoding {
	case Int4PackedEnc:
		return []safetensors.Spec{spec(p, "weight_packed", safetensors.I32, int64(n), int64((k+7)/8)), scale, spec(p, "weight_shape", safetensors.I64, 2)}
	case FP8ChannelEnc, FP8BlockEnc:
		return []safetensors.Spec{spec(p, "weight", safetensors.F8E4M3, int64(n), int64(k)), scale}
	default:
		return []safetensors.Spec{spec(p, "weight", safetensors.I8, int64(n), int64(k)), scale}
	}
}

func (compressedTensors) Numeric(w Weight, a Arith) numeric.Spec {
	s := numericBase(w, numeric.CompressedTensors, a)
	// Marlin and GPTQ kernels take negative group scales (docs/facts/layouts.md
	// 1.5); for the W4A8-FP8 kernels nobody has confirmed it, and they round
	// the scales to FP8.
	s.Signed = w.Encoding == Int4PackedEnc && !w.FP8Scales
	s.FP8Scales = w.FP8Scales
	return s
}

func (compressedTensors) RowAlign(w Weight, _ Arith) int {
	if w.Encoding == FP8BlockEnc {
		return 128
	}
	return 1
}

func (compressedTensors) AppendTile(w Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	if len(out) != len(compressedTensors{}.Outputs(w)) {
		return nil, fmt.Errorf("layout: %s: %d output buffers", w.Tensor.Name, len(out))
	}
	switch w.Encoding {
	case Int4PackedEnc:
		out[0] = numeric.AppendInt4Words(out[0], m.Codes, m.Cols)
		if row0 == 0 {
			n, k := w.Dims()
			out[2] = binary.LittleEndian.AppendUint64(out[2], uint64(n))
			out[2] = binary.LittleEndian.AppendUint64(out[2], uint64(k))
		}
	case Int4GroupEnc:
		out[0] = numeric.UnpackNibbles(out[0], m.Codes, m.Cols)
	default:
		out[0] = appendCodes(out[0], m.Codes)
	}
	out[1] = numeric.AppendBF16(out[1], m.Scales)
	return out, nil
}

// hfFP8 is the block FP8 layout of transformers and DeepSeek
// (docs/facts/layouts.md 2.2): P.weight F8_E4M3 [O,I] and P.weight_scale_inv F32
// [⌈O/128⌉,⌈I/128⌉], which despite its name multiplies.
type hfFP8 struct{}

func (hfFP8) Format() Format    { return HFFP8 }
func (hfFP8) IndexName() string { return "model.safetensors.index.json" }

func (hfFP8) Outputs(w Weight) []safetensors.Spec {
	if !w.Encoding.Quantized() {
		return floatOutput(w)
	}
	n, k := w.Dims()
	sr, sc := w.Scales()
	p := w.Tensor.Module
	return []safetensors.Spec{spec(p, "weight", safetensors.F8E4M3, int64(n), int64(k)), spec(p, "weight_scale_inv", safetensors.F32, int64(sr), int64(sc))}
}

func (hfFP8) Numeric(w Weight, a Arith) numeric.Spec {
	return numericBase(w, numeric.DeepSeekBlock, a)
}

func (hfFP8) RowAlign(Weight, Arith) int { return 128 }

func (hfFP8) AppendTile(_ Weight, _ int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	out[0] = appendCodes(out[0], m.Codes)
	out[1] = numeric.AppendF32(out[1], m.Scales)
	return out, nil
}
