package layout

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// MTPMode is the value of --mtp.
type MTPMode string

// The modes. Auto quantises the MTP layer like the body for the 8-bit schemes
// of compressed-tensors and hf-fp8 and keeps it in the source's precision for
// the 4-bit schemes and in every ascend layout.
const (
	MTPAuto     MTPMode = "auto"
	MTPQuantize MTPMode = "quantize"
	MTPFloat    MTPMode = "float"
	MTPDrop     MTPMode = "drop"
)

// Options are the choices that decide what every weight becomes.
type Options struct {
	Scheme    Scheme
	Format    Format
	GroupSize int // int4 group, 0 for the default of 128
	MTP       MTPMode
	// Keep reports whether the user wants a module left alone (--ignore, or a
	// --target that does not match).
	Keep func(module string) bool
}

// Decision is what one tensor becomes and why.
type Decision struct {
	Weight Weight
	Scheme string // label: "FP8", "W8A8_DYNAMIC", "BF16", "F32", …
	Reason string
	Drop   bool
}

// Input is a tensor to decide on.
type Input struct {
	Tensor glm.Tensor
	Source safetensors.DType
}

// Decide returns the decisions for all tensors of a model, in order. Decisions
// are uniform over fused groups: where one member cannot take the encoding,
// its whole unit stays in the source's precision.
func Decide(cfg *glm.Config, tensors []Input, o Options) ([]Decision, error) {
	if o.GroupSize == 0 {
		o.GroupSize = 128
	}
	if o.GroupSize != 32 && o.GroupSize != 64 && o.GroupSize != 128 {
		return nil, &ImpossibleError{What: fmt.Sprintf("--group-size %d", o.GroupSize), Rule: "the kernels know groups of 32, 64 and 128", Nearest: "--group-size 128"}
	}
	if err := possible(cfg, o); err != nil {
		return nil, err
	}
	out := make([]Decision, len(tensors))
	for i, in := range tensors {
		out[i] = first(cfg, in, o)
	}
	uniform(out)
	if err := something(out, o); err != nil {
		return nil, err
	}
	if o.Format == Ascend {
		widenBiases(out)
	}
	for i := range out {
		out[i].Scheme = label(out[i].Weight, o)
	}
	return out, nil
}

// possible refuses what no part of the model could be served with.
func possible(cfg *glm.Config, o Options) error {
	if err := Supported(o.Scheme, o.Format); err != nil {
		return err
	}
	if o.Scheme == W4A8FP8 {
		if o.GroupSize != 128 {
			return &ImpossibleError{What: "w4a8-fp8", Rule: "its kernels have groups of 128 built in", Nearest: "--group-size 128"}
		}
		for _, d := range []struct {
			name string
			n    int
		}{{"hidden_size", cfg.HiddenSize}, {"moe_intermediate_size", cfg.MoEIntermediateSize}} {
			if d.n%256 != 0 {
				return &ImpossibleError{
					What:    fmt.Sprintf("w4a8-fp8 cannot be served for %s", cfg.Family),
					Rule:    fmt.Sprintf("vLLM's kernel needs %s %% 256 = 0, it is %d", d.name, d.n),
					Nearest: "--scheme w8a8 (A100) or --scheme fp8 (H100 and newer) load at every TP",
				}
			}
		}
	}
	return nil
}

// first decides on one tensor alone.
func first(cfg *glm.Config, in Input, o Options) Decision {
	t := in.Tensor
	d := Decision{Weight: Weight{Tensor: t, Source: in.Source}}
	if t.MTP && o.MTP == MTPDrop {
		d.Drop, d.Reason = true, "--mtp drop"
		return d
	}
	if t.Param != "weight" || !t.Role.IsLinear() {
		d.Reason = floatReason(t)
		return d
	}
	if o.Keep != nil && o.Keep(t.Module) {
		d.Reason = "kept by --ignore or --target"
		return d
	}
	if t.MTP && !quantizesMTP(o) {
		d.Reason = "MTP layer kept in the source's precision (--mtp " + string(mode(o)) + ")"
		return d
	}
	enc, why := encodingFor(cfg, t, o)
	if enc == Float {
		d.Reason = why
		return d
	}
	d.Weight.Encoding = enc
	switch enc {
	case Int4GroupEnc, Int4PackedEnc:
		d.Weight.Group = o.GroupSize
		d.Weight.FP8Scales = o.Scheme == W4A8FP8
	}
	if rule := misfit(d.Weight); rule != "" {
		d.set(wider(enc), rule)
		return d
	}
	d.Reason = "scheme " + string(o.Scheme)
	return d
}

