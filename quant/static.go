package quant

import (
	"strings"

	"github.com/glmconv/glmconv/quant/layout"
)

// Range is from the least to the largest value of an input.
type Range struct{ Lo, Hi float32 }

// shared are the modules that engines fuse and that read one input: their
// scales and zero points must be equal (docs/facts/ascend.md 2.4).
var shared = [][]string{{".q_a_proj", ".kv_a_proj_with_mqa"}, {".q_proj", ".k_proj", ".v_proj"}}

// checkStatic refuses ranges that no input of the plan is quantized by.
func (p *Plan) checkStatic() error {
	if len(p.Options.Ranges) == 0 {
		return nil
	}
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == Quantize && it.Weight.Act == layout.AscendStatic {
			return nil
		}
	}
	return &layout.ImpossibleError{What: "static " + string(p.Scheme) + " of " + string(p.Config.Family) + " as " + string(p.Format),
		Rule: "engines read a static input in Ascend checkpoints, of attention in models that are not float16", Nearest: "w8a8 or w4a8 as ascend; dynamic inputs elsewhere"}
}

// static returns how inputs are quantized whose range is known, nil if none is.
func (p *Plan) static() func(module string) (layout.StaticInput, bool) {
	ranges := p.Options.Ranges
	if len(ranges) == 0 {
		return nil
	}
	return func(module string) (layout.StaticInput, bool) {
		r, ok := ranges[module]
		for _, set := range shared {
			for _, end := range set {
				stem, is := strings.CutSuffix(module, end)
				if !is {
					continue
				}
				for _, of := range set {
					other, both := ranges[stem+of]
					ok = ok && both
					r = Range{min(r.Lo, other.Lo), max(r.Hi, other.Hi)}
				}
			}
		}
		if !ok {
			return layout.StaticInput{}, false
		}
		in, err := layout.NewStaticInput(r.Lo, r.Hi)
		return in, err == nil
	}
}
