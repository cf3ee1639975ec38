package layout

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/safetensors"
)

func preset(t testing.TB, name string) *glm.Config {
	cfg, err := glm.Preset(name)
	require.NoError(t, err)
	return cfg
}

// small returns the preset with two experts a layer: the decisions for the
// others are the same, and the property tests visit many plans.
func small(t testing.TB, name string) *glm.Config {
	c := *preset(t, name)
	c.Experts = 2
	return &c
}

func inputs(cfg *glm.Config) []Input {
	var list []Input
	for _, t := range cfg.Table() {
		list = append(list, Input{Tensor: &t, Source: t.DType})
	}
	return list
}

func weightsOf(ds []Decision) []*Weight {
	var list []*Weight
	for _, d := range ds {
		if !d.Drop {
			list = append(list, &d.Weight)
		}
	}
	return list
}

// The figures are counted by hand from the layer counts of
// docs/facts/families.md 1.6, not by the code under test.
func TestDecisionCounts(t *testing.T) {
	for _, c := range []struct {
		preset string
		o      Options
		want   map[string]int
	}{
		// Air: 46+1 layers, 4 projections each; 46 MoE layers of 128·3 experts and 3 shared; layer 0 dense.
		{"glm-4.5-air", Options{Scheme: FP8, Format: CompressedTensors}, map[string]int{"FP8": 4*47 + 3 + 46*(384+3)}},
		{"glm-4.5-air", Options{Scheme: FP8, Format: CompressedTensors, MTP: MTPFloat}, map[string]int{"FP8": 4*46 + 3 + 45*(384+3)}},
		{"glm-4.5-air", Options{Scheme: FP8Block, Format: HFFP8}, map[string]int{"FP8 128x128": 4*47 + 46*(384+3)}}, // 10944 % 128 ≠ 0
		{"glm-4.5-air", Options{Scheme: FP8Block, Format: CompressedTensors}, map[string]int{"FP8 128x128": 4*47 + 46*(384+3)}},
		{"glm-4.5-air", Options{Scheme: W8A8, Format: CompressedTensors}, map[string]int{"W8A8": 4*47 + 3 + 46*(384+3)}},
		{"glm-4.5-air", Options{Scheme: W8A8, Format: Ascend}, map[string]int{"W8A8_DYNAMIC": 4*46 + 3 + 45*(384+3)}},
		{"glm-4.5-air", Options{Scheme: W4A8, Format: CompressedTensors}, map[string]int{"W4A8 g128": 4*46 + 45*(384+3)}},
		{"glm-4.5-air", Options{Scheme: W4A8, Format: CompressedTensors, GroupSize: 64}, map[string]int{"W4A8 g64": 4*46 + 3 + 45*(384+3)}},
		{"glm-4.5-air", Options{Scheme: W4A8, Format: CompressedTensors, Rest: RestInt8}, map[string]int{"W4A8 g128": 45 * 384, "W8A8": 4*46 + 3 + 45*3}},
		{"glm-4.5-air", Options{Scheme: W4A8, Format: CompressedTensors, Rest: RestFloat, GroupSize: PerChannel}, map[string]int{"W4A8 channel": 45 * 384}},
		{"glm-4.5-air", Options{Scheme: W4A8, Format: CompressedTensors, Rest: RestSame, GroupSize: PerChannel}, map[string]int{"W4A8 channel": 4*46 + 3 + 45*(384+3)}},
		{"glm-4.5-air", Options{Scheme: W4A8, Format: Ascend}, map[string]int{"W4A8_DYNAMIC": 45 * 384, "W8A8_DYNAMIC": 4*46 + 3 + 45*3}},
		{"glm-4.5-air", Options{Scheme: W4A8, Format: Ascend, Rest: RestInt8, GroupSize: PerChannel}, map[string]int{"W4A8_DYNAMIC": 45 * 384, "W8A8_DYNAMIC": 4*46 + 3 + 45*3}},
		{"glm-4.5-air", Options{Scheme: W4A16, Format: CompressedTensors}, map[string]int{"W4A16 g128": 4*46 + 45*384}}, // shared BF16
		{"glm-4.5", Options{Scheme: W4A8FP8, Format: CompressedTensors}, map[string]int{"W4A8-FP8 g128": 89 * 480, "FP8 128x128": 4*92 + 9 + 89*3}},
		{"glm-4.6", Options{Scheme: FP8Block, Format: HFFP8}, map[string]int{"FP8 128x128": 4*93 + 9 + 90*(480+3)}},
		{"glm-4.5v", Options{Scheme: FP8, Format: CompressedTensors}, map[string]int{"FP8": 4*46 + 3 + 45*(384+3)}}, // no MTP layer
		// GLM-5: 78+1 layers, q_a, q_b, kv_a, kv_b, o; every layer with wq_b and wk.
		{"glm-5", Options{Scheme: FP8Block, Format: HFFP8}, map[string]int{"FP8 128x128": 7*79 + 9 + 76*(768+3)}},
		{"glm-5", Options{Scheme: FP8Block, Format: CompressedTensors}, map[string]int{"FP8 128x128": 6*79 + 9 + 76*(768+3)}},
		{"glm-5", Options{Scheme: FP8, Format: CompressedTensors}, map[string]int{"FP8": 5*79 + 9 + 76*(768+3)}},
		{"glm-5", Options{Scheme: W4A8, Format: Ascend}, map[string]int{"W4A8_DYNAMIC": 75 * 768, "W8A8_DYNAMIC": 5*78 + 9 + 75*3}},
		{"glm-5", Options{Scheme: W4A8, Format: CompressedTensors, Rest: RestInt8, GroupSize: PerChannel}, map[string]int{"W4A8 channel": 75 * 768, "W8A8": 5*78 + 9 + 75*3}},
		{"glm-5", Options{Scheme: W4A8, Format: CompressedTensors, Rest: RestInt8, GroupSize: PerChannel, MTP: MTPQuantize},
			map[string]int{"W4A8 channel": 76 * 768, "W8A8": 5*79 + 9 + 76*3}},
		{"glm-5", Options{Scheme: W4A8FP8, Format: CompressedTensors}, map[string]int{"W4A8-FP8 g128": 75 * 768, "FP8 128x128": 5*78 + 9 + 75*3}},
		// GLM-5.2: indexers in 21 trunk layers (0, 1, 2, 6, … 74) and in the MTP layer.
		{"glm-5.2", Options{Scheme: FP8Block, Format: HFFP8}, map[string]int{"FP8 128x128": 5*79 + 2*22 + 9 + 76*(768+3)}},
		{"glm-5.2", Options{Scheme: W4A8, Format: Ascend}, map[string]int{"W4A8_DYNAMIC": 75 * 768, "W8A8_DYNAMIC": 4*78 + 21 + 9 + 75*3}},
		{"glm-4.7-flash", Options{Scheme: FP8, Format: CompressedTensors}, map[string]int{"FP8": 4*48 + 3 + 47*(192+3)}},
		{"glm-4.7-flash", Options{Scheme: W4A16, Format: CompressedTensors}, map[string]int{"W4A16 g128": 2*47 + 3 + 46*(192+3)}},
	} {
		cfg := preset(t, c.preset)
		ds, err := Decide(cfg, inputs(cfg), c.o)
		require.NoError(t, err)
		got := map[string]int{}
		for _, d := range ds {
			require.NotEmpty(t, d.Reason, d.Weight.Tensor.Name)
			if d.Weight.Quantized() {
				got[d.Scheme]++
			}
		}
		assert.Equal(t, c.want, got, "%s %s %s", c.preset, c.o.Scheme, c.o.Format)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		preset string
		o      Options
		rule   string
	}{
		{"glm-4.5-air", Options{Scheme: W4A8FP8, Format: CompressedTensors}, "moe_intermediate_size % 256 = 0, it is 1408"},
		{"glm-4.5v", Options{Scheme: W4A8FP8, Format: CompressedTensors}, "1408"},
		{"glm-5", Options{Scheme: W4A8FP8, Format: CompressedTensors, GroupSize: 64}, "groups of 128"},
		{"glm-5", Options{Scheme: W4A16, Format: CompressedTensors, GroupSize: 48}, "32, 64 and 128"},
		{"glm-5", Options{Scheme: W4A16, Format: CompressedTensors, GroupSize: PerChannel}, "its int4 has groups"},
		{"glm-5", Options{Scheme: NVFP4, Format: CompressedTensors, GroupSize: PerChannel}, "groups of 16 built in"},
		{"glm-5", Options{Scheme: NVFP4, Format: CompressedTensors, Rest: RestInt8}, "bf16, fp8, same"},
		{"glm-5", Options{Scheme: W4A8, Format: CompressedTensors, Rest: RestFP8}, "same, int8, bf16"},
		{"glm-5", Options{Scheme: W4A8, Format: Ascend, Rest: RestFloat}, "other linears are int8"},
		{"glm-5", Options{Scheme: W4A16, Format: CompressedTensors, Rest: RestInt8}, "says itself"},
		{"glm-5", Options{Scheme: W4A8, Format: CompressedTensors, Rest: "int4"}, "become fp8 or int8"},
		{"glm-5", Options{Scheme: FP8, Format: Ascend}, "fp8 exists as compressed-tensors"},
		{"glm-5", Options{Scheme: W8A8, Format: CompressedTensors, Keep: func(string) bool { return true }}, "kept by a pattern"},
	} {
		cfg := small(t, c.preset)
		_, err := Decide(cfg, inputs(cfg), c.o)
		var impossible *ImpossibleError
		require.ErrorAs(t, err, &impossible)
		assert.Contains(t, impossible.Rule, c.rule)
		assert.NotEmpty(t, impossible.Hint())
		assert.ErrorIs(t, err, ErrImpossible)
	}
}

