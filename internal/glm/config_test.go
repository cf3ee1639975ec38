package glm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPresetsParse(t *testing.T) {
	for _, name := range Presets() {
		cfg, err := Preset(name)
		require.NoError(t, err, name)
		assert.Empty(t, cfg.Notes, name)
		assert.Len(t, cfg.Dense, cfg.Layers, name)
		assert.Equal(t, 64, cfg.RopeWidth, name)
		assert.Len(t, cfg.EOS, 3, name)
		assert.NoError(t, cfg.RequireUnquantized())
	}
	_, err := Preset("glm-4")
	assert.ErrorContains(t, err, "glm-4.5-air")
}

func TestPresetValues(t *testing.T) {
	get := func(name string) *Config {
		cfg, err := Preset(name)
		require.NoError(t, err)
		return cfg
	}
	assert.Equal(t, 1e4, get("glm-4.5v").RopeTheta)
	assert.Equal(t, 5e5, get("glm-4.6v").RopeTheta)
	assert.Equal(t, 8e6, get("glm-5.2").RopeTheta)
	assert.Equal(t, []int{8, 12, 12}, get("glm-4.6v").MRopeSections)
	assert.Equal(t, []int{8, 12, 12}, get("glm-4.5v").MRopeSections)
	assert.Equal(t, 256, get("glm-5").QKHeadDim())
	assert.Zero(t, get("glm-5.2").HeadDim, "head_dim is ignored with latent attention")
	assert.True(t, get("glm-5").RopeInterleaved)
	assert.False(t, get("glm-4.6").RopeInterleaved)
	assert.True(t, get("glm-5.2").IndexShareForMTP)
	assert.Equal(t, 1.8, get("glm-4.7-flash").RoutedScaling)
	assert.False(t, get("glm-4.6v").MTPLayers > 0)
	assert.True(t, get("glm-4.6v").MTPDeclared)
	assert.False(t, get("glm-4.5v").MTPDeclared)
	v := get("glm-4.5v").Vision
	assert.Equal(t, 24, v.Depth)
	assert.Equal(t, 151363, v.ImageTokenID)
	assert.Equal(t, 151342, v.VideoEndID)
}

// The three spellings of the indexer schedule of GLM-5.2 mean the same.
func TestIndexerSpellings(t *testing.T) {
	cfg, err := Preset("glm-5.2")
	require.NoError(t, err)
	want := cfg.IndexerFull
	var pattern strings.Builder
	for _, full := range want {
		pattern.WriteByte("SF"[map[bool]int{true: 1}[full]])
	}
	spellings := map[string]func(map[string]any){
		"list only": func(f map[string]any) {
			delete(f, "index_topk_freq")
			delete(f, "index_skip_topk_offset")
		},
		"pattern only": func(f map[string]any) {
			delete(f, "indexer_types")
			delete(f, "index_topk_freq")
			f["index_topk_pattern"] = pattern.String()
		},
		"frequency only": func(f map[string]any) { delete(f, "indexer_types") },
	}
	for name, edit := range spellings {
		got := edited(t, cfg, edit)
		assert.Equal(t, want, got.IndexerFull, name)
		// vLLM does not read the list: a file with nothing else is noted.
		assert.Equal(t, name == "list only", len(got.Notes) == 1, name)
	}
	// Without an offset loaders take 2: layer 2 is then shared.
	got := edited(t, cfg, func(f map[string]any) {
		delete(f, "indexer_types")
		delete(f, "index_skip_topk_offset")
	})
	assert.Equal(t, []bool{true, true, false, false, false, true}, got.IndexerFull[:6])
}

