package layout

import (
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func configFor(t *testing.T, cfg *glm.Config, o Options) map[string][]byte {
	ds, err := Decide(cfg, inputs(cfg), o)
	require.NoError(t, err)
	l, err := For(o.Format)
	require.NoError(t, err)
	files, err := l.Config(Decisions{Config: cfg, Scheme: o.Scheme, GroupSize: cmp.Or(o.GroupSize, 128), Rest: o.Rest, Weights: weightsOf(ds)})
	require.NoError(t, err)
	return files
}

// quantization is the part of config.json that the layout added.
func quantization(t *testing.T, raw []byte) string {
	ms, err := members(raw)
	require.NoError(t, err)
	last := ms[len(ms)-1]
	require.Equal(t, "quantization_config", last.key, "added at the end")
	return string(raw[last.value:last.end]) + "\n"
}

func TestConfigGoldens(t *testing.T) {
	for _, c := range []struct {
		file, preset string
		o            Options
	}{
		{"ct-fp8-air", "glm-4.5-air", Options{Scheme: FP8, Format: CompressedTensors}},
		{"ct-fp8-block-air", "glm-4.5-air", Options{Scheme: FP8Block, Format: CompressedTensors}},
		{"ct-w8a8-glm5-mtp-float", "glm-5", Options{Scheme: W8A8, Format: CompressedTensors, MTP: MTPFloat}},
		{"ct-w4a8-45v", "glm-4.5v", Options{Scheme: W4A8, Format: CompressedTensors}},
		{"ct-w4a16-air", "glm-4.5-air", Options{Scheme: W4A16, Format: CompressedTensors}},
		{"ct-w4a8-fp8-glm5", "glm-5", Options{Scheme: W4A8FP8, Format: CompressedTensors}},
	} {
		cfg := small(t, c.preset)
		got := quantization(t, configFor(t, cfg, c.o)["config.json"])
		path := filepath.Join("testdata", "config", c.file+".json")
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, c.file)
	}
}

// TestRestConfig: int4 experts are named where other linears are something else,
// which is then any other linear's; what stays is on the list to ignore.
func TestRestConfig(t *testing.T) {
	for _, tc := range []struct {
		name    string
		rest    RestMode
		targets map[string][]string
		bits    map[string]int
		ignored bool // attention
	}{
		{"as ever", "", map[string][]string{"group_0": {"Linear"}}, map[string]int{"group_0": 4}, false},
		{"int8", RestInt8, map[string][]string{"group_0": {expertTargets}, "group_1": {"Linear"}}, map[string]int{"group_0": 4, "group_1": 8}, false},
		{"full precision", RestFloat, map[string][]string{"group_0": {"Linear"}}, map[string]int{"group_0": 4}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := configFor(t, small(t, "glm-5"), Options{Scheme: W4A8, Format: CompressedTensors, Rest: tc.rest, GroupSize: PerChannel})
			var f struct {
				Q ctFile `json:"quantization_config"`
			}
			require.NoError(t, json.Unmarshal(files["config.json"], &f))
			assert.Equal(t, "int-quantized", f.Q.Format)
			require.Len(t, f.Q.Groups, len(tc.targets))
			for name, g := range f.Q.Groups {
				assert.Equal(t, tc.targets[name], g.Targets, name)
				assert.Equal(t, tc.bits[name], g.Weights.NumBits, name)
				assert.Equal(t, "int-quantized", g.Format, name)
			}
			assert.Contains(t, string(files["config.json"]), `"strategy": "channel"`)
			assert.Equal(t, tc.ignored, slices.Contains(f.Q.Ignore, `re:.*\.self_attn\.o_proj$`), f.Q.Ignore)
			assert.Contains(t, f.Q.Ignore, `re:.*layers\.78\..*`, "the MTP layer")
		})
	}
}

