package layout

import (
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// Lift is what a unit of weights takes in place of what the scheme has for it.
type Lift string

// The lifts, in the order of the bytes they take.
const (
	LiftFP8      Lift = "fp8"       // scales of channels, FP8 tokens
	LiftFP8Block Lift = "fp8-block" // scales of blocks, FP8 groups
	LiftInt8     Lift = "int8"      // with the activations that the scheme has
	LiftFloat    Lift = "bf16"      // the source's precision
)

// Lifts lists what units may be lifted to in a scheme and format, by the bytes
// they take. Which of them engines load beside the scheme is for package engine
// to say.
func Lifts(s Scheme, f Format) (out []Lift) {
	l, err := For(f)
	if err != nil || s == BF16 {
		return nil
	}
	for _, to := range []Lift{LiftFP8, LiftFP8Block, LiftInt8, LiftFloat} {
		if _, ok := liftOf(l, to, &Options{Scheme: s, Format: f, GroupSize: 128}); ok {
			out = append(out, to)
		}
	}
	return out
}

// liftOf is what a lift means in a layout.
func liftOf(l Layout, to Lift, o *Options) (choice, bool) {
	if to == LiftFloat {
		return choice{}, true
	}
	return l.lift(to, o)
}

// lift: nothing but the source's precision, which every layout has.
func (common) lift(Lift, *Options) (choice, bool) { return choice{}, false }

// lift: formats that compressed-tensors has beside those of its schemes, with
// activations that the same engines' kernels take.
func (compressedTensors) lift(to Lift, o *Options) (c choice, ok bool) {
	main, rest := ctScheme(o.Scheme, o.GroupSize, o.Rest)
	switch {
	case to == LiftInt8 && (o.Scheme == W4A16 || o.Scheme == Int4Int8):
		c = choice{quant: format.Integer(8, o.GroupSize).Scaled(format.BF16).Packed(format.Words)}
	case to == LiftInt8 && o.Scheme == W4A8:
		c = ctInt8
	case to == LiftFP8Block && o.Scheme == W4A8FP8:
		c = rest
	case to == LiftFP8 && o.Scheme.Micro() && micro[o.Scheme].quant.Bits == 4:
		c, _ = ctScheme(FP8, 0, "")
	}
	return c, c.quant.Quantized() && c.quant != main.quant
}

// lift: int8 beside int4.
func (ascend) lift(to Lift, o *Options) (choice, bool) {
	return choice{ascendInt8, format.Int8Token}, to == LiftInt8 && o.Scheme == W4A8
}

// Unit names the set of weights that a tensor is quantized alike with: a fused
// group, all experts of a layer, or a whole MLP.
func Unit(t *glm.Tensor, s Scheme) string { return unit(t, s) }

// lifted replaces the scheme's choice for a tensor of a lifted unit.
func (o *Options) lifted(l Layout, t *glm.Tensor, c choice, why string) (choice, string) {
	to, ok := o.Lifted[unit(t, o.Scheme)]
	if !ok || !c.quant.Quantized() || t.MTP {
		return c, why
	}
	x, ok := liftOf(l, to, o)
	switch {
	case !ok || c.quant.Bits >= precision(x.quant):
		return c, why
	case to == LiftFloat:
		return x, liftedFloat
	}
	return x, ""
}

// liftedFloat is the reason why a unit stays that the scheme would quantize.
const liftedFloat = "kept: within the budget its precision is worth most here"

// liftedGroups are the config groups of what was lifted, each named by the layers
// and kinds of its modules; int8 and FP8, in the order of the table.
func liftedGroups(d *Decisions) (out []group) {
	var seen []choice
	for i := range d.Weights {
		w := d.Weights[i]
		t := w.Tensor
		c := choice{w.Quant, w.Act}
		if len(d.Lifted) == 0 || t.Param != "weight" || !w.Quantized() || d.Lifted[unit(t, d.Scheme)] == "" || slices.Contains(seen, c) {
			continue
		}
		if main, rest := schemeChoices(d); c == main && t.Role.IsExpert() || c == rest && !t.Role.IsExpert() {
			continue // int8 in vain: its form is that of the scheme
		}
		seen = append(seen, c)
	}
	for _, c := range seen {
		has := func(w *Weight) bool {
			return w.Quant == c.quant && w.Act == c.act && d.Lifted[unit(w.Tensor, d.Scheme)] != ""
		}
		var targets []string
		for _, k := range kindsOf(d) {
			if layers := k.layers(d, has); len(layers) > 0 {
				targets = append(targets, "re:.*"+layerPattern(layers)+k.pattern)
			}
		}
		out = append(out, groupOf(c, targets...))
	}
	return out
}

// layers lists those in which some weight of the kind is so.
func (k kind) layers(d *Decisions, is func(*Weight) bool) (out []int) {
	for i := range d.Weights {
		w := d.Weights[i]
		if w.Tensor.Param == "weight" && k.of(w.Tensor.Role) && is(w) {
			out = append(out, w.Tensor.Layer)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
