package layout

import (
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
)

// ctVersion is the compressed-tensors release whose rules are implemented.
const ctVersion = "0.19.0"

// args are the QuantizationArgs of compressed-tensors: all keys, sorted.
type args struct {
	ActOrder       *string        `json:"actorder"`
	BlockStructure []int          `json:"block_structure"`
	Dynamic        any            `json:"dynamic"` // true, false or "local"
	GroupSize      *int           `json:"group_size"`
	NumBits        int            `json:"num_bits"`
	Observer       *string        `json:"observer"`
	ObserverKwargs map[string]any `json:"observer_kwargs"`
	ScaleDType     *string        `json:"scale_dtype"`
	Strategy       string         `json:"strategy"`
	Symmetric      bool           `json:"symmetric"`
	Type           string         `json:"type"`
	ZPDType        *string        `json:"zp_dtype"`
}

type group struct {
	Format            string   `json:"format"`
	InputActivations  *args    `json:"input_activations"`
	OutputActivations *args    `json:"output_activations"`
	Targets           []string `json:"targets"`
	Weights           args     `json:"weights"`
}

type ctConfig struct {
	ConfigGroups map[string]group `json:"config_groups"`
	Format       string           `json:"format"`
	Ratio        *float64         `json:"global_compression_ratio"`
	Ignore       []string         `json:"ignore"`
	KVCache      *args            `json:"kv_cache_scheme"`
	QuantMethod  string           `json:"quant_method"`
	Status       string           `json:"quantization_status"`
	Sparsity     struct{}         `json:"sparsity_config"`
	Transform    struct{}         `json:"transform_config"`
	Version      string           `json:"version"`
}

// numberTypes are the words of QuantizationArgs.type.
var numberTypes = map[format.Type]string{format.Int: "int", format.Float: "float"}

// scaleType is the word for the type of scales of a byte, nil for others.
func scaleType(s format.Scale) *string {
	name, ok := map[format.Scale]string{format.E4M3: "torch.float8_e4m3fn", format.E8M0: "torch.uint8"}[s]
	if !ok {
		return nil
	}
	return &name
}

func weightArgs(q format.Weight) args {
	a := args{Type: numberTypes[q.Type], NumBits: q.Bits, Strategy: q.Strategy.String(), Symmetric: !q.ZeroPoints, ObserverKwargs: map[string]any{}}
	a.Dynamic, a.ScaleDType = false, scaleType(q.Scale)
	switch q.Strategy {
	case format.Group, format.TensorGroup:
		a.GroupSize = &q.Group
	case format.Block:
		a.BlockStructure = []int{q.BlockRows, q.BlockCols}
	}
	return a
}

func activationArgs(act format.Activation) *args {
	if !act.Quantized() {
		return nil
	}
	a := args{Type: numberTypes[act.Type], NumBits: act.Bits, Strategy: act.Strategy.String(), ScaleDType: scaleType(act.Scale),
		Symmetric: !act.ZeroPoints, ObserverKwargs: map[string]any{}}
	if act.Strategy == format.Group || act.Strategy == format.TensorGroup {
		a.GroupSize = &act.Group
	}
	a.Dynamic = act.When == format.Dynamic
	if act.When == format.Local {
		observer := "static_minmax"
		a.Dynamic, a.Observer = "local", &observer
	}
	return &a
}

// ctFormat names the compressor of a weight.
func ctFormat(q format.Weight) string {
	switch {
	case q.Strategy == format.TensorGroup:
		return "nvfp4-pack-quantized"
	case q.Scale == format.E8M0 && q.Bits == 4:
		return "mxfp4-pack-quantized"
	case q.Scale == format.E8M0:
		return "mxfp8-quantized"
	case q.Packing == format.Words:
		return "pack-quantized"
	case q.Type == format.Float:
		return "float-quantized"
	}
	return "int-quantized"
}

func groupOf(c choice, targets ...string) group {
	return group{Format: ctFormat(c.quant), Weights: weightArgs(c.quant), InputActivations: activationArgs(c.act), Targets: targets}
}

// schemeChoices returns what a scheme makes of routed experts and of other
// linears.
func schemeChoices(d *Decisions) (main, rest choice) {
	main, rest = ctScheme(d.Scheme, d.GroupSize, d.Rest)
	if d.Scheme.Micro() {
		main, rest = micro[d.Scheme], micro[d.Scheme]
		if d.Rest == RestFP8 {
			rest = choice{format.Float8, format.Float8Token}
		}
	}
	return main, rest
}

// expertTargets matches the routed experts in checkpoints and engines.
const expertTargets = `re:.*mlp\.experts\.\d+\.(gate|up|down)_proj$`

// schemeGroups returns the config groups of a scheme. The mixed w4a8-fp8 file
// has `Linear` in its int4 group and pack-quantized at the top, without which
// SGLang cannot load it (docs/facts/engine-sglang.md 1.2).
func schemeGroups(d *Decisions) []group {
	main, rest := schemeChoices(d)
	switch {
	case main == rest || !rest.quant.Quantized(): // what stays is on the list to ignore
		return []group{groupOf(main, "Linear")}
	case d.Scheme == W4A8: // vllm-ascend asks for experts by name and has no class for other linears in int4
		return []group{groupOf(main, expertTargets), groupOf(rest, "Linear")}
	}
	return []group{
		groupOf(main, expertTargets, "Linear"),
		groupOf(rest,
			`re:.*self_attn\.(?!indexer\.)[a-z_]+$`, `re:.*self_attn\.indexer\.wq_b$`,
			`re:.*shared_experts\.[a-z_]+_proj$`, `re:.*layers\.\d+\.mlp\.(gate_up|gate|up|down)_proj$`,
			`re:model\.decoder\.mlp\.(gate_up|gate|up|down)_proj$`),
	}
}

func (compressedTensors) Config(d Decisions) (map[string][]byte, error) {
	groups := schemeGroups(&d)
	whole := groups[0].Format
	groups = append(liftedGroups(&d), groups...) // of patterns that match, the first decides
	named := map[string]group{}
	for i, g := range groups {
		named[fmt.Sprintf("group_%d", i)] = g
	}
	return withQuantization(d, ctConfig{ConfigGroups: named, Format: whole, Ignore: ignoreList(d),
		QuantMethod: "compressed-tensors", Status: "compressed", Version: ctVersion})
}
