package spec

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/glmconv/glmconv/runtime"
)

// sampler chooses tokens. It takes one random number for each token, in the
// order of the text, whatever was drafted.
type sampler struct {
	temperature float64
	topK        int
	topP        float64
	rng         *rand.Rand

	p     []float64
	order []int
}

func newSampler(o Options) *sampler {
	return &sampler{temperature: o.Temperature, topK: o.TopK, topP: o.TopP, rng: rand.New(rand.NewPCG(o.Seed, 0x676c6d636f6e76))}
}

// next chooses the token after a row of logits.
func (s *sampler) next(z []float32) int {
	if s.temperature == 0 {
		return runtime.Top(z, len(z))[0]
	}
	p := s.distribution(z)
	u := s.rng.Float64()
	last, sum := 0, 0.0
	for i, v := range p {
		if v == 0 {
			continue
		}
		if last, sum = i, sum+v; u < sum {
			break
		}
	}
	return last // rounding may leave the sum a little below u
}

// distribution returns the probabilities that tokens are drawn with: softmax
// of the logits by temperature in float64, cut to top-k, then to top-p.
func (s *sampler) distribution(z []float32) []float64 {
	if len(s.p) != len(z) {
		s.p, s.order = make([]float64, len(z)), make([]int, len(z))
	}
	top := float64(slices.Max(z))
	for i, v := range z {
		s.p[i] = math.Exp((float64(v) - top) / s.temperature)
	}
	keep := len(z)
	if s.topK > 0 {
		keep = min(keep, s.topK)
	}
	limit := s.topP > 0 && s.topP < 1
	if keep == len(z) && !limit {
		return normalize(s.p)
	}
	for i := range s.order {
		s.order[i] = i
	}
	slices.SortFunc(s.order, func(a, b int) int {
		return cmp.Or(cmp.Compare(s.p[b], s.p[a]), cmp.Compare(a, b))
	})
	for _, i := range s.order[keep:] {
		s.p[i] = 0
	}
	if limit {
		normalize(s.p)
		sum := 0.0
		for n, i := range s.order[:keep] {
			if n > 0 && sum >= s.topP {
				s.p[i] = 0
				continue
			}
			sum += s.p[i]
		}
	}
	return normalize(s.p)
}

func normalize(p []float64) []float64 {
	sum := 0.0
	for _, v := range p {
		sum += v
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}
