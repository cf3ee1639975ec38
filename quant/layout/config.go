package layout

import "slices"

// withQuantization puts a quantization_config into config.json.
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
		if t := d.Weights[i].Tensor; t.MTP && !slices.Contains(list, t.Layer) {
			list = append(list, t.Layer)
		}
	}
	slices.Sort(list)
	return list
}
