package main

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// recipePlan plans a published recipe without its rotation, which changes values
// and adds rot.weight; ranges of inputs are made up.
func recipePlan(c *safetensors.Checkpoint, name string) (*quant.Plan, error) {
	r, err := quant.LookupRecipe(name)
	if err != nil {
		return nil, err
	}
	cfg, err := glm.LoadConfig(c.Dir())
	if err != nil {
		return nil, err
	}
	var o quant.Options
	if err := r.Apply(cfg, &o); err != nil {
		return nil, err
	}
	if r.Static {
		o.Ranges = map[string]quant.Range{}
		for _, t := range cfg.Table() {
			if t.Param == "weight" && t.Role.IsLinear() && !t.Role.IsExpert() {
				o.Ranges[t.Module] = quant.Range{Lo: -1, Hi: 1}
			}
		}
	}
	return quant.NewPlan(c, r.Scheme, layout.Ascend, o)
}
