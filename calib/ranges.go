package calib

import (
	"fmt"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
)

// Ranges returns the ranges of the inputs of a plan's linears, by module, as the
// plan's folds leave them: what static W8A8 needs (quant.Options.Ranges). The
// error matches ErrStatistics: statistics of older versions have none.
func Ranges(plan *quant.Plan, st *Statistics) (map[string]quant.Range, error) {
	set := plan.Folds
	if set == nil {
		set = fold.NewSet()
	}
	scalings, err := set.Scalings(plan.Config)
	if err != nil {
		return nil, err
	}
	out := map[string]quant.Range{}
	for i := range plan.Items {
		it := &plan.Items[i]
		t := &it.Weight.Tensor
		if it.Action != quant.Quantize || t.Role.IsExpert() {
			continue
		}
		m := st.Shown(plan.Config, t)
		if m == nil || m.Count == 0 {
			continue
		}
		if _, cols := it.Weight.Dims(); len(m.Lo) != cols || len(m.Hi) != cols {
			return nil, fmt.Errorf("%w: they have no ranges of the inputs of %s, as those of older versions: calibrate again", ErrStatistics, t.Module)
		}
		var r quant.Range
		s := scalings[it.Name()]
		for c := range m.Lo {
			lo, hi := m.Lo[c], m.Hi[c]
			if s != nil && s.Cols != nil {
				lo, hi = scale2(lo, -int(s.Cols[c])), scale2(hi, -int(s.Cols[c]))
			}
			r.Lo, r.Hi = min(r.Lo, lo), max(r.Hi, hi)
		}
		out[t.Module] = r
	}
	return out, nil
}
