package calib

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/numeric"
)

// Ranges returns the ranges of the inputs of a plan's linears, by module, as the
// plan's folds leave them: what static W8A8 needs (quant.Options.Ranges). The
// error matches ErrStatistics: statistics of older versions have none.
func Ranges(plan *quant.Plan, st *Statistics) (map[string]quant.Range, error) {
	out := map[string]quant.Range{}
	err := eachInput(plan, st, func(it *quant.Item, m *Moments, by func(v float32, c int) float32) error {
		t := it.Weight.Tensor
		if t.Role.IsExpert() {
			return nil
		}
		if _, cols := it.Weight.Dims(); len(m.Lo) != cols || len(m.Hi) != cols {
			return fmt.Errorf("%w: they have no ranges of the inputs of %s, as those of older versions: calibrate again", ErrStatistics, t.Module)
		}
		var r quant.Range
		for c := range m.Lo {
			r.Lo, r.Hi = min(r.Lo, by(m.Lo[c], c)), max(r.Hi, by(m.Hi[c], c))
		}
		out[t.Module] = r
		return nil
	})
	return out, err
}

// Largest returns the largest magnitude of the inputs of a plan's linears, as the
// plan's folds leave them: what schemes with a global scale of the input need
// (quant.Options.Inputs). Maxima are rounded to BF16. Inputs that the statistics
// know no maximum of are left out.
func Largest(plan *quant.Plan, st *Statistics) (*quant.Inputs, error) {
	in := &quant.Inputs{Source: fmt.Sprintf("calibration statistics, %d tokens", st.Tokens()), AbsMax: map[string]float32{}}
	if plan.Folds != nil {
		in.Folded = plan.Folds.Hash()
	}
	err := eachInput(plan, st, func(it *quant.Item, m *Moments, by func(v float32, c int) float32) error {
		top := float32(0)
		for c, v := range m.AbsMax {
			top = max(top, by(v, c))
		}
		if top > 0 {
			in.AbsMax[it.Weight.Tensor.Module] = numeric.RoundBF16(top)
		}
		return nil
	})
	return in, err
}

// eachInput calls fn for every weight of a plan that is quantized and whose input
// was seen; by is an input's value as the plan's folds leave it.
func eachInput(plan *quant.Plan, st *Statistics, fn func(it *quant.Item, m *Moments, by func(v float32, c int) float32) error) error {
	set := plan.Folds
	if set == nil {
		set = fold.NewSet()
	}
	scalings, err := set.Scalings(plan.Config)
	if err != nil {
		return err
	}
	for i := range plan.Items {
		it := &plan.Items[i]
		if it.Action != quant.Quantize {
			continue
		}
		m, err := st.shown(plan.Config, it.Weight.Tensor, false)
		if err != nil {
			return err
		}
		if m == nil || m.Count == 0 {
			continue
		}
		by := func(v float32, _ int) float32 { return v }
		if s := scalings[it.Name()]; s != nil && s.Cols != nil {
			by = func(v float32, c int) float32 { return scale2(v, -int(s.Cols[c])) }
		}
		if err := fn(it, m, by); err != nil {
			return err
		}
	}
	return nil
}

// CacheRanges returns the ranges of keys and values by module (k_proj, v_proj) and
// channel, as folds leave them (nil: none): quant.Options.CacheRanges.
func CacheRanges(cfg *glm.Config, set *fold.Set, st *Statistics) (map[string][]quant.Range, error) {
	if set == nil {
		set = fold.NewSet()
	}
	scalings, err := set.Scalings(cfg)
	if err != nil {
		return nil, err
	}
	out := map[string][]quant.Range{}
	for module, l := range st.Caches {
		list := make([]quant.Range, len(l.Lo))
		s := scalings[module+".weight"]
		for c := range list {
			list[c] = quant.Range{Lo: l.Lo[c], Hi: l.Hi[c]}
			if s != nil && s.Rows != nil && c < len(s.Rows) {
				list[c] = quant.Range{Lo: scale2(l.Lo[c], int(s.Rows[c])), Hi: scale2(l.Hi[c], int(s.Rows[c]))}
			}
		}
		out[module] = list
	}
	return out, nil
}
