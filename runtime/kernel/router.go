package kernel

import (
	"math"
	"slices"
)

// Routing is how tokens choose experts (docs/facts/families.md 4.5).
type Routing struct {
	TopK          int
	Groups        int // n_group; 0 and 1 mean no groups
	TopGroups     int // topk_group
	Normalize     bool
	Scale         float32   // routed_scaling_factor
	SelectionBias []float32 // e_score_correction_bias [E]; selects, never weighs
}

// Route chooses experts from router logits [E] of one token. It appends TopK
// expert ids by falling weight (the lower id first among equals) and their
// weights. Among equal selection scores the lower id wins.
func (r *Routing) Route(ids []int32, weights []float32, logits []float32) ([]int32, []float32) {
	n := len(logits)
	scores, choice := make([]float32, n), make([]float32, n)
	for e, l := range logits {
		scores[e] = float32(1 / (1 + math.Exp(-float64(l))))
		choice[e] = scores[e]
		if r.SelectionBias != nil {
			choice[e] += r.SelectionBias[e]
		}
	}
	if r.Groups > 1 {
		r.maskGroups(choice)
	}
	picked := topIndices(choice, r.TopK)
	var sum float32
	for _, e := range picked {
		sum += scores[e]
	}
	slices.SortStableFunc(picked, func(a, b int32) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return int(a - b)
	})
	for _, e := range picked {
		w := scores[e]
		if r.Normalize {
			w /= sum + 1e-20
		}
		ids, weights = append(ids, e), append(weights, float32(w*r.Scale))
	}
	return ids, weights
}

// maskGroups sets the scores outside of the best groups to −∞. A group's score
// is the sum of its two largest.
func (r *Routing) maskGroups(choice []float32) {
	size := len(choice) / r.Groups
	inf := float32(math.Inf(-1))
	best := make([]float32, r.Groups)
	for g := range best {
		a, b := inf, inf
		for _, c := range choice[g*size:][:size] {
			if c > a {
				a, b = c, a
			} else if c > b {
				b = c
			}
		}
		best[g] = a
		if size > 1 {
			best[g] += b
		}
	}
	keep := topIndices(best, r.TopGroups)
	for g := range best {
		if !slices.Contains(keep, int32(g)) {
			for i := range size {
				choice[g*size+i] = inf
			}
		}
	}
}

// topIndices returns the indices of the k largest values by falling value, the
// lower index first among equals. NaN counts as the smallest.
func topIndices(x []float32, k int) []int32 {
	k = min(k, len(x))
	top := make([]int32, 0, k+1)
	for i, v := range x {
		p := len(top)
		for p > 0 && (v > x[top[p-1]] || x[top[p-1]] != x[top[p-1]] && v == v) {
			p--
		}
		if p < k {
			top = slices.Insert(top, p, int32(i))
			top = top[:min(len(top), k)]
		}
	}
	return top
}
