package convert

import (
	"cmp"
	"math"
	"slices"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
)

// tensorStats is the quantisation error of one weight.
type tensorStats struct {
	Name   string        `json:"name"`
	Scheme string        `json:"scheme"`
	Stats  numeric.Stats `json:"stats"`
}

func relative(s numeric.Stats) float64 {
	if s.SumSq == 0 {
		return 0
	}
	return math.Sqrt(s.SumErrSq / s.SumSq)
}

// summarize condenses the statistics of all tensors, in the plan's order.
func summarize(list []tensorStats) (quant.Summary, []quant.TensorError) {
	type sums struct {
		numeric.Stats
		n int
	}
	by := map[string]*sums{}
	var order []string
	out := make([]quant.TensorError, 0, len(list))
	for _, t := range list {
		s := by[t.Scheme]
		if s == nil {
			s = &sums{}
			by[t.Scheme] = s
			order = append(order, t.Scheme)
		}
		s.Add(t.Stats)
		s.n++
		out = append(out, quant.TensorError{Name: t.Name, Scheme: t.Scheme, Relative: relative(t.Stats), Max: t.Stats.MaxErr})
	}
	slices.Sort(order)
	var sum quant.Summary
	for _, name := range order {
		s := by[name]
		plain := s.Stats
		plain.SumErrSq = s.PlainSq
		sum.Schemes = append(sum.Schemes, quant.SchemeError{Scheme: name, Weights: s.n, Relative: relative(s.Stats), Plain: relative(plain)})
	}
	worst := slices.Clone(out)
	slices.SortStableFunc(worst, func(a, b quant.TensorError) int { return cmp.Compare(b.Relative, a.Relative) })
	sum.Worst = worst[:min(len(worst), 20)]
	return sum, out
}
