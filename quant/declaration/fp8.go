package declaration

import (
	"fmt"
	"github.com/glmconv/glmconv/quant/format"
)

// fp8 reads quant_method fp8: the releases of Z.ai and DeepSeek (blocks), and
// the older form with one scale for a tensor.
func (r *reader) fp8(o *object) {
	o.noEffect("quant_method", "store_dtype", "dequantize", "version", "is_checkpoint_fp8_serialized", "producer")
	g := Group{Name: "fp8", Path: r.d.Root, Weights: perTensor}
	if raw := o.raw("weight_block_size"); raw != nil {
		rows, cols, ok := blockSize(raw)
		if !ok {
			r.add(o.at("weight_block_size"), Invalid, "it is %s, not [rows, columns]", shorten(string(raw)))
		}
		g.Weights = format.Weight{Type: format.Float, Bits: 8, Strategy: format.Block, BlockRows: rows, BlockCols: cols}
	}
	block := g.Weights.Strategy == format.Block
	switch scheme := o.text("activation_scheme"); {
	case scheme == "" && !o.has("activation_scheme"):
		r.add(o.at("activation_scheme"), Invalid, "activation_scheme is missing, engines require it")
	case scheme == "static" && block:
		r.add(o.at("activation_scheme"), Invalid, "it is static; vLLM refuses static activations with blocks")
	case scheme == "static":
		g.Input = staticTensor
	case scheme == "dynamic" && block:
		g.Input = format.Float8Group
		g.Input.Group = g.Weights.BlockCols
	case scheme == "dynamic":
		g.Input = dynamicTensor
	default:
		r.add(o.at("activation_scheme"), Invalid, "%q is neither dynamic nor static", scheme)
	}
	if f := o.text("fmt"); f != "" && f != "e4m3" {
		r.add(o.at("fmt"), Suspect, "it is %q: engines do not read it, and take codes for e4m3", f)
	}
	switch s := o.text("scale_fmt"); s {
	case "":
	case "ue8m0":
		g.Weights.Used, g.Input.Scale = format.E8M0, format.E8M0
	default:
		r.add(o.at("scale_fmt"), Unsupported, "scales of the form %q are not judged", s)
	}
	r.skipped(o)
	r.cache(o)
	r.d.Groups = append(r.d.Groups, g)
	o.rest(Unknown, ": engines pass over it")
}

// skipped reads the list of modules that are left alone. vLLM and SGLang take
// ignored_layers, and modules_to_not_convert where that is empty.
func (r *reader) skipped(o *object) {
	ignored, skip := o.list("ignored_layers"), o.list("modules_to_not_convert")
	key := "modules_to_not_convert"
	if len(ignored) > 0 {
		key = "ignored_layers"
		if len(skip) > 0 {
			r.add(o.at("modules_to_not_convert"), Suspect, "ignored_layers stands beside it, and engines read only that")
		}
	}
	for i, text := range o.list(key) {
		p, err := New(text, Path)
		if err != nil {
			r.badPattern(fmt.Sprintf("%s.%d", o.at(key), i), err)
			continue
		}
		r.d.Ignore.Add(p)
	}
}

// mxfp8 reads quant_method mxfp8: MXFP8 weights under a list like fp8's.
func (r *reader) mxfp8(o *object) {
	o.noEffect("quant_method", "version", "producer")
	o.one("activation_scheme", "", "dynamic")
	if raw := o.raw("weight_block_size"); raw != nil {
		if rows, cols, ok := blockSize(raw); !ok || rows != 1 || cols != 32 {
			r.add(o.at("weight_block_size"), Invalid, "it is %s, and groups of MXFP8 are [1, 32]", shorten(string(raw)))
		}
	}
	if s := o.text("scale_fmt"); s != "" && s != "ue8m0" {
		r.add(o.at("scale_fmt"), Invalid, "scales of MXFP8 are ue8m0, not %q", s)
	}
	r.skipped(o)
	r.cache(o)
	r.d.Groups = append(r.d.Groups, Group{Name: "mxfp8", Path: r.d.Root, Weights: format.MXFP8, Input: format.MXFP8Group})
	o.rest(Unknown, ": engines pass over it")
}

// cache reads the forms in which a key-value cache is declared: arguments, or
// the name of a number type.
func (r *reader) cache(o *object) {
	if c := o.sub("kv_cache_scheme"); len(c.keys) > 0 {
		r.d.Cache = &Cache{Path: c.path, Form: r.args(c).activation(), Named: "kv_cache_scheme"}
	}
	switch algo := o.text("kv_cache_quant_algo"); algo {
	case "", "none", "None":
	case "FP8", "fp8":
		r.d.Cache = &Cache{Path: o.at("kv_cache_quant_algo"), Form: staticTensor, Named: algo}
	case "NVFP4", "nvfp4":
		r.d.Cache = &Cache{Path: o.at("kv_cache_quant_algo"), Form: format.NVFP4Local, Named: algo}
		r.add(o.at("kv_cache_quant_algo"), Unsupported, "a key-value cache in NVFP4 is not judged")
	default:
		r.add(o.at("kv_cache_quant_algo"), Unsupported, "a key-value cache in %q is not judged", algo)
	}
}
