package verify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// reach is how far the stored scale of an input goes, and how far the input goes
// on the text that is read. Both are the largest of the modules whose inputs
// engines round by one scale (quant.InputSet).
type reach struct {
	Where  string  // the tensor with the scale
	Covers float32 // largest magnitude that is not cut off
	Top    float32 // largest magnitude that occurred
	Band   float32 // how far the two may be apart
	Rows   int     // inputs that were seen
}

// The bands are how far a scale that comes from a calibration may be from the
// largest input of another text (beyond it reachesFar times as far): measured with 256 and 2048 tokens of
// four texts on the reference models, those with outliers included, the largest
// input of two texts differs by 1.7 behind a norm, by 2.5 behind attention and by
// 12 where two activations are multiplied. Calibration to int8 may cut off tails.
const (
	bandNormed  = 2.5
	bandClipped = 4
	bandProduct = 32
	reachesFar  = 3 // how much further a scale may reach beyond the inputs than stay behind them
)

// bandOf returns the band of a projection's input.
func bandOf(r glm.Role, clipped bool) float32 {
	switch {
	case r == glm.DenseDown, r == glm.ExpertDown, r == glm.SharedDown:
		return bandProduct
	case r == glm.AttnO, clipped:
		return bandClipped
	}
	return bandNormed
}

// Fewer inputs, or inputs of fewer tokens, have a maximum that says little: a text
// that repeats itself stays below another's by 25 times.
const reachRows, reachTokens = 64, 64

// storedReach reads the scales of inputs that a checkpoint stores; empty where
// inputs are not quantized, or by scales of their own.
func storedReach(cfg *glm.Config, c *safetensors.Checkpoint) dict[reach] {
	out := dict[reach]{}
	if !slices.ContainsFunc(c.Tensors(), func(t safetensors.Info) bool { return strings.Contains(t.Name, ".input_") }) {
		return out
	}
	inputs := inputsOf(c.Dir())
	rows := cfg.Table()
	for i := range rows {
		row := &rows[i]
		if row.Param != "weight" || !row.Role.IsLinear() {
			continue
		}
		top, where := covered(c, row, inputs)
		set := quant.InputSet(row)
		if x := out[set]; top > x.Covers {
			out[set] = reach{Where: where, Covers: top, Band: bandOf(row.Role, isStatic(c, row.Module))}
		}
	}
	return out
}

// isStatic reports whether a module's input is rounded to int8 by a stored scale.
func isStatic(c *safetensors.Checkpoint, module string) bool {
	_, ok := c.Info(module + ".deq_scale")
	return ok
}

// covered returns the largest magnitude of a module's input that its stored scale
// does not cut off, and the scale's name; 0 where there is none or it cannot be
// read, which the passes over the model tell.
func covered(c *safetensors.Checkpoint, row *glm.Tensor, inputs func(string) format.Activation) (top float32, where string) {
	s, err := layout.Lookup(c, row.Module, layout.Hints{Cols: func(string) int { return int(row.Shape[1]) }})
	switch {
	case err != nil:
	case s.Static != nil:
		if v, err := layout.ReadStatic(c, s, 0, 1); err == nil {
			return v.Scale * float32(max(128+v.Offset, 127-v.Offset)), s.Static.Scale.Name
		}
	case s.Input.Name != "":
		scale, ok, err := s.InputScale(c)
		if a := inputs(row.Module); ok && err == nil && a.Type == format.Float && !a.ZeroPoints {
			switch {
			case a.Bits == 8 && a.When == format.Static && a.Strategy == format.Tensor:
				return scale * numeric.E4M3Max, s.Input.Name
			case a == format.NVFP4Local:
				return scale / numeric.TimesNVFP4(1), s.Input.Name
			}
		}
	}
	return 0, ""
}

// see is what a model is observed with while it runs; nil where there is nothing
// to see.
func (f *forward) see() func(w *glm.Tensor, rows int, x func() []float32) error {
	if len(f.Inputs) == 0 {
		return nil
	}
	return func(w *glm.Tensor, rows int, x func() []float32) error {
		set := quant.InputSet(w)
		if r, ok := f.Inputs[set]; ok && w.Role.IsLinear() {
			r.Rows, r.Top = r.Rows+rows, max(r.Top, numeric.AbsMax(x()))
			f.Inputs[set] = r
		}
		return nil
	}
}

// addInputs takes what another run over the same model has seen.
func (f *forward) addInputs(more dict[reach]) {
	for set, x := range more {
		if r, ok := f.Inputs[set]; ok {
			r.Rows, r.Top = r.Rows+x.Rows, max(r.Top, x.Top)
			f.Inputs[set] = r
		}
	}
}

// judgeInputs holds stored scales of inputs against the inputs. A wrong one shows
// in no weight, and by a small factor hardly in the logits.
func (r *Result) judgeInputs(f *forward) {
	if f.Distinct < reachTokens || f.Origin == randomIDs {
		return
	}
	var out []reach
	for _, set := range slices.Sorted(maps.Keys(f.Inputs)) {
		if x := f.Inputs[set]; x.Rows >= reachRows && x.Top > 0 && !(x.off() < float64(x.Band)) {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b reach) int { return cmp.Compare(b.off()/float64(b.Band), a.off()/float64(a.Band)) })
	for _, x := range out { // the others may follow from the first
		r.fail("oracle", x.Where, fmt.Sprintf("it is the scale of inputs up to %.4g, and they go up to %.4g: no calibration leads to it", x.Covers, x.Top))
	}
}

// off is the factor between the two that counts: a scale that reaches further than
// the inputs of this text costs little, and the text of the calibration may have
// held what this one does not (the opening of a conversation, another language).
func (x *reach) off() float64 {
	q := float64(x.Covers) / float64(x.Top)
	return max(q/reachesFar, 1/q)
}
