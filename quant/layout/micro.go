package layout

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// What the schemes of small groups (NVFP4, MX) and of mixed integers have in
// common in every layout: routed experts take the scheme, and what becomes of
// attention, dense and shared experts is a choice of its own.

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
	if g := micro[o.Scheme].quant.Group; g > 0 && o.GroupSize != 0 && o.GroupSize != g {
		return &ImpossibleError{What: fmt.Sprintf("%s in %s", groupsOf(o.GroupSize), o.Scheme), Rule: fmt.Sprintf("the format has groups of %d built in", g),
			Nearest: fmt.Sprintf("groups of %d", g)}
	}
	if o.ZeroPoints {
		return &ImpossibleError{What: fmt.Sprintf("zero points in %s", o.Scheme), Rule: "the engines' kernels for experts take symmetric codes alone",
			Nearest: "symmetric codes, the default"}
	}
	return nil
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
