package declaration

import (
	"encoding/json"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// quark reads the config of AMD Quark (0.11 to 0.13).
func (r *reader) quark(o *object) {
	r.d.Version = o.text("version")
	o.noEffect("quant_method", "quant_mode", "kv_cache_post_rope", "quant_config", "log_severity_level", "producer")
	o.empty("algo_config", "an algorithm of Quark that changes how the model runs is not judged")
	o.empty("softmax_quant_spec", "a quantized softmax is computed by no engine that is judged here")
	r.patterns(&r.d.Ignore, o, "exclude", Exact)
	if all := o.sub("global_quant_config"); len(all.keys) > 0 {
		if g, ok := r.quarkGroup(all, "global"); ok {
			r.d.Groups = append(r.d.Groups, g)
		}
	} else {
		r.add(all.path, Invalid, "it is missing: no module has a scheme")
	}
	layers := o.sub("layer_quant_config")
	for _, name := range layers.keys {
		how := Glob
		if !strings.Contains(name, "*") {
			how = Exact
		}
		p, err := New(name, how)
		if err != nil {
			r.badPattern(layers.at(name), err)
			continue
		}
		rule := Rule{Pattern: p}
		if g, ok := r.quarkGroup(layers.sub(name), name); ok {
			rule.Group = &g
		}
		r.d.Rules = append(r.d.Rules, rule)
	}
	r.quarkClasses(o)
	r.quarkCache(o)
	export := o.sub("export")
	if len(export.keys) == 0 {
		r.add(export.path, Invalid, "it is missing; vLLM requires it")
	}
	r.d.Format = export.one("pack_method", "", "reorder", "order")
	export.one("weight_format", "", "real_quantized")
	export.list("kv_cache_group")
	export.noEffect("min_kv_scale", "weight_merge_groups")
	export.rest(Unknown, "")
	o.rest(Unknown, ": engines pass over it")
}

// quarkClasses reads layer_type_quant_config.
func (r *reader) quarkClasses(o *object) {
	o.empty("layer_type_quant_config", "schemes by the class of a module are not judged")
	if raw := o.raw("layer_type_quant_config"); len(raw) == 0 || raw[0] != '{' {
		return
	}
	classes := o.sub("layer_type_quant_config")
	r.d.Classes = make(map[string]*Group, len(classes.keys))
	for _, name := range classes.keys {
		g, _ := r.quarkGroup(classes.sub(name), name)
		r.d.Classes[name] = &g
	}
}

// quarkGroup reads the specifications of a module's tensors; ok is false
// where the weight has none.
func (r *reader) quarkGroup(o *object, name string) (g Group, ok bool) {
	g = Group{Name: name, Path: o.path}
	o.noEffect("target_device")
	o.empty("bias", "quantized biases are not read here")
	o.empty("output_tensors", "quantized outputs are computed by no engine that is judged here")
	w, in := r.quarkSpec(o, "weight"), r.quarkSpec(o, "input_tensors")
	o.rest(Unknown, "")
	if w == nil {
		return g, false
	}
	g.Weights = w.weight()
	switch {
	case g.Weights.Bits == 4 && g.Weights.Type == format.Float:
		g.Weights.Packing = format.Nibbles
		if g.Weights.Strategy == format.TensorGroup {
			g.Weights.Global = format.F32
		}
	case g.Weights.Bits == 4:
		r.add(o.at("weight"), Unsupported, "int4 of Quark, packed in its own order, is not read here")
	}
	if g.WeightOnly = in == nil; in != nil {
		g.Input = in.activation()
		if g.Input.When == format.Dynamic && g.Input.Strategy == format.Channel {
			g.Input.Strategy = format.Token // as vLLM reads it
		}
	}
	return g, true
}

// quarkSpec reads a tensor's specification, or two of them: groups below one
// scale of the tensor.
func (r *reader) quarkSpec(o *object, key string) *args {
	raw := o.raw(key)
	if raw == nil {
		return nil
	}
	if raw[0] != '[' {
		return r.quarkOne(o.sub(key))
	}
	specs, _ := into[[]json.RawMessage](o, key, "a list of specifications")
	if len(specs) != 2 {
		r.add(o.at(key), Unsupported, "%d specifications of one tensor are not read here", len(specs))
		return &args{}
	}
	a, top := r.quarkOne(r.object(o.at(key)+".0", specs[0])), r.quarkOne(r.object(o.at(key)+".1", specs[1]))
	if a.strategy != format.Group || top.strategy != format.Tensor || top.bits != 8 || top.kind != format.Float {
		r.add(o.at(key), Unsupported, "scales of two levels of this form are not read here")
	}
	a.strategy, a.scale = format.TensorGroup, format.E4M3
	if a.dynamic == format.Dynamic && top.dynamic == format.Static {
		a.dynamic = format.Local
	}
	return a
}

func (r *reader) quarkOne(o *object) *args {
	a := &args{dynamic: format.Static}
	switch t := strings.ToLower(o.text("dtype")); t {
	case "fp4":
		a.kind, a.bits = format.Float, 4
	case "fp8_e4m3":
		a.kind, a.bits = format.Float, 8
	case "int8":
		a.kind, a.bits = format.Int, 8
	case "int4":
		a.kind, a.bits = format.Int, 4
	case "uint4":
		a.kind, a.bits, a.asymmetric = format.Int, 4, true
	default:
		r.add(o.at("dtype"), Unsupported, "%q is not read here", t)
	}
	size, _ := o.integer("group_size")
	switch s := o.text("qscheme"); s {
	case "per_tensor":
		a.strategy = format.Tensor
	case "per_channel":
		a.strategy = format.Channel
	case "per_token":
		a.strategy = format.Token
	case "per_group":
		a.strategy, a.group = format.Group, size
	case "per_block":
		a.strategy = format.Block
		if raw := o.raw("block_size"); raw != nil {
			a.rows, a.cols, _ = blockSize(raw)
		}
	default:
		r.add(o.at("qscheme"), Unsupported, "%q is not read here", s)
	}
	if dynamic, _ := o.boolean("is_dynamic"); dynamic {
		a.dynamic = format.Dynamic
	}
	if sym, ok := o.boolean("symmetric"); ok && !sym {
		a.asymmetric = true
	}
	if o.text("scale_format") == "e8m0" {
		a.scale = format.E8M0
	}
	o.noEffect("block_size", "ch_axis", "round_method", "scale_type", "zero_point_type", "scale_calculation_mode", "mx_element_dtype", "observer_cls",
		"is_scale_quant", "enable_buffer_reuse", "max_input_numel", "scale_format")
	o.rest(Unknown, "")
	return a
}

// quarkCache reads kv_cache_quant_config: specifications by the names of the
// projections that feed the cache.
func (r *reader) quarkCache(o *object) {
	c := o.sub("kv_cache_quant_config")
	for _, name := range c.keys {
		p := c.sub(name)
		p.noEffect("weight", "input_tensors", "bias", "target_device")
		if out := r.quarkSpec(p, "output_tensors"); out != nil {
			r.d.Cache = &Cache{Path: c.path, Form: out.activation(), Named: "kv_cache_quant_config"}
		}
		p.rest(Unknown, "")
	}
}
