package layout

import (
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Writing NVFP4 and MX weights of compressed-tensors (docs/facts/formats.md 3).

// microOutputs lists the tensors of a weight with scales of a byte.
func microOutputs(w *Weight) []safetensors.Spec {
	rows, cols := w.Dims()
	sr, sc := w.Quant.ScaleShape(rows, cols)
	n, k, p := int64(rows), int64(cols), w.Tensor.Module
	codes := spec(p, "weight", safetensors.F8E4M3, n, k)
	if w.Quant.Bits == 4 {
		codes = spec(p, "weight_packed", safetensors.U8, n, k/2)
	}
	if w.Quant.Strategy != format.TensorGroup {
		return []safetensors.Spec{codes, spec(p, "weight_scale", safetensors.U8, int64(sr), int64(sc))}
	}
	out := []safetensors.Spec{codes, spec(p, "weight_scale", safetensors.F8E4M3, int64(sr), int64(sc)), spec(p, "weight_global_scale", safetensors.F32, 1)}
	if w.Act.When == format.Local {
		out = append(out, spec(p, "input_global_scale", safetensors.F32, 1))
	}
	return out
}

// appendMicro appends a tile of such a weight.
func appendMicro(w *Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	out[0] = appendCodes(out[0], m.Codes)
	out[1] = append(out[1], m.ScaleCodes...)
	if row0 > 0 || len(out) == 2 {
		return out, nil
	}
	out[2] = numeric.AppendF32(out[2], []float32{m.Global})
	if len(out) > 3 { // a divisor as well
		out[3] = numeric.AppendF32(out[3], []float32{numeric.GlobalNVFP4(w.InputMax, numeric.Best, true)})
	}
	return out, nil
}
