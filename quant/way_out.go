package quant

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
)

// wayOut says with which options an engine loads w4a8 as compressed-tensors
// where no engine's newest release does as it was asked for; "" elsewhere.
func (p *Plan) wayOut() string {
	if p.Scheme != W4A8 || p.Format != layout.CompressedTensors || newestThatLoads(&p.asked) != nil {
		return ""
	}
	var flags []string
	if r := p.Options.Rest; r == "" || r == layout.RestSame {
		flags = append(flags, "--rest int8")
	}
	if p.Options.GroupSize != layout.PerChannel {
		flags = append(flags, "--group-size channel")
	}
	s := p.asked
	s.Mixed = nil
	for _, part := range []*engine.Part{&s.Experts, &s.DraftExperts, &s.Shared, &s.Dense, &s.Attention, &s.Output} {
		switch {
		case !part.Weight.Quantized():
		case part == &s.Experts || part == &s.DraftExperts:
			part.Weight = format.Int4(0)
		default:
			part.Weight = format.Int8
		}
	}
	r := newestThatLoads(&s)
	if r == nil || len(flags) == 0 {
		return ""
	}
	return fmt.Sprintf("no engine's newest release loads this; %s with %s: int4 experts with a scale for each channel, every other linear in int8 or full precision",
		r.Title(), strings.Join(flags, " "))
}

// newestThatLoads is the first engine whose newest release loads a result at
// some degree of parallelism, nil for none.
func newestThatLoads(s *engine.Subject) *engine.Release {
	for _, e := range engine.Engines {
		r := engine.Newest(e)
		if loads, _ := engine.LoadsAt(s, r); loads {
			return &r
		}
	}
	return nil
}
