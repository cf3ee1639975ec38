package layout

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/safetensors"
)

// DroppedMTP is the rule by which tensors of an MTP layer are left out.
const DroppedMTP = "MTP layer left out on request"

// MTPMode says what becomes of the MTP layer.
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
	GroupSize int // int4 group, 0 for the default of 128, or PerChannel
	MTP       MTPMode
	// Rest says what becomes of linears that are no routed experts, where the
	// scheme leaves it open; "" is RestFloat, of w4a8 RestSame.
	Rest       RestMode
	ZeroPoints bool // asymmetric codes
	// Keep reports whether the user wants a module left alone (a pattern
	// to ignore, or none of those to quantize matches).
	Keep func(module string) bool
	// Static, if given, tells how the inputs of modules are quantized whose range
	// is known. Formats take what their engines have kernels for.
	Static  func(module string) (StaticInput, bool)
	Rotated bool // the source is
	// Lifted are the units (Unit) that take something richer than the scheme's.
	Lifted map[string]Lift
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
	Tensor *glm.Tensor
	Source safetensors.DType
}

// Decide returns the decisions for all tensors of a model, in order. Decisions
// are uniform over fused groups: where one member cannot take the encoding,
// its whole unit stays in the source's precision.
func Decide(cfg *glm.Config, tensors []Input, o Options) ([]Decision, error) {
	if err := o.checkRest(); err != nil {
		return nil, err
	}
	if err := o.checkMicro(); err != nil {
		return nil, err
	}
	if err := o.setGroup(); err != nil {
		return nil, err
	}
	supported := Supported
	if o.Rotated {
		supported = SupportedRotated
	}
	if err := supported(o.Scheme, o.Format); err != nil {
		return nil, err
	}
	l, err := For(o.Format)
	if err != nil {
		return nil, err
	}
	if err := l.possible(cfg, &o); err != nil {
		return nil, err
	}
	out := make([]Decision, len(tensors))
	for i := range tensors {
		out[i] = decide(l, cfg, &tensors[i], &o)
	}
	unify(out, o.Scheme)
	if err := requireAnyQuantized(out, o); err != nil && o.Scheme != BF16 {
		return nil, err
	}
	l.settle(out)
	for i := range out {
		if w := &out[i].Weight; w.Quantized() {
			out[i].Scheme = l.label(w)
		} else {
			out[i].Scheme = w.DType.String()
		}
	}
	return out, nil
}

// decide decides on one tensor alone.
func decide(l Layout, cfg *glm.Config, in *Input, o *Options) Decision {
	t := in.Tensor
	d := Decision{Weight: Weight{Tensor: t, Source: in.Source, DType: in.Source}}
	if t.MTP && o.MTP == MTPDrop {
		d.Drop, d.Reason = true, DroppedMTP
		return d
	}
	if t.Param != "weight" || !t.Role.IsLinear() {
		d.Reason = floatReason(t)
		return d
	}
	if o.Keep != nil && o.Keep(t.Module) {
		d.Reason = "kept by a pattern of modules to ignore or to quantize"
		return d
	}
	if t.MTP && !quantizesMTP(l, o) {
		d.Reason = "MTP layer kept in the source's precision (mode " + string(mode(o)) + ")"
		return d
	}
	c, why := l.choose(cfg, t, o)
	c, why = o.lifted(l, t, c, why)
	d.set(c, why)
	if c.act.When == format.Static && o.Static != nil {
		d.Weight.Input, _ = o.Static(t.Module)
	}
	if !d.Weight.Quantized() {
		return d
	}
	d.Reason = "scheme " + string(o.Scheme)
	if rule := l.misfit(&d.Weight); rule != "" {
		d.set(l.fallback(c), rule)
	}
	return d
}

// set says what a tensor becomes.
func (d *Decision) set(c choice, reason string) {
	d.Weight.Quant, d.Weight.Act, d.Reason = c.quant, c.act, reason
}

// requireAnyQuantized refuses a plan that would leave every linear as it is: the result
// would declare a scheme that nothing in it has.
func requireAnyQuantized(out []Decision, o Options) error {
	var first *Decision
	done := false
	eachLinear(out, func(d *Decision) {
		done = done || d.Weight.Quantized()
		if first == nil {
			first = d
		}
	})
	if first == nil || done {
		return nil
	}
	nearest := "check the patterns of modules and the mode of the MTP layer; fp8 and w8a8 have no dimension rules"
	if o.Scheme == W4A8 || o.Scheme == W4A16 {
		nearest = "groups of 32 divide more widths; " + nearest
	}
	return &ImpossibleError{What: string(o.Scheme) + " would quantise nothing of this model",
		Rule: first.Weight.Tensor.Name + ": " + first.Reason, Nearest: nearest}
}

func mode(o *Options) MTPMode {
	if o.MTP == "" {
		return MTPAuto
	}
	return o.MTP
}

func quantizesMTP(l Layout, o *Options) bool {
	switch mode(o) {
	case MTPQuantize:
		return true
	case MTPAuto:
		return l.mtpByDefault(o.Scheme)
	}
	return false
}

// Why engines take some linears unquantized whatever the scheme.
const (
	keptKVB      = "kv_b_proj: engines absorb it in BF16"
	keptIndexerK = "indexer.wk: read as BF16 by every engine"
)

// floatReason says why a tensor is never quantised.
func floatReason(t *glm.Tensor) string {
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
