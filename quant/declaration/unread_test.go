package declaration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUnread: a packing that is not read concerns every weight, whichever rule
// it is under; what is not known of one group, or of inputs, concerns no other.
func TestUnread(t *testing.T) {
	const expert, attention = "model.layers.1.mlp.experts.0.up_proj", "model.layers.1.self_attn.o_proj"
	ct := func(weights, more string) string {
		return `{"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{
			"a":{"targets":["re:.*experts.*"],"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":32` + weights + `}},
			"b":{"targets":["re:.*self_attn.*"],"weights":{"num_bits":8,"type":"int","strategy":"channel"},
				"input_activations":{"num_bits":8,"type":"int","strategy":"attn_head","dynamic":true}}},"ignore":[]` + more + `}`
	}
	for _, tc := range []struct {
		name, config, all, expert string
	}{
		{"GPTQ", `{"quant_method":"gptq","bits":4,"group_size":32,"dynamic":{"+:.*self_attn.*":{"bits":8}}}`, "", ""},
		{"Marlin's order", `{"quant_method":"gptq","bits":4,"group_size":32,"checkpoint_format":"marlin","dynamic":{"+:.*self_attn.*":{"bits":8}}}`, `"marlin" of gptq`, `"marlin"`},
		{"Marlin's flag", `{"quant_method":"gptq","bits":4,"group_size":32,"is_marlin_format":true}`, "Marlin", "Marlin"},
		{"AWQ for its own kernels", `{"quant_method":"awq","bits":4,"group_size":32,"version":"GEMV"}`, `"gemv" of awq`, `"gemv"`},
		{"a packing of AutoRound", `{"quant_method":"auto-round","bits":4,"group_size":32,"packing_format":"auto_round:zz","extra_config":{".*self_attn.*":{"bits":8}}}`,
			`"zz" of auto-round`, `"zz"`},
		{"unknown method", `{"quant_method":"qqq"}`, "qqq", "qqq"},
		{"compressed-tensors", ct("", ""), "", ""},
		{"transforms", ct("", `,"transform_config":{"config_groups":{"u":{}}}`), "transforms", "transforms"},
		{"sparse", ct("", `,"sparsity_config":{"format":"sparse-24-bitmask"}`), "sparse-24-bitmask", "sparse-24-bitmask"},
		{"no sparsity", ct("", `,"sparsity_config":{"format":"dense"},"transform_config":{},"moe_sparsity_config":null`), "", ""},
		{"experts that vary by layer", ct("", `,"moe_sparsity_config":{"method":"prune","num_experts":[8,6]}`), "number of experts", "number of experts"},
		{"one group", ct(`,"zp_dtype":"torch.float64"`, ""), "", "zero points"},
		{"ModelOpt", `{"quant_method":"modelopt","quant_algo":"NVFP4_AWQ"}`, "NVFP4_AWQ", "NVFP4_AWQ"},
		{"ModelOpt's form", `{"quant_method":"modelopt","quant_algo":"NVFP4"}`, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := Config([]byte(tc.config))
			require.NoError(t, err)
			for got, want := range map[string]string{d.Unread(): tc.all, d.Unreadable(expert): tc.expert} {
				assert.Equal(t, want != "", got != "", got)
				assert.Contains(t, got, want)
			}
			assert.Equal(t, d.Unread(), d.Unreadable(attention), "what is not known of inputs does not keep weights from being read")
			if g := d.Of(attention).Group; g != nil && tc.all != "" {
				assert.False(t, g.Judged)
			}
		})
	}
}