// set gives a tensor another encoding than its scheme's.
func (d *Decision) set(e Encoding, reason string) {
	d.Weight.Encoding, d.Weight.Group, d.Weight.FP8Scales = e, 0, false
	d.Reason = reason
}

// wider is the encoding that a weight falls back to when it cannot take its
// scheme's: int8 where the layout has it beside int4, else the source's own.
func wider(e Encoding) Encoding {
	if e == Int4ChannelAsc {
		return Int8ChannelEnc
	}
	return Float
}

// something refuses a plan that would leave every linear as it is: the result
// would declare a scheme that nothing in it has.
func something(out []Decision, o Options) error {
	var first *Decision
	done := false
	eachLinear(out, func(d *Decision) {
		done = done || d.Weight.Encoding.Quantized()
		if first == nil {
			first = d
		}
	})
	if first == nil || done {
		return nil
	}
	nearest := "check --ignore, --target and --mtp; --scheme fp8 and --scheme w8a8 have no dimension rules"
	if o.Scheme == W4A8 || o.Scheme == W4A16 {
		nearest = "--group-size 32 divides more widths; " + nearest
	}
	return &ImpossibleError{What: string(o.Scheme) + " would quantise nothing of this model", Rule: first.Weight.Tensor.Name + ": " + first.Reason, Nearest: nearest}
}

func mode(o Options) MTPMode {
	if o.MTP == "" {
		return MTPAuto
	}
	return o.MTP
}

func quantizesMTP(o Options) bool {
	switch mode(o) {
	case MTPQuantize:
		return true
	case MTPAuto:
		return o.Format != Ascend && (o.Scheme == FP8 || o.Scheme == FP8Block || o.Scheme == W8A8)
	}
	return false
}

// floatReason says why a tensor is never quantised.
func floatReason(t glm.Tensor) string {
	switch {
	case t.Role == glm.RouterBias:
		return "router bias: F32 end to end"
	case t.Role == glm.Router:
		return "router: engines build it unquantised"
	case t.Role == glm.MTPProj:
		return "eh_proj: engines build it unquantised"
	case t.Role.IsVision():
		return "vision tower: kept as it is"
	case t.Role == glm.Embedding || t.Role == glm.MTPEmbedding:
		return "embedding"
	case t.Role == glm.Head || t.Role == glm.MTPHead:
		return "head"
	case t.Role == glm.IndexerProj || t.Role == glm.IndexerKNorm:
		return "indexer: engines build it unquantised"
	case t.Param == "bias":
		return "bias"
	case t.Role == glm.Unknown:
		return "not in the family's table: copied as it is"
	}
	return "norm"
}

// encodingFor is the table role × scheme × format, before dimensions count.
func encodingFor(cfg *glm.Config, t glm.Tensor, o Options) (Encoding, string) {
	blockFP8 := o.Scheme == FP8Block
	switch {
	case t.Role == glm.AttnKVB && !blockFP8:
		return Float, "kv_b_proj: engines absorb it in BF16"
	case t.Role == glm.IndexerK && o.Format != HFFP8:
		return Float, "indexer.wk: read as BF16 by every engine"
	}
	switch o.Scheme {
	case FP8:
		return FP8ChannelEnc, ""
	case FP8Block:
		return FP8BlockEnc, ""
	case W8A8:
		return Int8ChannelEnc, ""
	case W4A8:
		if o.Format == CompressedTensors {
			return Int4GroupEnc, ""
		}
		if t.Role.IsExpert() {
			return Int4ChannelAsc, ""
		}
		return Int8ChannelEnc, ""
	case W4A16:
		if t.Role.IsShared() && !cfg.LatentAttention() {
			return Float, "shared expert: SGLang cannot run it in int4 beside expert parallelism"
		}
		if t.Role == glm.AttnQA || t.Role == glm.AttnKVA {
			return Float, "SGLang joins q_a_proj and kv_a_proj_with_mqa while it loads, their weight_shape too, and refuses the result"
		}
		return Int4PackedEnc, ""
	case W4A8FP8:
		if t.Role.IsExpert() {
			return Int4PackedEnc, ""
		}
		return FP8BlockEnc, ""
	}
	return Float, "no rule"
}