func TestBothGenerations(t *testing.T) {
	v4, err := Preset("glm-4.6")
	require.NoError(t, err)
	v5 := edited(t, v4, func(f map[string]any) {
		for _, k := range []string{"rope_theta", "rope_scaling", "partial_rotary_factor", "torch_dtype", "first_k_dense_replace", "n_routed_experts"} {
			delete(f, k)
		}
		f["rope_parameters"] = map[string]any{"rope_type": "default", "rope_theta": 1000000, "partial_rotary_factor": 0.5}
		f["dtype"] = "bfloat16"
		f["num_local_experts"] = 160
		types := make([]string, 92)
		for i := range types {
			types[i] = map[bool]string{true: "dense", false: "sparse"}[i < 3]
		}
		f["mlp_layer_types"] = types
	})
	v5.Raw, v5.cache = v4.Raw, v4.cache
	assert.Equal(t, v4, v5)

	// Nested values win over top-level ones, field by field.
	both := edited(t, v4, func(f map[string]any) { f["rope_parameters"] = map[string]any{"rope_theta": 5} })
	assert.Equal(t, 5.0, both.RopeTheta)
	assert.Equal(t, 64, both.RopeWidth)
	none := edited(t, v4, func(f map[string]any) { delete(f, "partial_rotary_factor") })
	assert.Equal(t, 64, none.RopeWidth, "0.5 is the default")
	mixed := edited(t, v4, func(f map[string]any) {
		types := make([]string, 92)
		for i := range types {
			types[i] = "sparse"
		}
		f["mlp_layer_types"] = types
	})
	assert.False(t, mixed.Dense[0], "mlp_layer_types wins")
	assert.Len(t, mixed.Notes, 1)
}

