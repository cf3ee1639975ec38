package calib

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
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
