package glm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/internal/testkit"
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
		var cfg *Config
		var err error
		testkit.AllocatesWithin(t, len(data), 4000, 4<<20, func() { cfg, err = ParseConfig(data) })
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

// TestByteOrderMark: a mark before the object is named.
func TestByteOrderMark(t *testing.T) {
	raw, err := os.ReadFile("presets/glm-5.json")
	require.NoError(t, err)
	_, err = ParseConfig(append([]byte("\xef\xbb\xbf"), raw...))
	require.ErrorContains(t, err, "byte order mark")
}