func TestConfigRefusals(t *testing.T) {
	set := func(kv ...any) func(map[string]any) {
		return func(f map[string]any) {
			for i := 0; i < len(kv); i += 2 {
				f[kv[i].(string)] = kv[i+1]
			}
		}
	}
	drop := func(k string) func(map[string]any) { return func(f map[string]any) { delete(f, k) } }
	in := func(sub string, edit func(map[string]any)) func(map[string]any) {
		return func(f map[string]any) { edit(f[sub].(map[string]any)) }
	}
	yarn := map[string]any{"rope_type": "yarn", "factor": 4}
	for _, tc := range []struct {
		name, preset string
		edit         func(map[string]any)
		kind         error
		field        string
		says         string
	}{
		{"dense vision model", "glm-4.6v", set("model_type", "glm4v"), ErrUnsupported, "model_type", "dense GLM-4V"},
		{"glm5_next", "glm-5", set("model_type", "glm5_next"), ErrUnsupported, "model_type", "GLM-5.3-Flash"},
		{"deepseek", "glm-5", set("model_type", "deepseek_v32"), ErrUnsupported, "model_type", "DeepSeek"},
		{"llama", "glm-5", set("model_type", "llama"), ErrUnsupported, "model_type", "Llama"},
		{"text part", "glm-4.5v", set("model_type", "glm4v_moe_text"), ErrUnsupported, "model_type", "text part"},
		{"unheard of", "glm-5", set("model_type", "zork"), ErrUnsupported, "model_type", "not a model family"},
		{"no type", "glm-5", drop("model_type"), ErrInvalid, "model_type", "missing"},
		{"type is a number", "glm-5", set("model_type", 5), ErrInvalid, "model_type", "string"},
		{"architecture", "glm-4.5", set("architectures", []string{"Glm4MoeForTokenClassification"}), ErrUnsupported, "architectures", "Glm4MoeForCausalLM"},
		{"yarn v4", "glm-4.5", set("rope_scaling", yarn), ErrUnsupported, "rope_scaling.rope_type", "rotary"},
		{"linear v4", "glm-4.5", set("rope_scaling", map[string]any{"type": "linear"}), ErrUnsupported, "rope_scaling.type", "rotary"},
		{"yarn v5", "glm-5", set("rope_parameters", yarn), ErrUnsupported, "rope_parameters.rope_type", "rotary"},
		{"no rope base", "glm-5", set("rope_parameters", map[string]any{"rope_type": "default"}), ErrInvalid, "rope_theta", "missing"},
		{"rope base zero", "glm-4.5", set("rope_theta", 0), ErrInvalid, "rope_theta", "above zero"},
		{"rotary too wide", "glm-4.5", set("partial_rotary_factor", 1.5), ErrInvalid, "partial_rotary_factor", "above 1"},
		{"rotary odd", "glm-4.5", set("partial_rotary_factor", 0.2), ErrInvalid, "partial_rotary_factor", "25"},
		{"rotary of mla", "glm-4.7-flash", set("partial_rotary_factor", 0.5), ErrUnsupported, "partial_rotary_factor", "64"},
		{"interleaved gqa", "glm-4.5", set("rope_interleave", true), ErrUnsupported, "rope_interleave", "half-split"},
		{"mrope on text", "glm-4.5", set("rope_scaling", map[string]any{"mrope_section": []int{8, 12, 12}}), ErrUnsupported, "rope_scaling.mrope_section", "glm4v_moe"},
		{"mrope sum", "glm-4.5v", in("text_config", set("rope_scaling", map[string]any{"mrope_section": []int{8, 12, 13}})), ErrInvalid, "text_config.rope_scaling.mrope_section", "33"},
		{"mrope absent", "glm-4.5v", in("text_config", drop("rope_scaling")), ErrInvalid, "text_config.rope_scaling.mrope_section", "missing"},
		{"gelu", "glm-4.5", set("hidden_act", "gelu"), ErrUnsupported, "hidden_act", "silu"},
		{"vision gelu", "glm-4.5v", in("vision_config", set("hidden_act", "gelu")), ErrUnsupported, "vision_config.hidden_act", "silu"},
		{"softmax router", "glm-5", set("scoring_func", "softmax"), ErrUnsupported, "scoring_func", "sigmoid"},
		{"greedy router", "glm-5", set("topk_method", "greedy"), ErrUnsupported, "topk_method", "noaux_tc"},
		{"bias in mla", "glm-5", set("attention_bias", true), ErrUnsupported, "attention_bias", "bias"},
		{"no hidden", "glm-4.5", drop("hidden_size"), ErrInvalid, "hidden_size", "missing"},
		{"null hidden", "glm-4.5", set("hidden_size", nil), ErrInvalid, "hidden_size", "missing"},
		{"no head_dim", "glm-4.5", drop("head_dim"), ErrInvalid, "head_dim", "missing"},
		{"no q rank", "glm-5", drop("q_lora_rank"), ErrInvalid, "q_lora_rank", "missing"},
		{"no indexer", "glm-5", drop("index_n_heads"), ErrInvalid, "index_n_heads", "missing"},
		{"no dense count", "glm-4.5", drop("first_k_dense_replace"), ErrInvalid, "first_k_dense_replace", "missing"},
		{"no text part", "glm-4.5v", drop("text_config"), ErrInvalid, "text_config", "needs"},
		{"no vision part", "glm-4.5v", drop("vision_config"), ErrInvalid, "text_config", "vision_config"},
		{"hidden 0", "glm-4.5", set("hidden_size", 0), ErrInvalid, "hidden_size", "between 1"},
		{"hidden negative", "glm-4.5", set("hidden_size", -5120), ErrInvalid, "hidden_size", "between 1"},
		{"hidden huge", "glm-4.5", set("hidden_size", 1<<40), ErrInvalid, "hidden_size", "between 1"},
		{"hidden fraction", "glm-4.5", set("hidden_size", 12.5), ErrInvalid, "hidden_size", "integer"},
		{"hidden text", "glm-4.5", set("hidden_size", "5120"), ErrInvalid, "hidden_size", "integer"},
		{"experts 0", "glm-4.5", set("n_routed_experts", 0), ErrInvalid, "n_routed_experts", "between 1"},
		{"layers huge", "glm-4.5", set("num_hidden_layers", 1000000), ErrInvalid, "num_hidden_layers", "between"},
		{"too many experts in all", "glm-4.5", set("num_hidden_layers", 1000, "n_routed_experts", 4000), ErrInvalid, "n_routed_experts", "more than any GLM"},
		{"top-k", "glm-4.5", set("num_experts_per_tok", 161), ErrInvalid, "num_experts_per_tok", "160"},
		{"groups", "glm-4.5", set("n_group", 7), ErrInvalid, "n_group", "divide"},
		{"group top-k", "glm-4.5", set("n_group", 2, "topk_group", 3), ErrInvalid, "topk_group", "n_group"},
		{"few in groups", "glm-4.5", set("n_group", 40, "topk_group", 1), ErrInvalid, "num_experts_per_tok", "topk_group"},
		{"heads", "glm-4.5", set("num_key_value_heads", 7), ErrInvalid, "num_key_value_heads", "96"},
		{"mla heads", "glm-5", set("num_key_value_heads", 8), ErrInvalid, "num_key_value_heads", "64"},
		{"qk_head_dim", "glm-5", set("qk_head_dim", 192), ErrInvalid, "qk_head_dim", "256"},
		{"layer types short", "glm-5", set("mlp_layer_types", []string{"dense"}), ErrInvalid, "mlp_layer_types", "78"},
		{"layer types odd", "glm-5", set("num_hidden_layers", 1, "mlp_layer_types", []string{"moe"}), ErrUnsupported, "mlp_layer_types", "moe"},
		{"dense beyond layers", "glm-4.5", set("first_k_dense_replace", 93), ErrInvalid, "first_k_dense_replace", "92"},
		{"indexer types short", "glm-5", set("indexer_types", []string{"full"}), ErrInvalid, "indexer_types", "78"},
		{"pattern short", "glm-5", set("index_topk_pattern", "FS"), ErrInvalid, "index_topk_pattern", "78"},
		{"pattern letters", "glm-5", set("index_topk_pattern", strings.Repeat("X", 78)), ErrInvalid, "index_topk_pattern", "F nor S"},
		{"first indexer shared", "glm-5", set("index_topk_pattern", strings.Repeat("S", 78)), ErrInvalid, "index_topk_pattern", "layer 0"},
		{"frequency 0", "glm-5", set("index_topk_freq", 0), ErrInvalid, "index_topk_freq", "between"},
		{"indexer narrow", "glm-5", set("index_head_dim", 32), ErrInvalid, "index_head_dim", "64"},
		{"vision width", "glm-4.5v", in("vision_config", set("out_hidden_size", 5120)), ErrInvalid, "vision_config.out_hidden_size", "4096"},
		{"vision heads", "glm-4.5v", in("vision_config", set("num_heads", 7)), ErrInvalid, "vision_config.num_heads", "1536"},
		{"vision patches", "glm-4.5v", in("vision_config", set("patch_size", 15)), ErrInvalid, "vision_config.patch_size", "336"},
		{"eos", "glm-4.5", set("eos_token_id", []any{1, "x"}), ErrInvalid, "eos_token_id", "token id"},
		{"tie is text", "glm-4.5", set("tie_word_embeddings", "no"), ErrInvalid, "tie_word_embeddings", "true or false"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := LookupPreset(tc.preset)
			require.NoError(t, err)
			f := fields(t, p.JSON)
			tc.edit(f)
			_, err = ParseConfig(encode(t, f))
			require.Error(t, err)
			require.ErrorIs(t, err, tc.kind)
			ce := AsConfigError(err)
			require.NotNil(t, ce)
			assert.True(t, ce.Field == tc.field || strings.HasSuffix(ce.Field, "."+tc.field), "field %s", ce.Field)
			assert.ErrorContains(t, err, tc.says)
			if tc.field == "model_type" && tc.kind == ErrUnsupported {
				assert.Contains(t, ce.UserHint(), "glm_moe_dsa")
			}
		})
	}
}

