package calib

import (
	"slices"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// unsettled reports whether the scale of a weight's inputs is one for all of them,
// and not known to the plan.
func unsettled(w *layout.Weight) bool {
	return w.Act == layout.AscendStatic && w.Input.Scale == 0 || w.Act == format.NVFP4Local && !(w.InputMax > 0)
}

// span is the range of inputs, 0 included.
type span struct{ lo, hi float32 }

func (s *span) add(x []float32) {
	if len(x) > 0 {
		s.lo, s.hi = min(s.lo, slices.Min(x)), max(s.hi, slices.Max(x))
	}
}

// settle is a weight with the scale of inputs of the range.
func (s *span) settle(w *layout.Weight) *layout.Weight {
	known := *w
	known.InputMax = max(s.hi, -s.lo)
	if w.Act == layout.AscendStatic {
		if in, err := layout.NewStaticInput(s.lo, s.hi); err == nil { // else not finite: shown where it is quantised
			known.Input = in
		}
	}
	return &known
}

// settled is a weight with the scale of its inputs: where the plan does not know
// it, that of these inputs.
func settled(w *layout.Weight, in *pairs) (*layout.Weight, error) {
	if !unsettled(w) {
		return w, nil
	}
	var s span
	err := in.each(func(served, _ []float32) error {
		s.add(served)
		return nil
	})
	return s.settle(w), err
}

// rounded are activations [rows, cols] as an engine quantises them for a weight.
func rounded(x []float32, cols int, weight *layout.Weight, w *kernel.Workers) []float32 {
	rows, act := len(x)/cols, weight.Act
	switch {
	case !act.Quantized() || rows == 0:
		return x
	case act == layout.AscendStatic:
		return roundedStatic(x, cols, weight.Input, w)
	case act == format.NVFP4Local:
		return kernel.RoundNVFP4(x, rows, cols, localInput(weight, x), w)
	case act == format.MXFP4Group:
		return kernel.RoundMX(x, rows, cols, numeric.E2M1, w)
	case act == format.MXFP8Group:
		return kernel.RoundMX(x, rows, cols, numeric.E4M3, w)
	case act.Type == format.Int:
		q, out := kernel.QuantizeInt8(x, rows, cols, kernel.EngineDivisor, w), make([]float32, len(x))
		for i, v := range q.Q {
			out[i] = float32(v) * q.Scale[i/cols]
		}
		return out
	case act.Bits == 8:
		q, out := kernel.QuantizeE4M3(x, rows, cols, act.Group, w), make([]float32, len(x))
		groups := (cols + q.Group - 1) / q.Group
		for i, v := range q.V {
			out[i] = v * q.Scale[i/cols*groups+i%cols/q.Group]
		}
		return out
	}
	return x
}

// localInput is the scale of the local scales of a weight's inputs (NVFP4); where
// the plan does not know it yet, that of inputs x.
func localInput(weight *layout.Weight, x []float32) float32 {
	if weight.InputMax > 0 {
		return numeric.TimesNVFP4(weight.InputMax)
	}
	return numeric.TimesNVFP4(numeric.AbsMax(x))
}

// roundedStatic are activations under one scale and zero point; a zero scale
// stands for those of the activations' own range.
func roundedStatic(x []float32, cols int, in layout.StaticInput, w *kernel.Workers) []float32 {
	if in.Scale == 0 {
		var err error
		if in, err = layout.NewStaticInput(slices.Min(x), slices.Max(x)); err != nil {
			return x // not finite: shown where it is quantised
		}
	}
	z := float32(in.Offset)
	q := kernel.QuantizeStatic(x, len(x)/cols, cols, numeric.RoundBF16(1/in.Scale), z, w)
	out := make([]float32, len(x))
	for i, v := range q.Q {
		out[i] = (float32(v) - z) * in.Scale
	}
	return out
}
