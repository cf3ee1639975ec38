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
	order := make([]int, len(z))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(z[b], z[a]), cmp.Compare(a, b)) })
	for i, t := range order[:min(top, len(order))] {
		p.top = append(p.top, alternative{t, float64(z[t]) - norm, i + 1})
	}
	return p
}

// gather keeps the log-probabilities of the prompt's tokens behind n rows.
func (j *job) gather(z []float32, n, vocab int) {
	if j.promptProbs == nil {
		j.promptProbs = []*position{nil} // nothing is said of the first
	}
	for i := range n {
		if at := j.read + i + 1; at < len(j.prompt) {
			p := judge(z[i*vocab:][:vocab], j.prompt[at], j.asked)
			j.promptProbs = append(j.promptProbs, &p)
		}
	}
}
