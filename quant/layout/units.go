package layout

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// unit names the set of weights that must be quantized alike: the fused group,
// all experts of a layer, and a whole MLP, whose halves no engine wants apart.
func unit(t *glm.Tensor, s Scheme) string {
	switch {
	case s.Micro() && t.Role.IsDense(): // gate and up are one weight in every engine, down is its own
		if t.Group != "" {
			return t.Group
		}
		return t.Module
	case t.Role.IsDense() || t.Role.IsShared():
		return t.Module[:max(strings.LastIndexByte(t.Module, '.'), 0)]
	case t.Group != "":
		return t.Group // for experts: ….mlp.experts
	}
	return t.Module
}

// precision orders what weights become by how much they keep.
func precision(q format.Weight) int {
	if !q.Quantized() {
		return 32
	}
	return q.Bits
}

// unify makes every unit agree on the most precise of its members: one in the
// source's precision keeps all there, one in int8 lifts int4.
func unify(out []Decision, s Scheme) {
	units := map[string]*Decision{}
	eachLinear(out, func(d *Decision) {
		u := unit(d.Weight.Tensor, s)
		if w := units[u]; w == nil || precision(d.Weight.Quant) > precision(w.Weight.Quant) {
			units[u] = d
		}
	})
	eachLinear(out, func(d *Decision) {
		if w := units[unit(d.Weight.Tensor, s)]; d.Weight.Quant != w.Weight.Quant {
			d.set(choice{w.Weight.Quant, w.Weight.Act}, "one with "+w.Weight.Tensor.Module+": "+w.Reason)
		}
	})
}

func eachLinear(out []Decision, do func(*Decision)) {
	for i := range out {
		if t := out[i].Weight.Tensor; !out[i].Drop && t.Param == "weight" && t.Role.IsLinear() {
			do(&out[i])
		}
	}
}
