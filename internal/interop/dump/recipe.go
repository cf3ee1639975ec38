package main

import (
	"fmt"
	"slices"
	"strings"

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
		o.Ranges = ranges(cfg)
	}
	return quant.NewPlan(c, r.Scheme, layout.Ascend, o)
}

// ranges of inputs are made up.
func ranges(cfg *glm.Config) map[string]quant.Range {
	out := map[string]quant.Range{}
	for _, t := range cfg.Table() {
		if t.Param == "weight" && t.Role.IsLinear() && !t.Role.IsExpert() {
			out[t.Module] = quant.Range{Lo: -1, Hi: 1}
		}
	}
	return out
}

// addOptions sets what names with commas between them ask for: static inputs of
// attention, caches in int8 ("c8"). Ranges are made up.
func addOptions(o *quant.Options, dir, names string) error {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(names, ",") {
		if rest, ok := strings.CutPrefix(name, "rest-"); ok {
			o.Rest = layout.RestMode(rest)
			continue
		}
		switch name {
		case "channel":
			o.GroupSize = layout.PerChannel
		case "static":
			o.Ranges = ranges(cfg)
		case "c8":
			o.KV, o.CacheRanges = quant.KVC8, map[string][]quant.Range{}
			for _, t := range cfg.Table() {
				if t.Param == "weight" && (t.Role == glm.AttnK || t.Role == glm.AttnV) {
					o.CacheRanges[t.Module] = slices.Repeat([]quant.Range{{Lo: -1, Hi: 1}}, int(t.Shape[0]))
				}
			}
		case "":
		default:
			return fmt.Errorf("unknown option %q", name)
		}
	}
	return nil
}
