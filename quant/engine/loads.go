package engine

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
)

// Subject is what the load rules need to know of a result.
type Subject struct {
	Config      *glm.Config
	Scheme      string // fp8, fp8-block, w8a8, w4a8, w4a16, w4a8-fp8
	Format      string // compressed-tensors, hf-fp8, ascend
	Group       int    // int4 group size
	DenseFloat  bool   // dense MLPs are not quantised
	SharedFloat bool   // shared experts are not quantised
	AttnFloat   bool   // attention is not quantised
	MTP         bool   // an MTP layer is there
	MTPFloat    bool   // … and not quantised
}

// Row says whether an engine loads a result at one degree of parallelism.
type Row struct {
	Engine   Engine   `json:"engine"`
	Parallel string   `json:"parallel"` // "TP4", "TP4+EP"
	Loads    bool     `json:"loads"`
	Rule     string   `json:"rule"`  // the rule that forbids it, or a remark
	Flags    []string `json:"flags"` // what the serve command must carry
}

// Degrees are the tensor-parallel sizes that are judged, with and without
// expert parallelism.
var Degrees = []int{1, 2, 4, 8, 16}

// Loads judges a result for every engine and degree.
func Loads(s Subject) []Row {
	var rows []Row
	for _, e := range Engines {
		flags := serveFlags(e, s)
		for _, ep := range []bool{false, true} {
			for _, tp := range Degrees {
				if ep && tp == 1 {
					continue
				}
				c := cell{Subject: s, engine: e, tp: tp, ep: ep}
				row := Row{Engine: e, Parallel: c.name(), Loads: true, Flags: flags}
				for _, r := range rules {
					if r.engine != "" && r.engine != e || r.applies != nil && !r.applies(c) {
						continue
					}
					if complaint := r.check(c); complaint != "" {
						row.Loads, row.Rule, row.Flags = false, complaint, nil
						break
					}
				}
				if row.Loads {
					row.Rule = remark(c)
				}
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// cell is one engine at one degree.
type cell struct {
	Subject
	engine Engine
	tp     int
	ep     bool
}

func (c cell) name() string {
	if c.ep {
		return fmt.Sprintf("TP%d+EP", c.tp)
	}
	return fmt.Sprintf("TP%d", c.tp)
}

// experts is the width of a routed expert on one rank: experts stay whole with
// expert parallelism.
func (c cell) experts() int {
	if c.ep {
		return c.Config.MoEIntermediateSize
	}
	return c.Config.MoEIntermediateSize / c.tp
}

func (c cell) shared() int { return c.Config.MoEIntermediateSize * c.Config.SharedExperts / c.tp }
func (c cell) dense() int  { return c.Config.IntermediateSize / c.tp }

func (c cell) attnOut() int {
	if c.Config.LatentAttention() {
		return c.Config.Heads * c.Config.VHeadDim / c.tp
	}
	return c.Config.Heads * c.Config.HeadDim / c.tp
}

// rule is one line of the table: for which engine (empty: all) and cells it
// counts, and what it says against them.
type rule struct {
	engine  Engine
	source  string
	applies func(cell) bool
	check   func(cell) string
}

func always(complaint string) func(cell) string { return func(cell) string { return complaint } }

func is(scheme, format string) func(cell) bool {
	return func(c cell) bool {
		return (scheme == "" || c.Scheme == scheme) && (format == "" || c.Format == format)
	}
}

// rules are what the engines' current releases demand. The first complaint
// counts.
var rules = []rule{
	{VLLM, "docs/facts/engine-vllm.md 1.4", is("", "ascend"), always("plain vLLM does not read the ascend layout")},
	{SGLang, "docs/facts/engine-sglang.md 1", is("w4a8", "compressed-tensors"), always("no CUDA class for int4 weights with int8 activations")},
	// Found with its own loader (interop/tests/sglang): merged linears take the block size of their scales from the target
	// Linear, and its int4 expert class takes its own group from the same one.
	{SGLang, "CompressedTensorsConfig.weight_block_size", is("w4a8-fp8", ""), always("SGLang 0.5.23 fails while it loads block FP8 beside int4 experts ('NoneType' object is not subscriptable)")},
	{SGLang, "docs/facts/engine-sglang.md 1", is("w8a8", "compressed-tensors"), func(c cell) string {
		if c.MTP && c.MTPFloat {
			return "--quantization w8a8_int8 cannot build the BF16 experts of the MTP layer (use --mtp quantize)"
		}
		return ""
	}},
	{SGLang, "docs/facts/engine-sglang.md 6", is("", "ascend"), func(c cell) string {
		if c.MTP && !c.MTPFloat {
			return "SGLang builds the draft unquantised (use --mtp float)"
		}
		return ""
	}},
	{Ascend, "docs/facts/engine-vllm-ascend.md 1.2", is("fp8", ""), always("vllm-ascend casts FP8 values to INT8 without an error: garbage")},
	{Ascend, "docs/facts/engine-vllm-ascend.md 1.2", is("fp8-block", ""), always("vllm-ascend has no class for block FP8")},
	{Ascend, "docs/facts/engine-vllm-ascend.md 1.2", is("w4a8-fp8", ""), always("vllm-ascend takes pack-quantized for weight-only and fails on the shapes")},
	{Ascend, "docs/facts/engine-vllm-ascend.md 1.2", is("w4a16", ""),
		always("vllm-ascend reads int4 weight-only experts alone, in groups that config.json cannot name")},
	{Ascend, "docs/facts/engine-vllm-ascend.md 1.2", is("w4a8", "compressed-tensors"),
		always("vllm-ascend wants second scales for int4 linears (use --format ascend)")},

	{"", "all engines", nil, func(c cell) string {
		if c.Config.Heads%c.tp != 0 {
			return fmt.Sprintf("%d attention heads do not split over %d ranks", c.Config.Heads, c.tp)
		}
		if kv := c.Config.KVHeads; !c.Config.LatentAttention() && kv%c.tp != 0 && c.tp%kv != 0 {
			return fmt.Sprintf("%d KV heads do not split over %d ranks", kv, c.tp)
		}
		if c.ep && c.Config.Experts%c.tp != 0 {
			return fmt.Sprintf("%d experts do not split over %d ranks", c.Config.Experts, c.tp)
		}
		for _, d := range []struct {
			name string
			n    int
		}{{"intermediate_size", c.Config.IntermediateSize}, {"moe_intermediate_size", c.Config.MoEIntermediateSize}} {
			if d.n%c.tp != 0 {
				return fmt.Sprintf("%s %d does not split over %d ranks", d.name, d.n, c.tp)
			}
		}
		return ""
	}},

	{VLLM, "docs/facts/engine-vllm.md 1.5", is("fp8-block", "hf-fp8"), func(c cell) string {
		if n := gcd(128, c.experts(), c.Config.HiddenSize); n < 32 {
			return fmt.Sprintf("expert width per rank %d leaves blocks of %d, vLLM refines them to 32 at the least", c.experts(), n)
		}
		return blockDense(c)
	}},
	{VLLM, "docs/facts/engine-vllm.md 1.5", is("fp8-block", "compressed-tensors"), func(c cell) string {
		if c.experts()%128 != 0 {
			return fmt.Sprintf("expert width per rank must be a multiple of 128, it is %d", c.experts())
		}
		return blockDense(c)
	}},
	{SGLang, "docs/facts/engine-sglang.md 1", is("fp8-block", ""), func(c cell) string {
		if c.experts()%128 != 0 {
			return fmt.Sprintf("expert width per rank must be a multiple of 128, it is %d", c.experts())
		}
		return blockDense(c)
	}},
	{"", "docs/facts/engine-vllm.md 1.5, docs/facts/engine-sglang.md 1", is("w4a8-fp8", ""), func(c cell) string {
		if c.experts()%256 != 0 || c.Config.HiddenSize%256 != 0 {
			return fmt.Sprintf("hidden size and expert width per rank must be multiples of 256, they are %d and %d", c.Config.HiddenSize, c.experts())
		}
		return blockDense(c)
	}},
	{"", "docs/facts/engine-vllm.md 1.5", func(c cell) bool {
		return c.Scheme == "w4a16" || c.Scheme == "w4a8" && c.Format == "compressed-tensors"
	}, groupsFit},
	{"", "docs/facts/engine-vllm.md 1.5", is("w4a16", ""), func(c cell) string {
		if c.Config.HiddenSize%128 != 0 {
			return fmt.Sprintf("Marlin's expert kernel needs hidden size %% 128 = 0, it is %d", c.Config.HiddenSize)
		}
		return ""
	}},
	{Ascend, "docs/facts/engine-vllm-ascend.md 3", is("w4a8", "ascend"), func(c cell) string {
		switch {
		case c.ep:
			return ""
		case c.tp > 16 || 16%c.tp != 0:
			return fmt.Sprintf("scale_bias has 16 columns and does not split over %d ranks; use expert parallelism", c.tp)
		case c.experts()%4 != 0:
			return fmt.Sprintf("expert width per rank %d is no multiple of 4", c.experts())
		}
		return ""
	}},
	{SGLang, "docs/facts/engine-sglang.md 6", is("", "ascend"), func(c cell) string {
		if c.Scheme == "w4a8" && !c.ep && c.tp > 1 {
			return "SGLang adds the whole scale_bias on every rank; use expert parallelism"
		}
		return ""
	}},
}

// blockDense are the 128-block rules of linears that are split over ranks even
// with expert parallelism.
func blockDense(c cell) string {
	for _, d := range []struct {
		what  string
		n     int
		float bool
	}{{"shared expert", c.shared(), c.SharedFloat}, {"dense MLP", c.dense(), c.DenseFloat}, {"attention output", c.attnOut(), c.AttnFloat}} {
		if !d.float && c.tp > 1 && d.n%128 != 0 {
			return fmt.Sprintf("%s width per rank must be a multiple of 128, it is %d", d.what, d.n)
		}
	}
	return ""
}

// groupsFit: int4 groups must not be cut by tensor parallelism.
func groupsFit(c cell) string {
	if c.Group <= 0 {
		return ""
	}
	for _, d := range []struct {
		what  string
		n     int
		float bool
	}{{"expert", c.experts(), false}, {"shared expert", c.shared(), c.SharedFloat}, {"dense MLP", c.dense(), c.DenseFloat}, {"attention output", c.attnOut(), c.AttnFloat}} {
		if !d.float && d.n%c.Group != 0 {
			return fmt.Sprintf("%s width per rank %d is no multiple of the group size %d; use expert parallelism or a smaller --group-size", d.what, d.n, c.Group)
		}
	}
	return ""
}

func gcd(n ...int) int {
	g := n[0]
	for _, x := range n[1:] {
		for x != 0 {
			g, x = x, g%x
		}
	}
	return g
}

// remark says on what hardware a result that loads is at home.
func remark(c cell) string {
	dsa := c.Config.SparseAttention()
	switch {
	case c.engine == Ascend && c.Config.NestedText():
		return "resolves; GLM-4.5V is not in vllm-ascend's support matrix"
	case c.engine == Ascend:
		return ""
	case c.engine == SGLang && c.Format == "ascend":
		return "on Ascend NPUs only"
	case c.Scheme == "w4a8":
		return "CPU and Arm kernels only; on GPUs activations stay in BF16"
	case c.Scheme == "w8a8" && dsa:
		return "no GPU of the A100 generation has kernels for sparse attention"
	case c.Scheme == "w8a8":
		return "A100 and newer"
	case c.Scheme == "w4a8-fp8":
		return "H100 and H200 (compute capability 9.0)"
	case c.Scheme == "fp8-block" && c.engine == SGLang && c.Format == "compressed-tensors":
		return "Ada, Hopper and newer: the Ampere path refuses block scales"
	case dsa:
		return "Hopper and newer (sparse attention)"
	case c.Scheme == "fp8" || c.Scheme == "fp8-block":
		return "Ada, Hopper and newer in FP8; Ampere weight-only"
	}
	return ""
}

// serveFlags are what the serve command must carry for this result.
func serveFlags(e Engine, s Subject) []string {
	var f []string
	drafts := s.Config.DraftSteps()
	sharedDiffers := s.SharedFloat || s.Scheme == "w4a8-fp8" || s.Scheme == "w4a8" && s.Format == "ascend"
	switch e {
	case VLLM:
		f = append(f, `--model-loader-extra-config '{"enable_weights_track": true}'`)
	case SGLang:
		if s.Scheme == "w8a8" && s.Format == "compressed-tensors" {
			f = append(f, "--quantization w8a8_int8")
		}
		if sharedDiffers {
			f = append(f, "--disable-shared-experts-fusion")
		}
	case Ascend:
		if s.Format == "ascend" {
			f = append(f, "--quantization ascend")
		}
	}
	if !s.MTP {
		return f
	}
	switch {
	case e == SGLang:
		f = append(f, fmt.Sprintf("--speculative-algorithm EAGLE --speculative-num-steps %d --speculative-eagle-topk 1 --speculative-num-draft-tokens %d", drafts, drafts+1))
	case e == Ascend && s.Config.SparseAttention():
		f = append(f, fmt.Sprintf(`--speculative-config '{"method": "deepseek_mtp", "num_speculative_tokens": %d}'`, drafts))
	default:
		f = append(f, fmt.Sprintf(`--speculative-config '{"method": "mtp", "num_speculative_tokens": %d}'`, drafts))
	}
	return f
}