func TestAirLayer0Stays(t *testing.T) {
	cfg := small(t, "glm-4.5-air")
	for _, o := range []Options{{Scheme: FP8Block, Format: HFFP8}, {Scheme: W4A16, Format: CompressedTensors, GroupSize: 64}} {
		ds, err := Decide(cfg, inputs(cfg), o)
		require.NoError(t, err)
		n := 0
		for _, d := range ds {
			if d.Weight.Tensor.Role.IsDense() {
				n++
				assert.False(t, d.Weight.Quantized())
				assert.Contains(t, d.Reason, "10944")
			}
		}
		assert.Equal(t, 3, n)
	}
}

// An expert that int4 cannot take lifts its whole layer to int8.
func TestAscendFallsBackToInt8(t *testing.T) {
	cfg := small(t, "glm-5")
	in := inputs(cfg)
	for i := range in {
		if tt := in[i].Tensor; tt.Layer == 5 && tt.Expert == 1 && tt.Role == glm.ExpertDown {
			tt.Shape = []int64{tt.Shape[0] + 4, tt.Shape[1]}
		}
	}
	ds, err := Decide(cfg, in, Options{Scheme: W4A8, Format: Ascend})
	require.NoError(t, err)
	for _, d := range ds {
		if tt := d.Weight.Tensor; tt.Role.IsExpert() && !tt.MTP {
			want := ascendInt4
			if tt.Layer == 5 {
				want = ascendInt8
				assert.Contains(t, d.Reason, "packed as int4")
			}
			assert.Equal(t, want, d.Weight.Quant, tt.Name)
		}
	}
}