// What SGLang demands of the mixed file beside matching names
// (docs/facts/engine-sglang.md 1.2): a target called Linear in the int4 group and
// pack-quantized at the top; vLLM a format in every group.
func TestMixedConfig(t *testing.T) {
	files := configFor(t, small(t, "glm-5"), Options{Scheme: W4A8FP8, Format: CompressedTensors})
	var f struct {
		Q ctFile `json:"quantization_config"`
	}
	require.NoError(t, json.Unmarshal(files["config.json"], &f))
	assert.Equal(t, "pack-quantized", f.Q.Format)
	assert.Contains(t, f.Q.Groups["group_0"].Targets, "Linear")
	assert.Equal(t, 4, f.Q.Groups["group_0"].Weights.NumBits)
	for name, g := range f.Q.Groups {
		assert.NotEmpty(t, g.Format, name)
	}
	assert.Contains(t, f.Q.Ignore, `re:.*\.self_attn\.kv_b_proj$`)
}

// Everything that was in config.json stays byte for byte, in its order.
func TestConfigKeepsTheSource(t *testing.T) {
	raw := `{
    "model_type": "glm4_moe", "architectures": ["Glm4MoeForCausalLM"],
    "rope_theta": 1e6, "rms_norm_eps": 1.00e-05,
    "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "partial_rotary_factor": 0.50, "intermediate_size": 256, "moe_intermediate_size": 256, "first_k_dense_replace": 1,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "vocab_size": 512, "norm_topk_prob": true,
    "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "attention_bias": false, "use_qk_norm": false,
    "num_nextn_predict_layers": 1, "max_position_embeddings": 4096,
    "ünknown": {"b": [1, 2.50, "\u00e9"], "a": null}
}
`
	cfg, err := glm.ParseConfig([]byte(raw))
	require.NoError(t, err)
	body := strings.TrimSuffix(raw, "\n}\n")

	got := string(configFor(t, cfg, Options{Scheme: FP8, Format: CompressedTensors})["config.json"])
	assert.True(t, strings.HasPrefix(got, body+",\n  \"quantization_config\": {\n"), got)

	got = string(configFor(t, cfg, Options{Scheme: W8A8, Format: Ascend})["config.json"])
	assert.Equal(t, raw, got, "ascend adds nothing")

	got = string(configFor(t, cfg, Options{Scheme: FP8Block, Format: HFFP8, MTP: MTPDrop})["config.json"])
	dropped := strings.Replace(body, `"num_nextn_predict_layers": 1`, `"num_nextn_predict_layers": 0`, 1)
	assert.True(t, strings.HasPrefix(got, dropped+",\n"), got)
}

func TestNestedMTPCountIsZeroed(t *testing.T) {
	cfg := *preset(t, "glm-4.5v")
	cfg.MTPLayers = 1
	for raw, want := range map[string]string{
		`{"text_config": {"a": 1, "num_nextn_predict_layers": 1}, "b": 2}`:                          `{"text_config": {"a": 1, "num_nextn_predict_layers": 0}, "b": 2}`,
		`{"num_nextn_predict_layers": 1, "text_config": {"num_nextn_predict_layers": 1}, "b": 2.0}`: `{"num_nextn_predict_layers": 0, "text_config": {"num_nextn_predict_layers": 0}, "b": 2.0}`,
	} {
		got, err := adjustMTP([]byte(raw), Decisions{Config: &cfg})
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}

// An hf-fp8 list names what stays by its checkpoint name and nothing that is
// quantised.
func TestNotConverted(t *testing.T) {
	files := configFor(t, small(t, "glm-4.5-air"), Options{Scheme: FP8Block, Format: HFFP8})
	var f struct {
		Q struct {
			fp8File
			Act   string `json:"activation_scheme"`
			Block []int  `json:"weight_block_size"`
		} `json:"quantization_config"`
	}
	require.NoError(t, json.Unmarshal(files["config.json"], &f))
	assert.Equal(t, "dynamic", f.Q.Act)
	assert.Equal(t, []int{128, 128}, f.Q.Block)
	for _, name := range []string{"lm_head", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj", "model.layers.0.mlp.gate_up_proj", "model.layers.46.eh_proj", "model.decoder.eh_proj"} {
		assert.Contains(t, f.Q.List, name)
	}
	assert.NotContains(t, f.Q.List, "model.layers.1.mlp.shared_experts.gate_proj")
}
