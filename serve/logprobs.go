package serve

import (
	"cmp"
	"math"
	"slices"
)

// position is what the model said of one token: its log-probability, its rank
// from 1, and the most likely tokens.
type position struct {
	token int
	value float64
	rank  int
	top   []alternative
	// wanted are tokens that were asked for by name.
	wanted []alternative
}

type alternative struct {
	token int
	value float64
	rank  int
}

// judge reads a row of logits: natural logarithms of the softmax, summed up in
// float64.
func judge(z []float32, token, top int) position {
	most := float64(slices.Max(z))
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(float64(v) - most)
	}
	norm := most + math.Log(sum)
	p := position{token: token, value: float64(z[token]) - norm, rank: 1}
	for _, v := range z {
		if v > z[token] {
			p.rank++
		}
	}
	if top <= 0 {
		return p
	}
	for _, t := range best(z, top) {
		p.top = append(p.top, alternative{t, float64(z[t]) - norm, len(p.top) + 1})
	}
	return p
}

// best are the places of the n largest values, the first among equals first.
func best(z []float32, n int) []int {
	n = min(n, len(z))
	order := make([]int, 0, n+1)
	if n > len(z)/8 {
		for i := range z {
			order = append(order, i)
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(z[b], z[a]) })
		return order[:n]
	}
	for i, v := range z {
		if len(order) == n && !(v > z[order[n-1]]) {
			continue
		}
		at, _ := slices.BinarySearchFunc(order, v, func(j int, v float32) int {
			if z[j] >= v {
				return -1
			}
			return 1
		})
		if order = slices.Insert(order, at, i); len(order) > n {
			order = order[:n]
		}
	}
	return order
}

// gather keeps the log-probabilities of the prompt's tokens behind n rows.
func (j *job) gather(z []float32, n, vocab int) {
	if j.promptProbs == nil {
		j.promptProbs = []*position{nil} // nothing is said of the first
	}
	for i := range n {
		if at := j.read + i + 1; at < len(j.prompt) {
			row := z[i*vocab:][:vocab]
			p := judge(row, j.prompt[at], j.asked)
			for _, id := range j.wanted {
				p.wanted = append(p.wanted, alternative{token: id, value: p.value + float64(row[id]) - float64(row[p.token])})
			}
			j.promptProbs = append(j.promptProbs, &p)
		}
	}
}