type planCase struct {
	name string
	o    Options
}

// plans are all ways to convert a model that its table allows, with what a
// user may leave out.
func plans() []planCase {
	var list []planCase
	keeps := map[string]func(string) bool{
		"": nil,
		" keep one projection": func(m string) bool {
			return strings.HasSuffix(m, "layers.1.self_attn.k_proj") || strings.HasSuffix(m, "layers.1.self_attn.q_a_proj")
		},
		" keep one expert": func(m string) bool { return strings.HasSuffix(m, "layers.4.mlp.experts.1.up_proj") },
		" keep MTP attention": func(m string) bool {
			return strings.Contains(m, "layers.46.self_attn.o") || strings.Contains(m, "layers.78.self_attn.kv_a") || strings.Contains(m, "layers.47.self_attn.q_a")
		},
	}
	for _, s := range Schemes {
		for _, f := range Formats {
			if Supported(s, f) != nil || s == BF16 {
				continue
			}
			for _, m := range []MTPMode{MTPAuto, MTPQuantize, MTPFloat, MTPDrop} {
				for what, keep := range keeps {
					if keep == nil || m == MTPQuantize {
						list = append(list, planCase{fmt.Sprintf("%s %s mtp %s%s", s, f, m, what), Options{Scheme: s, Format: f, MTP: m, Keep: keep}})
					}
				}
			}
		}
	}
	return list
}

var engineModels = []string{"glm-4.5-air", "glm-4.5", "glm-4.6", "glm-4.5v", "glm-5", "glm-5.2", "glm-4.7-flash"}

