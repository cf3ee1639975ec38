package calib

import (
	"slices"
	"sync"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/numeric"
)

// weighted are codes with scales weighted by the mean square of the inputs.
type weighted struct {
	id       string
	cfg      *glm.Config
	st       *Statistics
	scalings map[string]*fold.Scaling
	items    map[string]*quant.Item // that have codes

	mu     sync.Mutex
	recent []columns // that were asked for last
}

// columns are the weights of a tensor's columns; h is nil where none are known.
type columns struct {
	name string
	h    []float32
}

// recently is of how many tensors weights of columns are kept: rows of a tensor are
// asked for one after the other, of a few tensors at a time.
const recently = 16

// Weighted returns codes for a plan whose scales are searched with the
// statistics' mean squares for weights: one pass over the weights, no forward
// pass. The statistics must stay open while the codes are used.
func Weighted(plan *quant.Plan, st *Statistics) (quant.Codes, error) {
	set := plan.Folds
	if set == nil {
		set = fold.NewSet()
	}
	scalings, err := set.Scalings(plan.Config)
	if err != nil {
		return nil, err
	}
	x := &weighted{id: hashText("glmconv search 1\n" + st.ID()), cfg: plan.Config, st: st, scalings: scalings, items: map[string]*quant.Item{}}
	for i := range plan.Items {
		it := &plan.Items[i]
		if plan.Learnable(it) && it.Weight.Tensor.Role != glm.AttnKVB {
			x.items[it.Name()] = it
		}
	}
	return x, nil
}

// columns returns the weights of a tensor's columns.
func (x *weighted) columns(name string) ([]float32, error) {
	it := x.items[name]
	if it == nil {
		return nil, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.IndexFunc(x.recent, func(c columns) bool { return c.name == name }); i >= 0 {
		return x.recent[i].h, nil
	}
	m, err := x.st.shown(x.cfg, it.Weight.Tensor, false)
	if err != nil {
		return nil, err
	}
	var h []float32
	if _, cols := it.Weight.Dims(); m != nil && m.Count > 0 && len(m.sum2) == cols {
		h = make([]float32, cols)
		for c, v := range m.MeanSquare() {
			h[c] = float32(v)
			if s := x.scalings[name]; s != nil && s.Cols != nil {
				h[c] = scale2(h[c], -2*int(s.Cols[c]))
			}
		}
	}
	if len(x.recent) == recently {
		x.recent = slices.Delete(x.recent, 0, 1)
	}
	x.recent = append(x.recent, columns{name, h})
	return h, nil
}

// Method implements quant.Codes.
func (x *weighted) Method() string { return "search" }

// ID implements quant.Codes.
func (x *weighted) ID() string { return x.id }

// Rows implements quant.Codes.
func (x *weighted) Rows(name string, spec numeric.Spec, w []float32, _, rows int) (*numeric.Matrix, error) {
	h, err := x.columns(name)
	if h == nil || err != nil {
		return nil, err
	}
	return learn.Weighted(spec, w, rows, len(h), h)
}
