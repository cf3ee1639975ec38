package quant

import (
	"strings"

	"github.com/glmconv/glmconv/quant/layout"
)

// Range is from the least to the largest value of an input.
type Range struct{ Lo, Hi float32 }

// shared are the modules that engines fuse and that read one input: their
// scales and zero points must be equal (docs/facts/ascend.md 2.4).
var shared = [2]string{".q_a_proj", ".kv_a_proj_with_mqa"}

// static returns how inputs are quantized whose range is known, nil if none is.
func (p *Plan) static() func(module string) (layout.StaticInput, bool) {
	ranges := p.Options.Ranges
	if len(ranges) == 0 {
		return nil
	}
	return func(module string) (layout.StaticInput, bool) {
		r, ok := ranges[module]
		for i, end := range shared {
			if stem, is := strings.CutSuffix(module, end); is {
				other, both := ranges[stem+shared[1-i]]
				ok = ok && both
				r = Range{min(r.Lo, other.Lo), max(r.Hi, other.Hi)}
			}
		}
		if !ok {
			return layout.StaticInput{}, false
		}
		in, err := layout.NewStaticInput(r.Lo, r.Hi)
		return in, err == nil
	}
}
