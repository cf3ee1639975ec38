package layout

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// What the schemes of small groups (NVFP4, MX) and of mixed integers have in
// common in every layout: routed experts take the scheme, and what becomes of
// attention, dense and shared experts is a choice of its own.

// RestMode says what becomes of linears that are no routed experts.
type RestMode string

// The modes. RestFloat, the default, is what publishers do.
const (
	RestFloat RestMode = "bf16" // the source's precision
	RestFP8   RestMode = "fp8"  // FP8 per channel, tokens FP8
	RestSame  RestMode = "same" // as the routed experts
)

// micro are the schemes of groups of 16 or 32 with scales of a byte.
var micro = map[Scheme]choice{
	NVFP4:    {format.NVFP4, format.NVFP4Local},
	NVFP4A16: {quant: format.NVFP4},
	MXFP4:    {format.MXFP4, format.MXFP4Group},
	MXFP4A16: {quant: format.MXFP4},
	MXFP8:    {format.MXFP8, format.MXFP8Group},
	MXFP8A16: {quant: format.MXFP8},
}

// Micro reports whether a scheme has groups of 16 or 32 with scales of a byte.
func (s Scheme) Micro() bool { return micro[s].quant.Quantized() }

// Calibrated reports whether a scheme needs the largest magnitudes of inputs.
func (s Scheme) Calibrated() bool { return micro[s].act.When == format.Local }

// keptRest is the reason why linears beside the experts stay.
const keptRest = "beside the routed experts, which publishers quantise alone"

// microChoice says what a linear becomes.
func microChoice(t *glm.Tensor, o *Options) (choice, string) {
	switch {
	case t.Role == glm.AttnKVB:
		return choice{}, keptKVB
	case t.Role == glm.IndexerK:
		return choice{}, keptIndexerK
	case t.Role.IsExpert() || o.Rest == RestSame:
		return micro[o.Scheme], ""
	case o.Rest == RestFP8:
		return choice{format.Float8.Scaled(format.BF16), format.Float8Token}, ""
	}
	return choice{}, keptRest
}

// checkMicro refuses options that the scheme has no use for.
func (o *Options) checkMicro() error {
	switch o.Rest {
	case "", RestFloat, RestFP8, RestSame:
	default:
		return &ImpossibleError{What: fmt.Sprintf("rest %q", o.Rest), Rule: "attention, dense and shared experts stay bf16, become fp8, or the same as the experts",
			Nearest: "bf16, the default"}
	}
	if o.Rest != "" && !o.Scheme.Micro() {
		return &ImpossibleError{What: fmt.Sprintf("rest %s with %s", o.Rest, o.Scheme), Rule: "the scheme says itself what becomes of every linear",
			Nearest: "nvfp4, nvfp4a16, mxfp4, mxfp4a16, mxfp8 and mxfp8a16 leave it open"}
	}
	if g := micro[o.Scheme].quant.Group; g > 0 && o.GroupSize != 0 && o.GroupSize != g {
		return &ImpossibleError{What: fmt.Sprintf("groups of %d in %s", o.GroupSize, o.Scheme), Rule: fmt.Sprintf("the format has groups of %d built in", g),
			Nearest: fmt.Sprintf("groups of %d", g)}
	}
	if o.ZeroPoints {
		return &ImpossibleError{What: fmt.Sprintf("zero points in %s", o.Scheme), Rule: "the engines' kernels for experts take symmetric codes alone",
			Nearest: "symmetric codes, the default"}
	}
	return nil
}

// CheckGroups refuses a group size for a scheme that has no use for it in a
// format. Options.GroupSize itself is not read by such schemes.
func CheckGroups(s Scheme, f Format, size int) error {
	fixed, rule := 0, ""
	switch {
	case s.Micro():
		fixed = micro[s].quant.Group
		rule = fmt.Sprintf("the format has groups of %d built in", fixed)
	case s == FP8Block:
		fixed, rule = 128, "its blocks are 128 x 128"
	case f == Ascend && s == W4A8:
		rule = "vllm-ascend's int4 has a scale for each output channel, and no groups"
	case s == W4A8, s == W4A16, s == W4A8FP8, s == Int4Int8:
		return nil // Decide knows their sizes
	case s == BF16:
		rule = "nothing is quantized"
	default:
		rule = "it has a scale for each output channel, and no groups"
	}
	if size == fixed && fixed > 0 {
		return nil
	}
	e := &ImpossibleError{What: fmt.Sprintf("groups of %d in %s as %s", size, s, f), Rule: rule, Nearest: "no group size; w4a16 has groups"}
	switch {
	case fixed > 0:
		e.Nearest = fmt.Sprintf("groups of %d, the default", fixed)
	case s == W4A8:
		e.Nearest = "no group size, or w4a8 as " + string(CompressedTensors)
	}
	return e
}

// microMisfit is the rule of small groups that a weight breaks, or "".
func microMisfit(w *Weight) string {
	_, k := w.Dims()
	if g := w.Quant.Group; k%g != 0 {
		return fmt.Sprintf("%d columns are not groups of %d", k, g)
	}
	return ""
}

// microLabel is the label of weights in small groups.
func microLabel(w *Weight) string {
	name := "MXFP8"
	switch {
	case w.Quant.Strategy == format.TensorGroup:
		name = "NVFP4"
	case w.Quant.Bits == 4:
		name = "MXFP4"
	}
	if !w.Act.Quantized() {
		name += "A16"
	}
	return name
}

// isMicro reports whether a weight has scales of a byte.
func isMicro(q format.Weight) bool {
	return q.Strategy == format.TensorGroup || q.Scale == format.E8M0
}