func TestConfigGarbage(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"list":            "[]",
		"null":            "null",
		"number":          "7",
		"cut":             `{"model_type": "glm4_moe"`,
		"cut string":      `{"model_type": "glm4`,
		"two values":      `{} {}`,
		"trailing":        `{}x`,
		"duplicate":       `{"model_type": "glm4_moe", "hidden_size": 1, "hidden_size": 2}`,
		"escaped twin":    `{"a": 1, "\u0061": 2}`,
		"deep duplicate":  `{"rope_parameters": {"x": [{"a": 1, "a": 1}]}}`,
		"python infinity": `{"model_type": "glm4_moe", "rope_theta": Infinity}`,
		"not utf-8":       "{\"model_type\": \"\xff\"}",
		"deep":            strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000),
		"comma":           `{"a": 1,}`,
	} {
		_, err := ParseConfig([]byte(text))
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	_, err := ParseConfig([]byte(`{"a": {"x": 1, "y": 2, "x": 3}}`))
	assert.ErrorContains(t, err, `"x" twice`)
	_, err = ParseConfig([]byte(`{"a": {"x": 1}, "b": {"x": 1}, "model_type": "m"}`))
	assert.NotContains(t, err.Error(), "twice", "the same key in two objects is fine")
}

func TestRequireUnquantized(t *testing.T) {
	group := func(typ, bits, strategy string) string {
		return `{"quant_method": "compressed-tensors", "format": "f", "config_groups": {"g": {"weights": {"type": "` + typ + `", "num_bits": ` + bits + `, "strategy": "` + strategy + `"}}}}`
	}
	for _, tc := range []struct{ name, json, method, says, hint string }{
		{"fp8 block", `{"quant_method": "fp8", "weight_block_size": [128, 128]}`, "fp8", "FP8 block release", "reading FP8 sources comes later; use the BF16 release"},
		{"fp8 channel", group("float", "8", "channel"), "compressed-tensors", "FP8 channel release", "reading FP8 sources comes later; use the BF16 release"},
		{"int8", group("int", "8", "channel"), "compressed-tensors", "already quantised (compressed-tensors, f)", "convert from the BF16 release"},
		{"nvfp4", group("float", "4", "tensor_group"), "compressed-tensors", "already quantised", "convert from the BF16 release"},
		{"gptq", `{"quant_method": "gptq", "bits": 4}`, "gptq", "already quantised (gptq)", "convert from the BF16 release"},
		{"nameless", `{"bits": 4}`, "unknown", "already quantised (unknown)", "convert from the BF16 release"},
	} {
		for _, key := range []string{"quantization_config", "compression_config"} {
			p, err := LookupPreset("glm-5")
			require.NoError(t, err)
			text := strings.Replace(string(p.JSON), "{", `{"`+key+`": `+tc.json+`,`, 1)
			cfg, err := ParseConfig([]byte(text))
			require.NoError(t, err, tc.name)
			assert.Equal(t, tc.method, cfg.Quantization)
			assert.JSONEq(t, tc.json, string(cfg.QuantizationConfig))
			err = cfg.RequireUnquantized()
			require.ErrorIs(t, err, ErrQuantized)
			require.ErrorIs(t, err, ErrUnsupported)
			assert.ErrorContains(t, err, tc.says)
			assert.Equal(t, tc.hint, AsConfigError(err).Hint)
		}
	}
}

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	_, err := LoadConfig(dir)
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o644))
	_, err = LoadConfig(dir)
	assert.ErrorIs(t, err, ErrInvalid)
	assert.ErrorContains(t, err, dir)
}

