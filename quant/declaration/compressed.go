package declaration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// compressedTensors reads QuantizationConfig of compressed-tensors 0.1 to
// 0.20. Keys of a group and of its arguments that are absent have the
// defaults of that library.
func (r *reader) compressedTensors(o *object) {
	d := r.d
	d.Version, d.Format = o.text("version"), o.text("format")
	o.noEffect("quant_method", "global_compression_ratio", "run_compressed", "provider", "autoround_version", "producer", "is_static_activations")
	if s := o.text("quantization_status"); s != "" && s != "compressed" && s != "frozen" {
		r.add(o.at("quantization_status"), Suspect, "it is %q: weights of a finished checkpoint are \"compressed\"", s)
	}
	r.ignore(o)
	if c := o.sub("kv_cache_scheme"); len(c.keys) > 0 {
		w := r.args(c)
		d.Cache = &Cache{Path: c.path, Form: w.activation(), Named: "kv_cache_scheme"}
		if a := d.Cache.Form; a.Type != format.Float || a.Bits != 8 {
			r.add(c.path, Suspect, "it is %s; engines read scales of FP8 caches alone: SGLang passes over this scheme, vLLM takes its scales for FP8's", a)
		}
	}
	r.sparsity(o)
	o.without("transform_config", "transforms (rotations) are applied while running; what they do is not judged")
	o.without("moe_sparsity_config", "the number of experts varies by layer; such models are not supported")
	o.empty("linear_fp8_config", "SGLang builds every linear module as block FP8 by it, the ignore list included; other engines do not know the key")
	r.groups(o)
	o.rest(Unknown, ": engines and compressed-tensors pass over it")
	switch {
	case d.Format == "":
	case !slices.Contains(formats, d.Format):
		r.add(o.at("format"), Unsupported, "%q is not a format of compressed-tensors that is read here", d.Format)
	case d.Format != "mixed-precision" && len(d.Groups) > 0 && !slices.ContainsFunc(d.Groups, func(g Group) bool { return d.FormatOf(&g) == d.Format }):
		r.add(o.at("format"), Suspect, "it is %q and every group has another format: vLLM goes by the groups, SGLang's classes for int4 experts by this one", d.Format)
	}
}

// ignore reads the list of modules that are left alone. vLLM needs a list
// where the key stands; null raises TypeError there.
func (r *reader) ignore(o *object) {
	if string(o.values["ignore"]) == "null" {
		r.add(o.at("ignore"), Invalid, "it is null; vLLM needs a list")
	}
	r.patterns(&r.d.Ignore, o, "ignore", Exact)
}

// patterns appends a list of entries, with "re:" or compared as plain says.
func (r *reader) patterns(list *List, o *object, key string, plain Match) {
	for i, text := range o.list(key) {
		p, err := Parse(text, plain)
		if err != nil {
			r.badPattern(fmt.Sprintf("%s.%d", o.at(key), i), err)
			continue
		}
		list.Add(p)
	}
}

// sparsity: an object that names no sparsity is what tools write for none.
func (r *reader) sparsity(o *object) {
	s := o.sub("sparsity_config")
	if len(s.keys) == 0 {
		return
	}
	if f := s.text("format"); f != "" && f != "dense" {
		r.unread(s.path, "weights are stored in the sparse format %q; engines have removed it", f)
	}
	s.noEffect("registry_requires_subclass", "sparsity_structure", "global_sparsity", "targets", "ignore")
	s.rest(Unknown, "")
}

const quantizedOutputs = "quantized outputs are computed by no engine that is judged here"

// formats are the format strings that are read.
var formats = []string{"dense", "int-quantized", "float-quantized", "naive-quantized", "pack-quantized", "nvfp4-pack-quantized",
	"mxfp4-pack-quantized", "mxfp8-quantized", "mixed-precision"}

