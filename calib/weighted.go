package calib

import (
	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/numeric"
)

// weighted are codes with scales weighted by the mean square of the inputs.
type weighted struct {
	id      string
	weights map[string][]float32 // by tensor
}

// Weighted returns codes for a plan whose scales are searched with the
// statistics' mean squares for weights: one pass over the weights, no forward
// pass.
func Weighted(plan *quant.Plan, st *Statistics) (quant.Codes, error) {
	set := plan.Folds
	if set == nil {
		set = fold.NewSet()
	}
	scalings, err := set.Scalings(plan.Config)
	if err != nil {
		return nil, err
	}
	x := &weighted{hashText("glmconv search 1\n" + st.ID()), map[string][]float32{}}
	for i := range plan.Items {
		it := &plan.Items[i]
		if !plan.Learnable(it) || it.Weight.Tensor.Role == glm.AttnKVB {
			continue
		}
		m := st.Shown(plan.Config, it.Weight.Tensor)
		_, cols := it.Weight.Dims()
		if m == nil || m.Count == 0 || len(m.sum2) != cols {
			continue
		}
		h := make([]float32, cols)
		for c, v := range m.MeanSquare() {
			h[c] = float32(v)
			if s := scalings[it.Name()]; s != nil && s.Cols != nil {
				h[c] = scale2(h[c], -2*int(s.Cols[c]))
			}
		}
		x.weights[it.Name()] = h
	}
	return x, nil
}

// Method implements quant.Codes.
func (x *weighted) Method() string { return "search" }

// ID implements quant.Codes.
func (x *weighted) ID() string { return x.id }

// Rows implements quant.Codes.
func (x *weighted) Rows(name string, spec numeric.Spec, w []float32, _, rows int) (*numeric.Matrix, error) {
	h := x.weights[name]
	if h == nil {
		return nil, nil
	}
	return learn.Weighted(spec, w, rows, len(h), h)
}
