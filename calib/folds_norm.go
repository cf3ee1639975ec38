package calib

import (
	"context"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
)

// norm returns the exponents of a norm's gains where the projections that read it
// come nearer to their float outputs under them, and none otherwise: gains may
// spread outliers over the channels, or damp them. Statistics without samples
// of its outputs (of another tool) tell nothing, and gains are taken.
func (f *folder) norm(ctx context.Context, site *fold.Site) (fold.Exponents, error) {
	gamma, err := gammaOf(f.src, f.items[site.Name])
	if err != nil {
		return nil, err
	}
	none := make(fold.Exponents, site.Channels)
	var before, after float64
	judged := false
	for i := range site.Consumers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := &site.Consumers[i]
		it := f.items[c.Tensor.Name]
		if it == nil || it.Action != quant.Quantize || !f.plan.Learnable(it) {
			continue
		}
		x, err := f.outputs(site, c.Tensor)
		if err != nil || len(x) == 0 {
			return gamma, err
		}
		w, err := readWeight(f.src, it)
		if err != nil {
			return nil, err
		}
		t := newTrial(f.plan, it, w, x, f.workers)
		before += t.error(none, c.Channel)
		after += t.error(gamma, c.Channel)
		judged = true
	}
	if judged && before <= after {
		return none, nil
	}
	return gamma, nil
}

// outputs returns the sample [inputs, columns] of a norm's outputs that a
// projection behind it is judged by: of a routed expert as many as it has of a
// token's choices, others for each.
func (f *folder) outputs(site *fold.Site, t *glm.Tensor) ([]float32, error) {
	at := t
	if t.Role.IsExpert() {
		for i := range site.Consumers {
			if c := site.Consumers[i].Tensor; c.Role == glm.Router {
				at = c
			}
		}
	}
	m, err := f.st.Shown(f.plan.Config, at)
	if err != nil || m == nil {
		return nil, err
	}
	if !t.Role.IsExpert() {
		return m.Sample, nil
	}
	cfg, cols := f.plan.Config, int(t.Shape[1])
	rows := len(m.Sample) / cols
	n := (rows*cfg.ExpertsPerToken + cfg.Experts - 1) / cfg.Experts
	x := make([]float32, 0, n*cols)
	for i := range n {
		row := (t.Expert*n + i) % rows
		x = append(x, m.Sample[row*cols:(row+1)*cols]...)
	}
	return x, nil
}