func (r *reader) groups(o *object) {
	groups := o.sub("config_groups")
	if len(groups.keys) == 0 && r.d.Cache == nil {
		r.add(groups.path, Invalid, "it is empty: no module has a scheme")
	}
	for _, name := range groups.keys {
		raw := groups.raw(name)
		if len(raw) > 0 && raw[0] == '[' {
			r.preset(groups, name)
			continue
		}
		if raw == nil {
			r.add(groups.at(name), Invalid, "it is null, not a group")
			continue
		}
		r.d.Groups = append(r.d.Groups, r.group(groups.sub(name), name))
	}
}

func (r *reader) group(o *object, name string) Group {
	g := Group{Name: name, Path: o.path, Format: o.text("format")}
	r.patterns(&g.Targets, o, "targets", Exact)
	if len(g.Targets.Entries) == 0 {
		r.add(o.at("targets"), Invalid, "the group has no target")
	}
	var weights, input args
	if w := o.sub("weights"); len(w.keys) > 0 {
		weights = r.args(w)
		g.Weights, g.Order = weights.weight(), weights.order
		if weights.dynamic != format.Static {
			r.add(w.at("dynamic"), Unsupported, "weights that are quantized while the model runs are not judged")
			g.Static = true
		}
		if weights.strategy == format.Token {
			r.add(w.at("strategy"), Invalid, "token is a strategy of activations")
		}
	}
	if in := o.sub("input_activations"); len(in.keys) > 0 {
		input = r.args(in)
		g.Input = input.activation()
		r.activationArgs(in, input)
	} else {
		g.WeightOnly = true
	}
	if out := o.sub("output_activations"); len(out.keys) > 0 {
		a := r.args(out)
		g.Output = a.activation()
		r.add(out.path, Unsupported, quantizedOutputs)
	}
	o.rest(Unknown, ": compressed-tensors refuses it in a group, engines pass over it")
	g.Weights = stored(g.Weights, weights, r.d.FormatOf(&g))
	r.agree(o, &g)
	return g
}

// activationArgs checks what only activations may not have.
func (r *reader) activationArgs(o *object, a args) {
	switch a.strategy {
	case format.Channel, format.Block:
		r.add(o.at("strategy"), Invalid, "%s is not a strategy of activations", a.strategy)
	}
	if a.order != "" {
		r.add(o.at("actorder"), Invalid, "activations have no activation order")
	}
}

// args are QuantizationArgs.
type args struct {
	bits       int
	kind       format.Type
	strategy   format.Strategy
	group      int
	rows, cols int
	dynamic    format.When // Static: false in the file
	asymmetric bool
	order      string
	scale      format.Scale
}

// args reads QuantizationArgs (compressed-tensors 0.20.1 quant_args.py). An
// unknown key is a ValidationError there and in vLLM.
func (r *reader) args(o *object) args {
	a := args{bits: 8, kind: format.Int, dynamic: format.Static}
	if n, ok := o.integer("num_bits"); ok {
		a.bits = n
	}
	switch t := strings.ToLower(o.text("type")); t {
	case "", "int":
	case "float":
		a.kind = format.Float
	default:
		r.add(o.at("type"), Invalid, "%q is neither int nor float", t)
	}
	if a.bits < 1 || a.bits > 16 || a.kind == format.Float && a.bits != 4 && a.bits != 6 && a.bits != 8 {
		r.add(o.at("num_bits"), Unsupported, "there is no %s of %d bits", a.kind, a.bits)
	}
	if sym, ok := o.boolean("symmetric"); ok {
		a.asymmetric = !sym
	}
	a.dynamic = r.dynamic(o)
	a.readStrategy(r, o)
	a.readOrder(r, o)
	a.scale = r.scaleType(o)
	if z := o.text("zp_dtype"); z != "" && !slices.Contains([]string{"int8", "uint8", "int4", "float8_e4m3fn", "int32"}, dtypeName(z)) {
		r.add(o.at("zp_dtype"), Unsupported, "zero points of type %q are not read here", z)
	}
	o.noEffect("observer", "observer_kwargs")
	o.rest(Invalid, "; vLLM refuses it")
	return a
}

