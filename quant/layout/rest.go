package layout

import (
	"fmt"
	"slices"
)

// RestMode says what becomes of linears that are no routed experts.
type RestMode string

// The modes. RestFloat is what publishers do beside FP4 and MX, and the default
// there; w4a8 as compressed-tensors has RestSame.
const (
	RestFloat RestMode = "bf16" // the source's precision
	RestFP8   RestMode = "fp8"  // FP8 per channel, tokens FP8
	RestInt8  RestMode = "int8" // int8 per channel, tokens int8
	RestSame  RestMode = "same" // as the routed experts
)

// Rests lists what may become of other linears in a scheme and format, the
// default first; nil where the scheme says it itself.
func Rests(s Scheme, f Format) []RestMode {
	switch {
	case s.Micro():
		return []RestMode{RestFloat, RestFP8, RestSame}
	case s == W4A8 && f == Ascend:
		return []RestMode{RestInt8}
	case s == W4A8:
		return []RestMode{RestSame, RestInt8, RestFloat}
	}
	return nil
}

// Why linears beside the experts stay.
const (
	keptRest  = "beside the routed experts, which publishers quantise alone"
	keptAsked = "beside the routed experts, kept on request (rest bf16)"
)

// checkRest refuses what the scheme has no use for.
func (o *Options) checkRest() error {
	if o.Rest == "" {
		return nil
	}
	if !slices.Contains([]RestMode{RestFloat, RestFP8, RestInt8, RestSame}, o.Rest) {
		return &ImpossibleError{What: fmt.Sprintf("rest %q", o.Rest),
			Rule: "attention, dense and shared experts stay bf16, become fp8 or int8, or the same as the experts", Nearest: "the default of the scheme"}
	}
	list := Rests(o.Scheme, o.Format)
	switch {
	case slices.Contains(list, o.Rest):
		return nil
	case len(list) == 0:
		return &ImpossibleError{What: fmt.Sprintf("rest %s with %s", o.Rest, o.Scheme), Rule: "the scheme says itself what becomes of every linear",
			Nearest: "w4a8, nvfp4, nvfp4a16, mxfp4, mxfp4a16, mxfp8 and mxfp8a16 leave it open"}
	}
	e := &ImpossibleError{What: fmt.Sprintf("rest %s with %s as %s", o.Rest, o.Scheme, o.Format), Rule: "beside its routed experts other linears are " + join(list),
		Nearest: "rest " + string(list[0]) + ", the default"}
	if o.Scheme == W4A8 && o.Format == Ascend && o.Rest != RestFP8 {
		e.Nearest += fmt.Sprintf("; or rest %s as %s", o.Rest, CompressedTensors)
	}
	return e
}
