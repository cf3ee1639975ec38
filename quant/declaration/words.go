package declaration

import (
	"encoding/json"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// integers reads the keys that GPTQ, AWQ and auto-round share.
func (r *reader) integers(o *object, bitsKey, groupKey string, packing format.Packing) format.Weight {
	bits, ok := o.integer(bitsKey)
	if !ok {
		r.add(o.at(bitsKey), Invalid, "it is missing")
	}
	size, sized := o.integer(groupKey)
	w := format.Integer(bits, size).Packed(packing)
	switch {
	case !sized:
		r.add(o.at(groupKey), Invalid, "it is missing")
	case size == 0 || size < -1:
		r.add(o.at(groupKey), Invalid, "%d is not a size of groups", size)
	}
	if ok && (bits < 2 || bits > 8) {
		r.add(o.at(bitsKey), Unsupported, "codes of %d bits are not read here", bits)
	}
	return w
}

// gptq reads the config of AutoGPTQ, GPTQModel and auto-round's GPTQ export:
// quantize_config.json or quant_method gptq.
func (r *reader) gptq(o *object) {
	d := r.d
	o.noEffect("quant_method", "method", "static_groups", "true_sequential", "damp_percent", "damp_auto_increment", "meta", "pack_dtype", "provider",
		"autoround_version", "enable_quanted_input", "data_type", "iters", "model_name_or_path", "model_file_base_name", "quantizer", "use_exllama",
		"exllama_config", "backend", "dataset", "tokenizer", "batch_size", "pad_token_id", "model_seqlen", "block_name_to_quantize",
		"module_name_preceding_first_block", "use_cuda_fp16", "max_input_length", "cache_block_outputs", "version", "hyb_act", "mse", "fp8_quant")
	g := Group{Name: "gptq", Path: d.Root, WeightOnly: true, Weights: r.integers(o, "bits", "group_size", format.GPTQWords)}
	g.Weights.ZeroPoints, g.Order = r.symmetry(o)
	d.Head, _ = o.boolean("lm_head")
	key := o.first("checkpoint_format", "format")
	d.Format = strings.ToLower(o.text(key))
	o.noEffect("checkpoint_format", "format")
	switch d.Format {
	case "", "gptq":
	case "gptq_v2":
		g.Weights.Packing = format.GPTQv2Words
	default:
		r.unread(o.at(key), "the packing %q of gptq is not read here", d.Format)
	}
	if marlin, _ := o.boolean("is_marlin_format"); marlin {
		r.unread(o.at("is_marlin_format"), "weights packed for Marlin are not read here")
	}
	rules := o.sub("dynamic")
	for _, text := range rules.keys {
		r.gptqRule(rules, text, g)
	}
	r.inBlock(o, &g)
	d.Groups = append(d.Groups, g)
	o.rest(Unknown, ": engines pass over it")
}

// symmetry reads sym and desc_act.
func (r *reader) symmetry(o *object) (zeros bool, order string) {
	if sym, ok := o.boolean("sym"); ok {
		zeros = !sym
	}
	if desc, _ := o.boolean("desc_act"); desc {
		order = "group"
	}
	return zeros, order
}

// gptqRule reads a rule of dynamic: "-:expression" leaves modules alone,
// "+:expression" and a plain one override the group. re.match, the first hit
// in file order decides.
func (r *reader) gptqRule(rules *object, text string, base Group) {
	expr, off := strings.CutPrefix(text, "-:")
	if !off {
		expr = strings.TrimPrefix(text, "+:")
	}
	p, err := compile(text, expr, Regexp)
	if err != nil {
		r.badPattern(rules.at(text), err)
		return
	}
	rule := Rule{Pattern: p}
	if o := rules.sub(text); !off {
		g := base
		g.Name, g.Path, g.Targets = text, o.path, List{}
		r.override(o, &g)
		rule.Group = &g
		o.rest(Unknown, "")
	}
	r.d.Rules = append(r.d.Rules, rule)
}

// override changes a group by the keys that a rule has.
func (r *reader) override(o *object, g *Group) {
	bits, group := g.Weights.Bits, g.Weights.Group
	if n, ok := o.integer("bits"); ok {
		bits = n
	}
	if n, ok := o.integer("group_size"); ok {
		group = n
	}
	w := format.Integer(bits, group).Packed(g.Weights.Packing)
	w.ZeroPoints = g.Weights.ZeroPoints
	if sym, ok := o.boolean("sym"); ok {
		w.ZeroPoints = !sym
	}
	if desc, ok := o.boolean("desc_act"); ok {
		g.Order = ""
		if desc {
			g.Order = "group"
		}
	}
	g.Weights = w
	o.noEffect("damp_percent", "damp_auto_increment", "static_groups", "mse", "true_sequential")
}

// inBlock reads modules_in_block_to_quantize: ends of names, in a list or a
// list of lists. Without it every linear module is meant; engines then look
// at the tensors.
func (r *reader) inBlock(o *object, g *Group) {
	raw := o.raw("modules_in_block_to_quantize")
	if raw == nil {
		return
	}
	var flat []string
	var nested [][]string
	if json.Unmarshal(raw, &flat) != nil {
		flat = nil // what could be read of it
		if json.Unmarshal(raw, &nested) != nil {
			r.add(o.at("modules_in_block_to_quantize"), Invalid, "it is not a list of names")
			return
		}
		for _, list := range nested {
			flat = append(flat, list...)
		}
	}
	for _, name := range flat {
		g.Targets.Add(&Pattern{Text: name, How: Suffix})
	}
}

// awq reads the config of AutoAWQ and of the tools that write its layout:
// quant_config.json or quant_method awq.
func (r *reader) awq(o *object) {
	d := r.d
	o.noEffect("quant_method", "method", "provider", "autoround_version", "data_type", "enable_quanted_input", "to_quant_block_names", "sym", "iters",
		"w_bit", "q_group_size", "bits", "group_size", "do_fuse", "fuse_max_seq_len", "modules_to_fuse", "backend", "exllama_config", "meta",
		"desc_act", "format", "checkpoint_format", "pack_dtype", "dynamic")
	g := Group{Name: "awq", Path: d.Root, WeightOnly: true,
		Weights: r.integers(o, o.first("bits", "w_bit"), o.first("group_size", "q_group_size"), format.AWQWords)}
	if zero, ok := o.boolean("zero_point"); ok {
		g.Weights.ZeroPoints = zero
	} else if sym, ok := o.boolean("sym"); ok {
		g.Weights.ZeroPoints = !sym
	} else {
		g.Weights.ZeroPoints = true
	}
	d.Head, _ = o.boolean("lm_head")
	switch d.Format = strings.ToLower(o.text("version")); d.Format {
	case "", "gemm":
	default:
		r.unread(o.at("version"), "the packing %q of awq is not read here", d.Format)
	}
	for _, text := range o.list("modules_to_not_convert") {
		d.Ignore.Add(&Pattern{Text: text, How: Substring})
	}
	d.Groups = append(d.Groups, g)
	o.rest(Unknown, ": engines pass over it")
}
