package declaration

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// algorithms are the quant_algo of ModelOpt (0.47) whose tensors are read.
var algorithms = map[string]struct {
	weights format.Weight
	input   format.Activation
}{
	"FP8":                       {perTensor, staticTensor},
	"FP8_PER_CHANNEL_PER_TOKEN": {format.Float8, format.Float8Token},
	"FP8_PB_WO":                 {format.Float8Block, format.Activation{}},
	"FP8_BLOCK_SCALES":          {format.Float8Block, format.Activation{}},
	"NVFP4":                     {format.NVFP4, format.NVFP4Local},
	"W4A16_NVFP4":               {format.NVFP4, format.Activation{}},
	"MXFP8":                     {format.MXFP8, format.MXFP8Group},
	"MXFP4":                     {format.MXFP4, format.Activation{}},
}

// modelOpt reads both forms that ModelOpt writes: the flat one of config.json
// (and of older tools that nest "quantization" there), and
// hf_quant_config.json.
func (r *reader) modelOpt(o *object) {
	o.noEffect("quant_method", "producer")
	q := o
	if o.has("quantization") {
		q = o.sub("quantization")
		for _, k := range q.keys {
			r.d.stated["quantization."+k] = true
		}
		o.rest(Unknown, ": engines pass over it")
	}
	q.noEffect("quant_method", "producer", "kv_cache_quant_method", "has_zero_point", "pre_quant_scale", "awq_block_size")
	for _, key := range []string{"exclude_modules", "ignore"} {
		for i, text := range q.list(key) {
			p, err := New(text, globOrName(text))
			if err != nil {
				r.badPattern(fmt.Sprintf("%s.%d", q.at(key), i), err)
				continue
			}
			r.d.Ignore.Add(p)
		}
	}
	size, sized := q.integer("group_size")
	r.d.Algorithm = q.text("quant_algo")
	algo := strings.ToUpper(r.d.Algorithm)
	weightOnly := r.modelOptGroups(q, &size, &sized)
	r.modelOptLayers(q)
	r.cache(q)
	r.sparsity(q)
	q.without("transform_config", "transforms (rotations) are applied while running; what they do is not judged")
	switch {
	case algo == "MIXED_PRECISION":
		if len(r.d.Rules) == 0 {
			r.add(q.at("quantized_layers"), Invalid, "quant_algo is MIXED_PRECISION, and no layer is listed")
		}
	case algo == "" && !q.has("quant_algo"):
		r.add(q.at("quant_algo"), Invalid, "it is missing")
	default:
		if algo == "NVFP4" && weightOnly {
			algo = "W4A16_NVFP4" // as vLLM reads it since 0.32
		}
		g := r.algorithm(q.at("quant_algo"), algo, size, sized)
		if !g.Weights.Quantized() {
			r.d.unread = fmt.Sprintf("%s: quant_algo %q is not read here", g.Path, algo)
		}
		r.d.Groups = append(r.d.Groups, g)
	}
	q.rest(Unknown, ": engines pass over it")
}

// algorithm returns the group of a quant_algo.
func (r *reader) algorithm(path, algo string, size int, sized bool) Group {
	g := Group{Name: algo, Path: path}
	known, ok := algorithms[algo]
	if !ok {
		r.add(path, Unsupported, "quant_algo %q is not read here", algo)
		return g
	}
	g.Weights, g.Input = known.weights, known.input
	g.WeightOnly = !g.Input.Quantized()
	if sized && g.Weights.Group > 0 && size != g.Weights.Group {
		r.add(path, Unsupported, "%s with groups of %d columns is not read here", algo, size)
	}
	return g
}

// modelOptGroups reads config_groups of the flat form, which repeats what
// quant_algo says. It reports whether no group has activations.
func (r *reader) modelOptGroups(o *object, size *int, sized *bool) (weightOnly bool) {
	groups := o.sub("config_groups")
	weightOnly = len(groups.keys) > 0
	for _, name := range groups.keys {
		g := groups.sub(name)
		for i, text := range g.list("targets") {
			if text != "Linear" {
				r.add(fmt.Sprintf("%s.%d", g.at("targets"), i), Invalid, "it is %q: quant_algo is for every Linear, and engines go by that", text)
			}
		}
		for _, part := range []string{"weights", "input_activations", "output_activations"} {
			a := g.sub(part)
			if len(a.keys) > 0 && part == "input_activations" {
				weightOnly = false
			}
			if len(a.keys) > 0 && part == "output_activations" {
				r.add(a.path, Unsupported, quantizedOutputs)
			}
			r.repeated(a)
			a.noEffect("dynamic", "num_bits", "type", "strategy", "scale_dtype", "block_sizes", "observer", "zp_dtype", "observer_kwargs", "block_structure")
			if n, ok := a.integer("group_size"); ok && part == "weights" {
				if *sized && *size != n {
					r.add(a.at("group_size"), Invalid, "it is %d, and %d elsewhere: SGLang refuses that", n, *size)
				}
				*size, *sized = n, true
			}
			a.rest(Unknown, ": engines pass over it")
		}
		g.noEffect("format")
		g.rest(Unknown, ": engines pass over it")
	}
	return weightOnly
}

// repeated holds what a group of the flat form says against quant_algo, which
// engines go by.
func (r *reader) repeated(a *object) {
	if yes, ok := a.boolean("symmetric"); ok && !yes {
		r.add(a.at("symmetric"), Invalid, "it is false, and no format of ModelOpt that quant_algo names has zero points")
	}
	a.empty("actorder", "codes in an order of activations are no format of ModelOpt's")
}

// globOrName is how an entry is compared: one without wildcards means a name
// alone, and is looked up.
func globOrName(text string) Match {
	if strings.ContainsAny(text, "*?[") {
		return Glob
	}
	return Exact
}

// modelOptLayers reads quantized_layers: an algorithm for each module.
func (r *reader) modelOptLayers(o *object) {
	layers := o.sub("quantized_layers")
	for _, name := range layers.keys {
		l := layers.sub(name)
		size, sized := l.integer("group_size")
		g := r.algorithm(l.at("quant_algo"), strings.ToUpper(l.text("quant_algo")), size, sized)
		g.Name, g.Path = name, l.path
		l.noEffect("awq_block_size", "has_zero_point", "pre_quant_scale")
		l.rest(Unknown, ": engines pass over it")
		p, err := New(name, globOrName(name))
		if err != nil {
			r.badPattern(l.path, err)
			continue
		}
		r.d.Rules = append(r.d.Rules, Rule{p, &g})
	}
}
