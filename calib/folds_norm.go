package calib

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
)

// norm returns the exponents under which the projections that read a norm come
// nearest to their float outputs, summed over all of them: none, its gains (which
// may spread outliers over the channels, or damp them), or a share of the largest
// outputs. Statistics without samples of its outputs (of another tool) tell
// nothing, and gains are taken.
func (f *folder) norm(ctx context.Context, site *fold.Site) (fold.Exponents, error) {
	gamma, err := gammaOf(f.src, f.items[site.Name])
	if err != nil {
		return nil, err
	}
	var tried []fold.Exponents
	var sums []float64
	for i := range site.Consumers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := &site.Consumers[i]
		it := f.items[c.Tensor.Name]
		if it == nil || it.Action != quant.Quantize || !f.plan.Learnable(it) {
			continue
		}
		m, err := f.outputs(site, c.Tensor)
		if err != nil || m == nil || len(m.keys) == 0 {
			return gamma, err
		}
		if tried == nil {
			tried = normCandidates(gamma, m.AbsMax)
			sums = make([]float64, len(tried))
		}
		own, err := f.trial(ctx, it, f.rowsFor(c.Tensor, m)).errors(tried, c.Channel)
		if err != nil {
			return nil, err
		}
		for k, v := range own {
			sums[k] += v
		}
	}
	best := gamma
	for k, least := 0, math.Inf(1); k < len(sums); k++ {
		if sums[k] < least {
			best, least = tried[k], sums[k]
		}
	}
	return best, nil
}

// normCandidates are the different exponents that are tried for a norm, no fold
// first. top [channels] are its largest outputs.
func normCandidates(gamma fold.Exponents, top []float32) []fold.Exponents {
	stat, ones := make([]float64, len(top)), make([]float64, len(top))
	for i, v := range top {
		stat[i], ones[i] = max(float64(v), 1e-5), 1
	}
	out := []fold.Exponents{make(fold.Exponents, len(top)), gamma}
	for _, a := range []float64{0.25, 0.5, 0.75, 1} {
		out = append(out, exponentsOf(stat, a, ones, 0))
	}
	return different(out)
}

// outputs returns the moments of a norm's outputs that a projection behind it is
// judged by: those of the router for experts, which see some of its tokens.
func (f *folder) outputs(site *fold.Site, t *glm.Tensor) (*Moments, error) {
	if t.Role.IsExpert() {
		for i := range site.Consumers {
			if c := site.Consumers[i].Tensor; c.Role == glm.Router {
				t = c
			}
		}
	}
	return f.st.Shown(f.plan.Config, t)
}

// rowsFor returns the inputs [inputs, columns] that a projection is tried on: all of
// the sample, and of a routed expert as many as it has of a token's choices, others
// for each.
func (f *folder) rowsFor(t *glm.Tensor, m *Moments) []float32 {
	if !t.Role.IsExpert() {
		return m.Sample()
	}
	cfg, cols, rows := f.plan.Config, int(t.Shape[1]), len(m.keys)
	n := (rows*cfg.ExpertsPerToken + cfg.Experts - 1) / cfg.Experts
	x := make([]float32, 0, n*cols)
	for i := range n {
		x = append(x, m.rows[(t.Expert*n+i)%rows]...)
	}
	return x
}
