package layout

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// Acts is how activations are quantised in front of a weight at run time.
type Acts uint8

// The activation formats.
const (
	ActsNone     Acts = iota // weight-only, or an unquantised weight
	ActsInt8                 // int8, one scale a token
	ActsFP8                  // E4M3, one scale a token
	ActsFP8Group             // E4M3, one scale per token and 128 input columns
)

// Declared is what a checkpoint's configuration says of one module.
type Declared struct {
	Encoding Encoding
	Group    int // int4 group size, 0 = channel
	Acts     Acts
	Source   string // the group, list or entry that says so
}

// Existing is what an existing checkpoint, ours or another tool's, says of its
// own quantisation. It answers for modules by their checkpoint names; how an
// engine reads the same words under its own names is another matter.
type Existing struct {
	Method string // "compressed-tensors", "fp8", "ascend", "" for full precision
	Format Format // "" for full precision

	ignore  []pattern
	groups  []declaredGroup
	schemes map[string]string // ascend: tensor name → scheme
}

type declaredGroup struct {
	name    string
	targets []pattern
	is      Declared
	err     error // why no layout of this package has it
}

// ConfigError reports a quantisation that a configuration describes wrongly
// or in words that mean nothing here.
type ConfigError struct {
	File   string // config.json or quant_model_description.json
	Where  string // key or module
	Reason string
	Err    error // ErrForeign or ErrMalformed
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("layout: %s: %s: %s", e.File, e.Where, e.Reason)
}

// Unwrap returns ErrForeign or ErrMalformed.
func (e *ConfigError) Unwrap() error { return e.Err }

// Detect reads what a checkpoint says of its quantisation: the description if
// there is one (nil: there is none), which wins in every engine that knows it,
// else quantization_config. The error is a *ConfigError.
func Detect(cfg *glm.Config, description []byte) (*Existing, error) {
	switch {
	case description != nil:
		return detectAscend(description)
	case cfg.QuantizationConfig == nil:
		return &Existing{}, nil
	case cfg.Quantization == "compressed-tensors":
		return detectCT(cfg.QuantizationConfig)
	case cfg.Quantization == "fp8":
		return detectFP8(cfg.QuantizationConfig)
	}
	return nil, configError("quant_method", ErrForeign, "%q; known are compressed-tensors, fp8 and the description of ascend", cfg.Quantization)
}

func configError(where string, kind error, format string, args ...any) *ConfigError {
	return &ConfigError{File: "config.json", Where: "quantization_config." + where, Reason: fmt.Sprintf(format, args...), Err: kind}
}

// Quantized reports whether the checkpoint declares a quantisation at all.
func (e *Existing) Quantized() bool { return e.Method != "" }

// Module returns what is declared of a linear module of the given checkpoint
// name. A module that nothing names is unquantised, as engines have it; in an
// ascend description that is an error.
func (e *Existing) Module(module string) (Declared, error) {
	for i := range e.ignore {
		if e.ignore[i].match(module) {
			return Declared{Source: "ignored by " + e.ignore[i].text}, nil
		}
	}
	if e.schemes != nil {
		return e.described(module)
	}
	// Names win over the class name, and the first group wins.
	for _, class := range []bool{false, true} {
		for i := range e.groups {
			g := &e.groups[i]
			for j := range g.targets {
				if p := &g.targets[j]; p.class() == class && (class || p.match(module)) {
					return g.is, g.err
				}
			}
		}
	}
	return Declared{Source: "in no group"}, nil
}

// Bits returns the width of a module's integer codes, 0 for an unquantised or
// unknown one.
func (e *Existing) Bits(module string) int {
	d, err := e.Module(module)
	if err != nil || !d.Encoding.Quantized() {
		return 0
	}
	switch d.Encoding {
	case Int4GroupEnc, Int4PackedEnc, Int4ChannelAsc:
		return 4
	}
	return 8
}