// A copied and changed Config does not answer with the original's table.
func TestTableFollowsCopies(t *testing.T) {
	cfg := small(t, "glm-4.5-air")
	n := len(cfg.Table())
	more := *cfg
	more.MTPLayers = 0
	assert.Less(t, len(more.Table()), n)
	assert.Len(t, cfg.Table(), n)
	assert.Len(t, more.Index(), len(more.Table()))
}

func TestNames(t *testing.T) {
	cfg := small(t, "glm-4.5-air")
	v := small(t, "glm-4.5v")
	for _, c := range []*Config{cfg, v, small(t, "glm-5.2"), small(t, "glm-4.7-flash")} {
		assert.Equal(t, Embedding, c.Lookup(c.EmbeddingName()).Role)
		assert.Equal(t, Head, c.Lookup(c.HeadName()).Role)
		assert.Equal(t, FinalNorm, c.Lookup(c.FinalNormName()).Role)
		for name, row := range c.Index() {
			assert.Equal(t, name, row.Name)
			assert.Equal(t, name, row.Module+"."+row.Param)
			assert.NotEqual(t, Unknown, row.Role, name)
		}
	}
	embed, head := cfg.MTPNames(2)
	assert.Equal(t, MTPEmbedding, cfg.Lookup(embed).Role)
	assert.Equal(t, MTPHead, cfg.Lookup(head).Role)
	assert.True(t, cfg.Lookup(head).Optional)
	assert.Equal(t, "model.language_model.embed_tokens.weight", v.EmbeddingName())
	assert.Nil(t, cfg.Lookup("model.layers.0.self_attn.rotary_emb.inv_freq"))
	module, param := ModuleOf("bare")
	assert.Equal(t, "", module)
	assert.Equal(t, "bare", param)
}

