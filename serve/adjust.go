package serve

import (
	"math"
	"slices"
	"strconv"
)

// adjust changes logits before a token is chosen, as vLLM's logits processors do:
// penalties of tokens that stand in the text, biases, the least length, min-p.
// Log-probabilities in answers are those before it.
type adjust struct {
	presence, frequency float64
	repetition          float64 // 1: none
	bias                map[int]float64
	least               int // tokens before a stop token
	minP                float64
	temperature         float64
}

// adjust is that of a request; nil where nothing is changed.
func (s *Server) adjust(q *sampling, temperature float64) (*adjust, error) {
	a := &adjust{presence: q.Presence, frequency: q.Frequency, repetition: 1, least: q.MinTokens, temperature: temperature}
	if q.MinP != nil {
		a.minP = *q.MinP
	}
	if q.Repetition != nil {
		a.repetition = *q.Repetition
	}
	for _, v := range []struct {
		name      string
		v, lo, hi float64
	}{{"presence_penalty", a.presence, -2, 2}, {"frequency_penalty", a.frequency, -2, 2}, {"min_p", a.minP, 0, 1}, {"repetition_penalty", a.repetition, 0.01, 100},
		{"min_tokens", float64(a.least), 0, math.MaxInt32}} {
		if !(v.v >= v.lo && v.v <= v.hi) {
			return nil, bad(v.name, "%s must be from %g to %g", v.name, v.lo, v.hi)
		}
	}
	if len(q.Bias) > 1<<12 {
		return nil, bad("logit_bias", "at most %d biases", 1<<12)
	}
	for key, v := range q.Bias {
		id, err := strconv.Atoi(key)
		if err != nil || id < 0 || id >= s.model.Config().VocabSize || !(v >= -100 && v <= 100) {
			return nil, bad("logit_bias", "logit_bias: %.20q: token ids of the vocabulary, biases from -100 to 100", key)
		}
		if a.bias == nil {
			a.bias = map[int]float64{}
		}
		a.bias[id] = v
	}
	if a.presence == 0 && a.frequency == 0 && a.repetition == 1 && a.bias == nil && a.least == 0 && a.minP == 0 {
		return nil, nil
	}
	return a, nil
}

// apply returns a changed copy of a row.
func (a *adjust) apply(z []float32, j *job) []float32 {
	z = slices.Clone(z)
	if a.repetition != 1 {
		seen := map[int]bool{}
		for _, list := range [][]int{j.prompt, j.text} {
			for _, id := range list {
				if seen[id] {
					continue
				}
				seen[id] = true
				if z[id] > 0 {
					z[id] /= float32(a.repetition)
				} else {
					z[id] *= float32(a.repetition)
				}
			}
		}
	}
	if a.presence != 0 || a.frequency != 0 {
		count := map[int]int{}
		for _, id := range j.text {
			count[id]++
		}
		for id, n := range count {
			z[id] -= float32(a.frequency*float64(n) + a.presence)
		}
	}
	for id, v := range a.bias {
		z[id] += float32(v)
	}
	none := float32(math.Inf(-1))
	if j.made < a.least {
		for _, id := range j.stop {
			if id >= 0 && id < len(z) {
				z[id] = none
			}
		}
	}
	if a.minP > 0 && a.temperature > 0 {
		limit := slices.Max(z) + float32(a.temperature*math.Log(a.minP))
		for i, v := range z {
			if v < limit {
				z[i] = none
			}
		}
	}
	return z
}