// Lookup finds out how a weight is stored and holds it against what is
// declared of it. A disagreement wraps ErrMalformed: the engines would take
// codes for values or values for codes. Only linears that engines build with a
// quantisation are compared, except that indexer.wk may be FP8 or not.
func (e *Existing) Lookup(r TensorReader, t *glm.Tensor) (Stored, error) {
	h := Hints{Bits: e.Bits}
	if len(t.Shape) == 2 {
		h.Cols = func(string) int { return int(t.Shape[1]) }
	}
	s, err := Lookup(r, t.Module, h)
	if err != nil || !t.Role.IsLinear() {
		return s, err
	}
	if len(t.Shape) == 2 && (int64(s.Rows) != t.Shape[0] || int64(s.Cols) != t.Shape[1]) {
		return s, fmt.Errorf("layout: %s holds a weight [%d, %d], the model needs %v: %w", s.Codes.Name, s.Rows, s.Cols, t.Shape, ErrMalformed)
	}
	d, err := e.Module(t.Module)
	if err != nil {
		return s, err
	}
	if s.Encoding == d.Encoding && (s.Group == d.Group || s.Group == 0 && d.Group >= s.Cols) {
		return s, nil
	}
	if t.Role == glm.IndexerK && (s.Encoding == Float || s.Encoding == FP8BlockEnc || s.Encoding == FP8ChannelEnc) {
		return s, nil
	}
	return s, fmt.Errorf("layout: %s is stored as %s, the configuration says %s (%s): %w",
		t.Module, inWords(s.Encoding, s.Group), inWords(d.Encoding, d.Group), d.Source, ErrMalformed)
}

func inWords(e Encoding, group int) string {
	if group > 0 {
		return fmt.Sprintf("%s of %d", e, group)
	}
	return e.String()
}

// detectFP8 reads the HF fp8 form.
func detectFP8(raw json.RawMessage) (*Existing, error) {
	var q struct {
		Block   []int    `json:"weight_block_size"`
		Ignored []string `json:"ignored_layers"`
		Not     []string `json:"modules_to_not_convert"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, configError("fp8", ErrMalformed, "%v", err)
	}
	if len(q.Block) != 2 || q.Block[0] != 128 || q.Block[1] != 128 {
		return nil, configError("weight_block_size", ErrForeign, "%v; only [128, 128] is known", q.Block)
	}
	if q.Ignored == nil {
		q.Ignored = q.Not
	}
	e := &Existing{Method: "fp8", Format: HFFP8}
	for _, text := range q.Ignored {
		e.ignore = append(e.ignore, pattern{text: text, parent: true})
	}
	e.groups = []declaredGroup{{name: "fp8", targets: []pattern{{text: "Linear"}},
		is: Declared{Encoding: FP8BlockEnc, Acts: ActsFP8Group, Source: "fp8 blocks of 128x128"}}}
	return e, nil
}

// detectAscend reads a ModelSlim description.
func detectAscend(raw []byte) (*Existing, error) {
	bad := func(where string, kind error, format string, args ...any) error {
		return &ConfigError{File: DescriptionName, Where: where, Reason: fmt.Sprintf(format, args...), Err: kind}
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, bad("the file", ErrMalformed, "%v", err)
	}
	e := &Existing{Method: "ascend", Format: Ascend, schemes: map[string]string{}}
	int4 := false
	for k, v := range entries {
		var scheme string
		if strings.Contains(k, ".") && json.Unmarshal(v, &scheme) == nil {
			e.schemes[k] = scheme
			int4 = int4 || scheme == "W4A8_DYNAMIC"
		}
	}
	if int4 {
		var version string
		var group int
		_ = json.Unmarshal(entries["version"], &version) // absent or another type: refused below
		if err := json.Unmarshal(entries["group_size"], &group); err != nil || group != 0 || version != "1.0.0" {
			return nil, bad("version, group_size", ErrForeign,
				"%q and %s: W4A8_DYNAMIC is known with version 1.0.0 and group_size 0 only; others are older layouts", version, orAbsent(entries["group_size"]))
		}
	}
	return e, nil
}

func orAbsent(raw json.RawMessage) string {
	if raw == nil {
		return "no group_size"
	}
	return "group_size " + string(raw)
}

// described looks a module up in the description.
func (e *Existing) described(module string) (Declared, error) {
	scheme, ok := e.schemes[module+".weight"]
	d := Declared{Source: scheme, Acts: ActsInt8}
	switch {
	case !ok:
		return d, &ConfigError{File: DescriptionName, Where: module + ".weight", Reason: "no entry; vllm-ascend stops with a KeyError", Err: ErrMalformed}
	case scheme == "FLOAT":
		d.Acts = ActsNone
	case scheme == "W8A8_DYNAMIC":
		d.Encoding = Int8ChannelEnc
	case scheme == "W4A8_DYNAMIC":
		d.Encoding = Int4ChannelAsc
	default:
		return d, &ConfigError{File: DescriptionName, Where: module + ".weight", Reason: fmt.Sprintf("scheme %q", scheme), Err: ErrForeign}
	}
	return d, nil
}