// dynamic reads true, false or "local".
func (r *reader) dynamic(o *object) format.When {
	switch raw := strings.ToLower(string(o.raw("dynamic"))); raw {
	case "", "false":
		return format.Static
	case "true":
		return format.Dynamic
	case `"local"`:
		return format.Local
	default:
		r.add(o.at("dynamic"), Invalid, "it is %s, not true, false or \"local\"", shorten(raw))
		return format.Static
	}
}

// readStrategy reads strategy, group_size and block_structure, which have to
// agree.
func (a *args) readStrategy(r *reader, o *object) {
	size, given := o.integer("group_size")
	a.block(r, o)
	name := strings.ToLower(o.text("strategy"))
	var ok bool
	switch a.strategy, ok = format.ParseStrategy(name); {
	case ok:
	case name == "attn_head":
		r.add(o.at("strategy"), Unsupported, "scales by attention head are not judged")
	case name != "":
		r.add(o.at("strategy"), Invalid, "%q is not a strategy", name)
	case !given:
		a.strategy = format.Tensor
	case size > 0:
		a.strategy = format.Group
	case size == -1:
		a.strategy = format.Channel
	}
	grouped := a.strategy == format.Group || a.strategy == format.TensorGroup
	switch {
	case given && size < -1, given && size == 0 && grouped:
		r.add(o.at("group_size"), Invalid, "%d is not a size of groups", size)
	case grouped && size <= 0:
		r.add(o.at("group_size"), Invalid, "the strategy %s needs it", a.strategy)
	case given && size > 0 && !grouped:
		r.add(o.at("group_size"), Invalid, "it is %d, and the strategy is %s", size, a.strategy)
	case grouped:
		a.group = size
	}
	switch {
	case a.strategy == format.Block && a.rows == 0:
		r.add(o.at("block_structure"), Invalid, "the strategy block needs it")
	case a.strategy != format.Block && a.rows != 0:
		r.add(o.at("block_structure"), Invalid, "it goes with the strategy block, which is %s", a.strategy)
	case a.strategy == format.Token && a.dynamic == format.Static:
		r.add(o.at("strategy"), Invalid, "static scales by token are impossible")
	case a.dynamic == format.Local && a.strategy != format.TensorGroup:
		r.add(o.at("dynamic"), Invalid, "local goes with the strategy tensor_group alone")
	case a.dynamic != format.Static && (a.strategy == format.Channel || a.strategy == format.Block):
		r.add(o.at("dynamic"), Invalid, "scales by %s cannot be dynamic", a.strategy)
	}
}

// block reads [128, 128] or "128x128".
func (a *args) block(r *reader, o *object) {
	raw := o.raw("block_structure")
	if raw == nil {
		return
	}
	rows, cols, ok := blockSize(raw)
	if !ok {
		r.add(o.at("block_structure"), Invalid, "it is %s, not [rows, columns]", shorten(string(raw)))
		return
	}
	a.rows, a.cols = rows, cols
}

// blockSize reads the sizes of a block in either spelling.
func blockSize(raw json.RawMessage) (rows, cols int, ok bool) {
	var list []int
	var text string
	switch {
	case json.Unmarshal(raw, &list) == nil:
	case json.Unmarshal(raw, &text) == nil:
		for _, t := range strings.Split(text, "x") {
			n, err := strconv.Atoi(strings.TrimSpace(t))
			if err != nil {
				return 0, 0, false
			}
			list = append(list, n)
		}
	}
	if len(list) != 2 || list[0] <= 0 || list[1] <= 0 {
		return 0, 0, false
	}
	return list[0], list[1], true
}

