package declaration

import (
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// autoRound reads the config of auto-round (0.16), whose tensors lie as
// packing_format says.
func (r *reader) autoRound(o *object) {
	d := r.d
	d.Version = o.text("autoround_version")
	o.noEffect("quant_method", "iters", "model_free", "enable_quanted_input", "provider", "backend", "vllm_backend", "nsamples", "seqlen", "lr",
		"minmax_lr", "enable_minmax_tuning", "gradient_accumulate_steps", "batch_size", "low_gpu_mem_usage", "scale_dtype", "amp", "seed", "dataset",
		"enable_norm_bias_tuning", "act_seqlen", "super_bits", "super_group_size", "quant_lm_head", "static_kv_dtype", "static_attention_dtype",
		"enable_alg_ext", "disable_opt_rtn", "true_sequential", "damp_percent", "desc_act", "lm_head")
	d.Format = strings.TrimPrefix(o.text("packing_format"), "auto_round:")
	base := autoScheme{bits: 4, group: 128, sym: true, kind: "int"}
	base.read(r, o, true)
	g := base.asGroup(r, "auto-round", d.Root, d.Format)
	key := o.first("block_name_to_quantize", "to_quant_block_names")
	o.noEffect("block_name_to_quantize", "to_quant_block_names")
	for _, prefix := range blockNames(o, key) {
		g.Targets.Add(&Pattern{Text: prefix, How: Path})
	}
	extra := o.sub("extra_config")
	for _, name := range extra.keys {
		e := extra.sub(name)
		own := base
		own.read(r, e, false)
		e.rest(Unknown, "")
		how := Exact
		if strings.ContainsAny(name, `*+?[](){}|\^$`) {
			how = Search
		}
		p, err := New(name, how)
		if err != nil {
			r.badPattern(e.path, err)
			continue
		}
		rule := Rule{Pattern: p}
		if own.bits < 16 {
			eg := own.asGroup(r, name, e.path, d.Format)
			rule.Group = &eg
		}
		d.Rules = append(d.Rules, rule)
	}
	d.Groups = append(d.Groups, g)
	o.rest(Unknown, ": engines pass over it")
}

// blockNames reads names of blocks: a text with commas, a list, or a list of
// lists.
func blockNames(o *object, key string) []string {
	raw := o.raw(key)
	switch {
	case raw == nil:
		return nil
	case raw[0] == '"':
		return strings.Split(o.text(key), ",")
	}
	if v, ok := into[[]any](o, key, "a list of names"); ok {
		var out []string
		for _, e := range v {
			switch e := e.(type) {
			case string:
				out = append(out, e)
			case []any:
				for _, x := range e {
					if s, ok := x.(string); ok {
						out = append(out, s)
					}
				}
			}
		}
		return out
	}
	return nil
}

// autoScheme are the keys of auto-round that a module may have of its own.
type autoScheme struct {
	bits, group, rows int
	sym               bool
	kind              string

	actBits, actGroup int
	actSym, actStatic bool
	actKind           string
}

func (s *autoScheme) read(r *reader, o *object, whole bool) {
	if n, ok := o.integer("bits"); ok {
		s.bits = n
	} else if whole {
		r.add(o.at("bits"), Invalid, "it is missing")
	}
	if raw := o.raw("group_size"); len(raw) > 0 && raw[0] == '[' {
		s.rows, s.group, _ = blockSize(raw)
	} else if n, ok := o.integer("group_size"); ok {
		s.group, s.rows = n, 0
	}
	if sym, ok := o.boolean("sym"); ok {
		s.sym = sym
	}
	if t := o.text("data_type"); t != "" {
		s.kind = t
	}
	if n, ok := o.integer("act_bits"); ok {
		s.actBits = n
	}
	if n, ok := o.integer("act_group_size"); ok {
		s.actGroup = n
	}
	if sym, ok := o.boolean("act_sym"); ok {
		s.actSym = sym
	}
	if dynamic, ok := o.boolean("act_dynamic"); ok {
		s.actStatic = !dynamic
	}
	if t := o.text("act_data_type"); t != "" {
		s.actKind = t
	}
	o.noEffect("scale_dtype", "super_bits", "super_group_size", "fixed_by_user", "in_blocks", "tmp_dtype")
}

// asGroup returns the group of a scheme in a packing.
func (s autoScheme) asGroup(r *reader, name, path, packing string) Group {
	g := Group{Name: name, Path: path, WeightOnly: true}
	switch {
	case s.kind == "int":
		g.Weights = format.Integer(s.bits, s.group)
		g.Weights.ZeroPoints = !s.sym
	case strings.HasPrefix(s.kind, "mx_fp") && s.bits == 4:
		g.Weights = format.MXFP4
	case strings.HasPrefix(s.kind, "mx_fp") && s.bits == 8:
		g.Weights = format.MXFP8
	case strings.HasPrefix(s.kind, "nv_fp") && s.bits == 4:
		g.Weights = format.NVFP4
	case strings.HasPrefix(s.kind, "fp") && s.bits == 8 && s.rows > 0:
		g.Weights = format.Weight{Type: format.Float, Bits: 8, Strategy: format.Block, BlockRows: s.rows, BlockCols: s.group}
	case strings.HasPrefix(s.kind, "fp") && s.bits == 8 && s.group == -1:
		g.Weights = format.Float8
	case strings.HasPrefix(s.kind, "fp") && s.bits == 8 && s.group == 0:
		g.Weights = perTensor
	case s.bits < 16:
		r.add(path+".data_type", Unsupported, "%d bits of %q are not read here", s.bits, s.kind)
	}
	switch packing {
	case "", "auto_gptq", "gptq":
		g.Weights.Packing = format.GPTQWords
	case "auto_awq", "awq":
		g.Weights.Packing = format.AWQWords
	case "gptqmodel":
		g.Weights.Packing = format.GPTQv2Words
		r.add(r.d.Root+".packing_format", Unsupported, "both engines refuse the packing %q", packing)
	case "llm_compressor", "fp8", "fp8_static":
		if s.kind == "int" {
			g.Weights.Packing = format.Words
		}
	default:
		r.unread(r.d.Root+".packing_format", "the packing %q of auto-round is not read here", packing)
	}
	if s.actBits > 0 && s.actBits < 16 {
		g.WeightOnly = false
		g.Input = s.activation(r, path)
	}
	return g
}

func (s autoScheme) activation(r *reader, path string) format.Activation {
	a := format.Activation{Bits: s.actBits, ZeroPoints: !s.actSym, Strategy: format.Token}
	switch {
	case strings.HasPrefix(s.actKind, "mx_fp"):
		a.Type, a.Strategy, a.Group, a.Scale, a.ZeroPoints = format.Float, format.Group, 32, format.E8M0, false
	case strings.HasPrefix(s.actKind, "nv_fp"):
		return format.NVFP4Local
	case strings.HasPrefix(s.actKind, "fp"):
		a.Type, a.ZeroPoints = format.Float, false
	case s.actKind == "int" || s.actKind == "":
		a.Type = format.Int
	default:
		r.add(path+".act_data_type", Unsupported, "activations of %q are not read here", s.actKind)
	}
	if a.Strategy == format.Token && s.actGroup > 0 {
		a.Strategy, a.Group = format.Group, s.actGroup
	}
	if s.actStatic {
		a.When = format.Static
		if s.actGroup == 0 {
			a.Strategy = format.Tensor
		}
	}
	return a
}