func TestGroups(t *testing.T) {
	groups := map[string]map[Role]int{}
	for _, name := range []string{"glm-4.5-air", "glm-4.7-flash"} {
		for _, row := range small(t, name).Table() {
			if row.Group != "" {
				if groups[name+" "+row.Group] == nil {
					groups[name+" "+row.Group] = map[Role]int{}
				}
				groups[name+" "+row.Group][row.Role]++
			}
		}
	}
	// Layer 0 is dense, 1 and the MTP layer 2 have experts.
	want := map[string]map[Role]int{}
	for _, l := range []string{"0", "1", "2"} {
		a, f := "glm-4.5-air model.layers."+l, "glm-4.7-flash model.layers."+l
		want[a+".self_attn.qkv_proj"] = map[Role]int{AttnQ: 2, AttnK: 2, AttnV: 2} // with biases
		want[f+".self_attn.fused_qkv_a_proj"] = map[Role]int{AttnQA: 1, AttnKVA: 1}
		for _, p := range []string{a, f} {
			if l == "0" {
				want[p+".mlp.gate_up_proj"] = map[Role]int{DenseGate: 1, DenseUp: 1}
				continue
			}
			want[p+".mlp.shared_experts.gate_up_proj"] = map[Role]int{SharedGate: 1, SharedUp: 1}
			want[p+".mlp.experts"] = map[Role]int{ExpertGate: 4, ExpertUp: 4, ExpertDown: 4}
		}
	}
	assert.Equal(t, want, groups)
}

// Whatever the sizes, a checkpoint that holds the table is complete, stacked
// or not, in any order of tensors; each tensor that is taken away is missed.
func TestDescribeTableIsComplete(t *testing.T) {
	bases := map[string]*Config{}
	for _, name := range Presets() {
		bases[name] = small(t, name)
	}
	rapid.Check(t, func(rt *rapid.T) {
		base := bases[rapid.SampledFrom(Presets()).Draw(rt, "preset")]
		f := fields(t, base.Raw)
		text := f
		if sub, ok := f["text_config"].(map[string]any); ok {
			text = sub
		}
		layers := rapid.IntRange(1, 4).Draw(rt, "layers")
		text["num_hidden_layers"] = layers
		delete(text, "mlp_layer_types")
		delete(text, "indexer_types")
		text["first_k_dense_replace"] = rapid.IntRange(0, layers).Draw(rt, "dense")
		text["n_routed_experts"] = rapid.IntRange(2, 6).Draw(rt, "experts")
		text["n_shared_experts"] = rapid.IntRange(1, 2).Draw(rt, "shared")
		text["num_nextn_predict_layers"] = rapid.IntRange(0, 2).Draw(rt, "mtp")
		text["use_qk_norm"] = rapid.Bool().Draw(rt, "qknorm")
		text["moe_intermediate_size"] = rapid.IntRange(1, 9).Draw(rt, "M")
		text["vocab_size"] = rapid.IntRange(1, 50).Draw(rt, "V")
		text["index_topk_freq"] = rapid.IntRange(1, 3).Draw(rt, "freq")
		cfg, err := ParseConfig(encode(t, f))
		if err != nil {
			rt.Fatal(err)
		}
		rows := cfg.Table()
		if rapid.Bool().Draw(rt, "stacked") {
			rows = Stack(cfg, rows)
		}
		infos := rapid.Permutation(infosOf(rows)).Draw(rt, "order")
		m, err := Describe(cfg, infos)
		if err != nil {
			rt.Fatal(err)
		}
		if len(m.Missing)+len(m.Unexpected) > 0 || len(m.Entries) != len(cfg.Table()) {
			rt.Fatalf("missing %d, unexpected %d, %d of %d entries", len(m.Missing), len(m.Unexpected), len(m.Entries), len(cfg.Table()))
		}
		gone := infos[0]
		m, err = Describe(cfg, infos[1:])
		if err != nil {
			rt.Fatal(err)
		}
		row := cfg.Lookup(gone.Name)
		if optional := row != nil && row.Optional; optional == (len(m.Missing) > 0) {
			rt.Fatalf("without %s: %d missing", gone.Name, len(m.Missing))
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	for _, name := range Presets() {
		p, err := LookupPreset(name)
		require.NoError(f, err)
		f.Add(p.JSON)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := ParseConfig(data)
		if err != nil {
			if AsConfigError(err) == nil || cfg != nil {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if (cfg.Layers+cfg.MTPLayers)*cfg.Experts > 1<<12 || cfg.Layers > 100 {
			return // slow, and no other path
		}
		m, err := Describe(cfg, infosOf(cfg.Table()))
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Missing)+len(m.Unexpected) > 0 || m.Parameters() <= 0 {
			t.Fatal("a table does not describe itself")
		}
	})
}