// Whatever is decided, the files that say so mean the same to every engine,
// for every module, trunk and draft, under the engine's own names; fused
// groups are uniform.
func TestEnginesAgreeWithDecisions(t *testing.T) {
	for _, name := range engineModels {
		t.Run(name, func(t *testing.T) {
			cfg := small(t, name)
			in := inputs(cfg)
			for _, c := range plans() {
				ds, err := Decide(cfg, in, c.o)
				if c.o.Scheme == W4A8FP8 && cfg.MoEIntermediateSize%256 != 0 {
					require.Error(t, err)
					continue
				}
				require.NoError(t, err, c.name)
				checkUniform(t, c.name, ds)
				d := Decisions{Config: cfg, Scheme: c.o.Scheme, GroupSize: 128, Rest: c.o.Rest, Weights: weightsOf(ds)}
				l, err := For(c.o.Format)
				require.NoError(t, err)
				files, err := l.Config(d)
				require.NoError(t, err, c.name)
				checkEngines(t, c.name, d, c.o.Format, files)
			}
		})
	}
}

func checkUniform(t *testing.T, name string, ds []Decision) {
	groups := map[string]format.Weight{}
	for _, d := range ds {
		w := d.Weight
		if d.Drop || w.Tensor.Group == "" || w.Tensor.Param != "weight" {
			continue
		}
		if e, ok := groups[w.Tensor.Group]; ok && e != w.Quant {
			t.Fatalf("%s: %s holds %s and %s", name, w.Tensor.Group, e, w.Quant)
		}
		groups[w.Tensor.Group] = w.Quant
	}
}

func checkEngines(t *testing.T, name string, d Decisions, f Format, files map[string][]byte) {
	cfg := d.Config
	encodings := map[string]format.Weight{}
	for _, w := range d.Weights {
		if w.Tensor.Param == "weight" {
			encodings[w.Tensor.Module] = w.Quant
		}
	}
	vllmExpands := func(string) bool { return true }
	sglangExpands := func(fused string) bool {
		return fused == "fused_qkv_a_proj_with_mqa" && cfg.Family == glm.GlmMoeDsa
	}
	vllm := runtimeModules(d.Weights, vllmName(cfg), "fused_qkv_a_proj", vllmExpands)
	if f == Ascend {
		desc := description(t, files)
		mapped := mapKeys(cfg, desc)
		for _, m := range vllm {
			got, err := ascendDecide(mapped, m)
			require.NoError(t, err, "%s: vllm-ascend", name)
			assertSame(t, name, "vllm-ascend", m, ascendScheme(encodings[m.source[0]]), got)
		}
		sgl := func(t glm.Tensor) string { // no draft: it starts unquantised
			return strings.TrimPrefix(t.Module, map[bool]string{true: "model."}[cfg.Vision != nil])
		}
		for _, m := range runtimeModules(d.Weights, sgl, "fused_qkv_a_proj_with_mqa", vllmExpands) {
			got, err := ascendDecide(desc, m)
			require.NoError(t, err, "%s: sglang", name)
			assertSame(t, name, "sglang", m, ascendScheme(encodings[m.source[0]]), got)
		}
		return
	}
	var file struct {
		Q json.RawMessage `json:"quantization_config"`
	}
	require.NoError(t, json.Unmarshal(files["config.json"], &file))
	if f == HFFP8 {
		sglang := runtimeModules(d.Weights, sglangName(cfg), "fused_qkv_a_proj_with_mqa",
			func(fused string) bool { return fused != "fused_qkv_a_proj_with_mqa" || cfg.Family == glm.GlmMoeDsa })
		fp8, err := parseFP8(cfg, file.Q)
		require.NoError(t, err)
		for _, m := range vllm {
			got, err := fp8.vllm(m)
			require.NoError(t, err, "%s: vllm", name)
			assertSame(t, name, "vllm", m, encodings[m.source[0]].Quantized(), got)
		}
		words := fp8.sglangWords()
		for _, m := range sglang {
			got, err := fp8.sglang(m, words)
			require.NoError(t, err, "%s: sglang", name)
			assertSame(t, name, "sglang", m, encodings[m.source[0]].Quantized(), got)
		}
		return
	}
	if f == ModelOpt {
		var mo modelOptRules
		require.NoError(t, json.Unmarshal(file.Q, &mo))
		for _, m := range vllm {
			got, err := mo.vllm(cfg, m)
			require.NoError(t, err, "%s: vllm", name)
			assertSame(t, name, "vllm", m, encodings[m.source[0]].Quantized(), got)
		}
		for _, m := range runtimeModules(d.Weights, sglangName(cfg), "fused_qkv_a_proj_with_mqa",
			func(fused string) bool { return fused != "fused_qkv_a_proj_with_mqa" || cfg.Family == glm.GlmMoeDsa }) {
			if strings.HasPrefix(m.name, "model.decoder.") {
				continue // its drafts are in full precision whatever the file says
			}
			got, err := mo.sglang(m)
			require.NoError(t, err, "%s: sglang", name)
			assertSame(t, name, "sglang", m, encodings[m.source[0]].Quantized(), got)
		}
		return
	}
	var ct ctFile
	require.NoError(t, json.Unmarshal(file.Q, &ct))
	for _, m := range vllm {
		got, err := vllmCT(cfg, ct, m)
		require.NoError(t, err, "%s: vllm", name)
		assertSame(t, name, "vllm", m, kindOf(encodings[m.source[0]]), got)
	}
	for _, m := range runtimeModules(d.Weights, sglangName(cfg), "fused_qkv_a_proj_with_mqa", sglangExpands) {
		got, err := sglangCT(ct, m)
		require.NoError(t, err, "%s: sglang", name)
		assertSame(t, name, "sglang", m, kindOf(encodings[m.source[0]]), got)
	}
}

