package layout

import "slices"

// ctVersion is the compressed-tensors release whose rules are implemented.
const ctVersion = "0.19.0"

// args are the QuantizationArgs of compressed-tensors: all keys, sorted.
type args struct {
	ActOrder       *string        `json:"actorder"`
	BlockStructure []int          `json:"block_structure"`
	Dynamic        bool           `json:"dynamic"`
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

func arg(kind string, bits int, strategy string, dynamic bool, group int) args {
	a := args{Type: kind, NumBits: bits, Strategy: strategy, Dynamic: dynamic, Symmetric: true, ObserverKwargs: map[string]any{}}
	if group > 0 {
		a.GroupSize = &group
	}
	if strategy == "block" {
		a.BlockStructure = []int{128, 128}
	}
	return a
}

func groupOf(format string, weights args, acts *args, targets ...string) group {
	return group{Format: format, Weights: weights, InputActivations: acts, Targets: targets}
}

// schemeGroups returns the config groups of a scheme. The mixed w4a8-fp8 file
// has `Linear` in its int4 group and pack-quantized at the top, without which
// SGLang cannot load it (docs/facts/engine-sglang.md 1.2).
func schemeGroups(s Scheme, groupSize int) (map[string]group, string) {
	fp8Token, int8Token := arg("float", 8, "token", true, 0), arg("int", 8, "token", true, 0)
	fp8Group := arg("float", 8, "group", true, 128)
	int4 := arg("int", 4, "group", false, groupSize)
	one := func(format string, w args, a *args) (map[string]group, string) {
		return map[string]group{"group_0": groupOf(format, w, a, "Linear")}, format
	}
	switch s {
	case FP8:
		return one("float-quantized", arg("float", 8, "channel", false, 0), &fp8Token)
	case FP8Block:
		return one("float-quantized", arg("float", 8, "block", false, 0), &fp8Group)
	case W8A8:
		return one("int-quantized", arg("int", 8, "channel", false, 0), &int8Token)
	case W4A8:
		return one("int-quantized", int4, &int8Token)
	case W4A16:
		return one("pack-quantized", int4, nil)
	}
	return map[string]group{
		"group_0": groupOf("pack-quantized", int4, &fp8Token, `re:.*mlp\.experts\.\d+\.(gate|up|down)_proj$`, "Linear"),
		"group_1": groupOf("float-quantized", arg("float", 8, "block", false, 0), &fp8Group,
			`re:.*self_attn\.(?!indexer\.)[a-z_]+$`, `re:.*self_attn\.indexer\.wq_b$`,
			`re:.*shared_experts\.[a-z_]+_proj$`, `re:.*layers\.\d+\.mlp\.(gate_up|gate|up|down)_proj$`,
			`re:model\.decoder\.mlp\.(gate_up|gate|up|down)_proj$`),
	}, "pack-quantized"
}

func (compressedTensors) Config(d Decisions) (map[string][]byte, error) {
	groups, format := schemeGroups(d.Scheme, d.GroupSize)
	return withQuantization(d, ctConfig{ConfigGroups: groups, Format: format, Ignore: ignoreList(d),
		QuantMethod: "compressed-tensors", Status: "compressed", Version: ctVersion})
}

func (hfFP8) Config(d Decisions) (map[string][]byte, error) {
	return withQuantization(d, struct {
		ActivationScheme string   `json:"activation_scheme"`
		Fmt              string   `json:"fmt"`
		NotConverted     []string `json:"modules_to_not_convert"`
		QuantMethod      string   `json:"quant_method"`
		BlockSize        [2]int   `json:"weight_block_size"`
	}{"dynamic", "e4m3", notConverted(d), "fp8", [2]int{128, 128}})
}

func withQuantization(d Decisions, q any) (map[string][]byte, error) {
	value, err := marshal(q)
	if err != nil {
		return nil, err
	}
	raw, err := stripQuantization(d.Config.Raw)
	if err != nil {
		return nil, err
	}
	if raw, err = setKey(raw, "quantization_config", value); err != nil {
		return nil, err
	}
	if raw, err = adjustMTP(raw, d); err != nil {
		return nil, err
	}
	return map[string][]byte{"config.json": raw}, nil
}

// adjustMTP makes num_nextn_predict_layers say 0, wherever it stands, when the
// result has no MTP layer: glm4_moe drafts of vLLM would run on uninitialised
// weights (docs/facts/engine-vllm.md 3).
func adjustMTP(raw []byte, d Decisions) ([]byte, error) {
	const key = "num_nextn_predict_layers"
	if d.Config.MTPLayers == 0 || len(mtpLayers(d)) > 0 {
		return raw, nil
	}
	zero := func(b []byte) ([]byte, error) { return setKey(b, key, []byte("0")) }
	if hasKey(raw, "text_config", key) {
		var err error
		if raw, err = inSub(raw, "text_config", zero); err != nil || !hasKey(raw, "", key) {
			return raw, err
		}
	}
	return zero(raw)
}

// mtpLayers returns the indices of the MTP layers in the result, ascending.
func mtpLayers(d Decisions) []int {
	var list []int
	for i := range d.Weights {
		if t := &d.Weights[i].Tensor; t.MTP && !slices.Contains(list, t.Layer) {
			list = append(list, t.Layer)
		}
	}
	slices.Sort(list)
	return list
}