// readOrder reads the activation order. "weight" orders columns while
// calibrating and leaves nothing behind; "group" stores g_idx.
func (a *args) readOrder(r *reader, o *object) {
	switch raw := strings.ToLower(string(o.raw("actorder"))); raw {
	case "", "false":
	case `"weight"`, `"static"`:
		a.order = "weight"
	case `"group"`, `"dynamic"`, "true":
		a.order = "group"
		r.add(o.at("actorder"), Unsupported, "columns are stored in the order of activations (g_idx); compressed-tensors since 0.20 and vLLM since 0.33 refuse it")
	default:
		r.add(o.at("actorder"), Invalid, "%s is not an activation order", shorten(raw))
	}
	if a.order != "" && a.strategy != format.Group && a.strategy != format.TensorGroup {
		r.add(o.at("actorder"), Invalid, "it goes with groups of columns, and the strategy is %s", a.strategy)
	}
}

func dtypeName(s string) string { return strings.TrimPrefix(strings.ToLower(s), "torch.") }

func (r *reader) scaleType(o *object) format.Scale {
	switch s := o.text("scale_dtype"); dtypeName(s) {
	case "":
		return format.AnyScale
	case "float8_e4m3fn":
		return format.E4M3
	case "uint8", "float8_e8m0fnu":
		return format.E8M0
	case "float32":
		return format.F32
	case "bfloat16":
		return format.BF16
	case "float16":
		return format.F16
	default:
		r.add(o.at("scale_dtype"), Unsupported, "scales of type %q are not read here", s)
		return format.AnyScale
	}
}

// weight returns the record of a weight, without how it is packed.
func (a args) weight() format.Weight {
	return format.Weight{Type: a.kind, Bits: a.bits, Strategy: a.strategy, Group: a.group, BlockRows: a.rows, BlockCols: a.cols,
		ZeroPoints: a.asymmetric, Scale: a.scale}
}

// activation returns the record of an activation.
func (a args) activation() format.Activation {
	return format.Activation{Type: a.kind, Bits: a.bits, Strategy: a.strategy, Group: a.group, When: a.dynamic, ZeroPoints: a.asymmetric, Scale: a.scale}
}

// stored adds to a weight what its format string says of the bytes.
func stored(w format.Weight, a args, name string) format.Weight {
	switch name {
	case "pack-quantized":
		w.Packing = format.Words
	case "nvfp4-pack-quantized":
		w.Packing, w.Scale, w.Global = format.Nibbles, format.E4M3, format.F32
	case "mxfp4-pack-quantized":
		w.Packing, w.Scale = format.Nibbles, format.E8M0
	case "mxfp8-quantized":
		w.Scale = format.E8M0
	}
	if !w.Quantized() {
		return format.Weight{}
	}
	return w
}

// agree compares the format string of a group with the numbers it describes.
func (r *reader) agree(o *object, g *Group) {
	name, w := r.d.FormatOf(g), g.Weights
	path := o.at("format")
	if g.Format == "" {
		path = r.d.Root + ".format"
	}
	if g.Format == "mixed-precision" {
		r.add(path, Invalid, "a group cannot be mixed-precision")
		return
	}
	if g.Format != "" && !slices.Contains(formats, g.Format) {
		r.add(path, Unsupported, "%q is not a format of compressed-tensors that is read here", g.Format)
		return
	}
	if !w.Quantized() {
		return
	}
	fits := true
	switch name {
	case "int-quantized":
		fits = w.Type == format.Int
	case "pack-quantized":
		fits = w.Type == format.Int && w.Bits <= 8
	case "float-quantized":
		fits = w.Type == format.Float && w.Bits == 8
	case "nvfp4-pack-quantized":
		fits = w.SameCodes(format.NVFP4)
	case "mxfp4-pack-quantized":
		fits = w.SameCodes(format.MXFP4)
	case "mxfp8-quantized":
		fits = w.SameCodes(format.MXFP8)
	case "dense":
		fits = false
	case "mixed-precision":
		r.add(o.at("format"), Suspect, "the file is mixed-precision and the group has no format of its own: vLLM has no class for its linear modules")
	}
	if !fits {
		r.add(path, Invalid, "%s does not store %s weights (group %s)", name, w, g.Name)
	}
}
