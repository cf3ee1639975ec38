package check

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// quarkChannels is a result of quantize as Quark declares it: scales of channels,
// inputs a token at a time. Scales are [N], those of modules whose names have
// columns in them [N, 1].
func quarkChannels(t *testing.T, scheme, dtype, columns string) string {
	dir := good(t, "nano-glm4moe "+scheme+" compressed-tensors")
	plain, scaled := map[string]bool{}, map[string]bool{}
	reshape := func(shape func(string, int64) []int64) {
		retensor(t, dir, func(x tensor) []tensor {
			if m, ok := strings.CutSuffix(x.Name, ".weight_scale"); ok {
				scaled[m] = true
				x.Shape = shape(m, x.Shape[0])
			} else if m, ok := strings.CutSuffix(x.Name, ".weight"); ok && !strings.Contains(m, "norm") {
				plain[m] = true
			}
			return []tensor{x}
		})
	}
	reshape(func(_ string, n int64) []int64 { return []int64{n} })
	if columns != "" {
		reshape(func(m string, n int64) []int64 {
			if strings.Contains(m, columns) {
				return []int64{n, 1}
			}
			return []int64{n}
		})
	}
	maps.DeleteFunc(plain, func(m string, _ bool) bool { return scaled[m] })
	spec := func(dynamic bool) map[string]any {
		return map[string]any{"dtype": dtype, "is_dynamic": dynamic, "qscheme": "per_channel", "ch_axis": 0, "group_size": nil, "symmetric": true}
	}
	edit(t, dir, "config.json", func(m map[string]any) {
		m["quantization_config"] = map[string]any{"quant_method": "quark", "exclude": slices.Sorted(maps.Keys(plain)), "layer_quant_config": map[string]any{},
			"layer_type_quant_config": map[string]any{}, "kv_cache_quant_config": map[string]any{},
			"export":              map[string]any{"kv_cache_group": []any{}, "pack_method": "reorder"},
			"global_quant_config": map[string]any{"weight": spec(false), "input_tensors": spec(true)}}
	})
	return dir
}

// TestScalesOfQuark: its scales of channels are [N]. As [N, 1] no class of the
// engines for its FP8 takes them, nor vLLM's for int8 experts; its int8 linears
// do (their own loaders, interop/tests/foreign.py).
func TestScalesOfQuark(t *testing.T) {
	for _, tc := range []struct {
		name, scheme, dtype, columns, vllm, sglang string
	}{
		{"FP8, [N]", "fp8", "fp8_e4m3", "", "loads", "loads"},
		{"FP8, [N, 1]", "fp8", "fp8_e4m3", "layers", "refuses", "refuses"},
		{"FP8, [N, 1] in one linear", "fp8", "fp8_e4m3", "layers.1.self_attn.k_proj", "refuses", "refuses"},
		{"FP8, [N, 1] in one expert", "fp8", "fp8_e4m3", "layers.2.mlp.experts.3.down_proj", "refuses", "refuses"},
		{"int8, [N]", "w8a8", "int8", "", "loads", "refuses"},
		{"int8, [N, 1]", "w8a8", "int8", "layers", "refuses", "refuses"},
		{"int8, [N, 1] in one linear", "w8a8", "int8", "layers.1.self_attn.k_proj", "loads", "refuses"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := examine(t, quarkChannels(t, tc.scheme, tc.dtype, tc.columns), Options{})
			assert.Equal(t, tc.vllm, verdicts(r)["vllm"], r.Text())
			assert.Equal(t, tc.sglang, verdicts(r)["sglang"], r.Text())
			assert.Equal(t, tc.vllm == "refuses", strings.Contains(r.Text(), "registered as [N], the file has [N, 1]"), r.Text())
		})
	}
}