// misfit returns the dimension rule that a weight breaks, or "".
func misfit(w Weight) string {
	n, k := w.Dims()
	role := w.Tensor.Role
	switch w.Encoding {
	case FP8BlockEnc:
		merged := role != glm.AttnKVA && w.Tensor.Group != "" // the last shard of a merged weight may be ragged
		if merged && n%128 != 0 {
			return fmt.Sprintf("%d rows do not fill 128-row blocks when engines merge the group", n)
		}
		if (role.IsDense() || role.IsExpert() || role.IsShared()) && k%128 != 0 {
			return fmt.Sprintf("%d columns do not fill 128-column blocks", k)
		}
	case Int4GroupEnc:
		if k%w.Group != 0 {
			return fmt.Sprintf("%d columns are not groups of %d", k, w.Group)
		}
	case Int4PackedEnc:
		switch {
		case k%w.Group != 0:
			return fmt.Sprintf("%d columns are not groups of %d", k, w.Group)
		case k%8 != 0:
			return fmt.Sprintf("%d columns do not fill 32-bit words", k)
		case !role.IsExpert() && (n%64 != 0 || k%128 != 0):
			return fmt.Sprintf("[%d, %d] does not fit SGLang's Marlin kernel (rows %% 64, columns %% 128)", n, k)
		}
	case Int4ChannelAsc:
		// The runtime views four packed bytes of the output dimension as an
		// int32: gate and up are stacked first, down stands alone
		// (docs/facts/ascend.md 2.5).
		rows := 4
		if role == glm.ExpertDown {
			rows = 8
		}
		if n%rows != 0 || k%downParts != 0 {
			return fmt.Sprintf("[%d, %d] cannot be packed as int4 (rows %% %d, columns %% %d)", n, k, rows, downParts)
		}
	}
	return ""
}

// unit names the set of weights that must share an encoding: the fused group,
// all experts of a layer, and a whole MLP, whose halves no engine wants apart.
func unit(t *glm.Tensor) string {
	switch {
	case t.Role.IsDense() || t.Role.IsShared():
		return t.Module[:max(strings.LastIndexByte(t.Module, '.'), 0)]
	case t.Group != "":
		return t.Group // for experts: ….mlp.experts
	}
	return t.Module
}

// width orders encodings by what they keep.
func width(e Encoding) int {
	switch e {
	case Float, Widen:
		return 2
	case Int8ChannelEnc:
		return 1
	}
	return 0
}

// uniform makes every unit agree on the widest encoding of its members: one in
// the source's precision keeps all there, one in int8 lifts int4.
func uniform(out []Decision) {
	units := map[string]*Decision{}
	eachLinear(out, func(d *Decision) {
		u := unit(&d.Weight.Tensor)
		if w := units[u]; w == nil || width(d.Weight.Encoding) > width(w.Weight.Encoding) {
			units[u] = d
		}
	})
	eachLinear(out, func(d *Decision) {
		if w := units[unit(&d.Weight.Tensor)]; d.Weight.Encoding != w.Weight.Encoding {
			d.set(w.Weight.Encoding, "one with "+w.Weight.Tensor.Module+": "+w.Reason)
		}
	})
}

func eachLinear(out []Decision, do func(*Decision)) {
	for i := range out {
		if t := &out[i].Weight.Tensor; !out[i].Drop && t.Param == "weight" && t.Role.IsLinear() {
			do(&out[i])
		}
	}
}

// widenBiases stores the biases of quantised layers as F32, as the NPU's
// kernels take them (docs/facts/ascend.md 0).
func widenBiases(out []Decision) {
	quantized := map[string]bool{}
	for _, d := range out {
		if d.Weight.Encoding.Quantized() {
			quantized[d.Weight.Tensor.Module] = true
		}
	}
	for i := range out {
		w := &out[i].Weight
		if w.Tensor.Param == "bias" && quantized[w.Tensor.Module] && w.Source != safetensors.F32 {
			w.Encoding, out[i].Reason = Widen, "bias of a quantised layer"
		}
	}
}

// label names the scheme of one weight, in the layout's own words.
func label(w Weight, o Options) string {
	switch w.Encoding {
	case FP8ChannelEnc:
		return "FP8"
	case FP8BlockEnc:
		return "FP8 128x128"
	case Int8ChannelEnc:
		if o.Format == Ascend {
			return "W8A8_DYNAMIC"
		}
		return "W8A8"
	case Int4GroupEnc:
		return fmt.Sprintf("W4A8 g%d", w.Group)
	case Int4PackedEnc:
		if w.FP8Scales {
			return fmt.Sprintf("W4A8-FP8 g%d", w.Group)
		}
		return fmt.Sprintf("W4A16 g%d", w.Group)
	case Int4ChannelAsc:
		return "W4A8_DYNAMIC"
	case Widen:
		return "F32"
	}
	return w.Source.String()
}
