package main

import (
	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// mixed gives the units of a plan formats of their own, as a budget does: of
// those that the engine loads beside the scheme each has its turn, another in
// every layer.
func mixed(p *quant.Plan, src *safetensors.Checkpoint, name string) (*quant.Plan, error) {
	r, err := engine.Find(name)
	if err != nil {
		return nil, err
	}
	m, err := calib.NewMix(p, src, engine.Query{Releases: []engine.Release{r}})
	if err != nil {
		return nil, err
	}
	lifted := map[string]layout.Lift{}
	for i, u := range m.Units {
		if to := u.Rungs[(u.Layer+i)%len(u.Rungs)].Lift; to != "" {
			lifted[u.Name] = to
		}
	}
	return m.With(lifted)
}