func assertSame[T comparable](t *testing.T, name, engine string, m runtimeModule, want, got T) {
	if want != got {
		t.Fatalf("%s: %s takes %s for %v, decided was %v", name, engine, m.name, got, want)
	}
}

func description(t *testing.T, files map[string][]byte) map[string]string {
	var raw map[string]any
	require.NoError(t, json.Unmarshal(files[DescriptionName], &raw))
	out := map[string]string{}
	for k, v := range raw {
		if s, ok := v.(string); ok {
			out[k] = s
		}
	}
	return out
}

// mapKeys is what vllm-ascend does to the keys of a description.
func mapKeys(cfg *glm.Config, desc map[string]string) map[string]string {
	out := make(map[string]string, len(desc))
	for k, v := range desc {
		k = vllmMapped(cfg, k)
		out[k] = v
		if strings.Contains(k, ".shared_head.") {
			out[strings.Replace(k, ".shared_head.", ".", 1)] = v
		}
	}
	return out
}

// Every tensor that an Ascend result holds is described, the modules engines
// look up without a tensor too, and the fixed keys are there.
func TestDescriptionIsComplete(t *testing.T) {
	for _, name := range engineModels {
		cfg := small(t, name)
		var in []Input // without the MTP layer's copies, as most releases come
		for _, i := range inputs(cfg) {
			if !i.Tensor.Optional {
				in = append(in, i)
			}
		}
		for _, s := range []Scheme{W8A8, W4A8} {
			ds, err := Decide(cfg, in, Options{Scheme: s, Format: Ascend})
			require.NoError(t, err)
			d := Decisions{Config: cfg, Scheme: s, Weights: weightsOf(ds)}
			files, err := ascend{}.Config(d)
			require.NoError(t, err)
			desc := description(t, files)
			for _, w := range d.Weights {
				for _, o := range (ascend{}).Outputs(*w) {
					want := "FLOAT"
					switch {
					case w.Quant == ascendInt4:
						want = "W4A8_DYNAMIC"
					case w.Quant == ascendInt8:
						want = "W8A8_DYNAMIC"
					}
					require.Equal(t, want, desc[o.Name], "%s %s", name, o.Name)
				}
				if w.Tensor.Param == "bias" && w.Tensor.Role.IsAttention() && !w.Tensor.MTP {
					require.True(t, w.Widened(), w.Tensor.Name)
					require.Equal(t, safetensors.F32, ascend{}.Outputs(*w)[0].DType)
				}
			}
			mapped := mapKeys(cfg, desc)
			for _, key := range []string{"lm_head.weight", cfg.EmbeddingName()} {
				require.Equal(t, "FLOAT", desc[key])
			}
			if cfg.MTPLayers > 0 {
				require.Equal(t, "FLOAT", mapped[cfg.LayerPrefix(cfg.Layers)+"head.weight"], name)
			}
			if cfg.Vision != nil {
				for _, p := range []string{"q", "k", "v"} {
					for _, at := range []string{"model.visual.blocks.3.attn.", "visual.blocks.3.attn."} {
						require.Equal(t, "FLOAT", desc[at+p+"_proj.weight"])
					}
				}
			}
			var rest map[string]any
			require.NoError(t, json.Unmarshal(files[DescriptionName], &rest))
			assert.Equal(t, "1.0.0", rest["version"])
			assert.Equal(t, "W8A8_DYNAMIC", rest["model_quant_type"])
			assert.EqualValues(t, 0, rest["group_size"])
			assert.Equal(t, map[string]any{}, rest["metadata"])
			assert.Equal(t, map[string]any{}, rest["optional"])
			assert.NotContains(t, string(files["config.json"]), "quantization_config")
		}
	}
}
