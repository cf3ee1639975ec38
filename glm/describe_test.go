package glm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/safetensors"
)

// infosOf lays rows out one after the other in one file.
func infosOf(rows []Tensor) []safetensors.Info {
	infos := make([]safetensors.Info, 0, len(rows))
	offset := int64(8)
	for i := range rows {
		r := &rows[i]
		size := safetensors.DataSize(r.DType, r.Shape)
		infos = append(infos, safetensors.Info{Name: r.Name, DType: r.DType, Shape: r.Shape, File: "model.safetensors", Offset: offset, Size: size})
		offset += size
	}
	return infos
}

// headersOf reads the headers of all shards of a directory without the
// safetensors package, so that the two are judged apart.
func headersOf(t testing.TB, dir string) []safetensors.Info {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var infos []safetensors.Info
	for _, path := range files {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		n := int64(binary.LittleEndian.Uint64(data))
		var header map[string]struct {
			DType   string   `json:"dtype"`
			Shape   []int64  `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}
		raw := map[string]json.RawMessage{}
		require.NoError(t, json.Unmarshal(data[8:8+n], &raw))
		delete(raw, "__metadata__")
		trimmed, err := json.Marshal(raw)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(trimmed, &header))
		for name, h := range header {
			dtype, ok := safetensors.ParseDType(h.DType)
			require.True(t, ok, h.DType)
			infos = append(infos, safetensors.Info{Name: name, DType: dtype, Shape: h.Shape, File: filepath.Base(path),
				Offset: 8 + n + h.Offsets[0], Size: h.Offsets[1] - h.Offsets[0]})
		}
	}
	return infos
}

func TestDescribeReferences(t *testing.T) {
	for _, want := range []struct {
		dir           string
		family        Family
		embed, head   bool
		mtpLayer      int
		mtpFile       string
		lastIndexer   int
		ropeWidth     int
		ropeTheta     float64
		interleavedIx bool
	}{
		{dir: "nano-glm4moe", family: Glm4Moe, embed: true, head: true, mtpLayer: 3, mtpFile: "model-00002-of-00002.safetensors", ropeWidth: 32,
			ropeTheta: 1e6},
		{dir: "tiny-glm4moe", family: Glm4Moe, mtpLayer: 4, mtpFile: "mtp.safetensors", ropeWidth: 32, ropeTheta: 1e6},
		{dir: "nano-glm5", family: GlmMoeDsa, mtpLayer: 3, mtpFile: "model-00002-of-00002.safetensors", lastIndexer: 2, ropeWidth: 16, ropeTheta: 1e6,
			interleavedIx: true},
		{dir: "nano-glm52", family: GlmMoeDsa, mtpLayer: 3, mtpFile: "model-00002-of-00002.safetensors", lastIndexer: 1, ropeWidth: 16, ropeTheta: 8e6,
			interleavedIx: true},
		{dir: "nano-glm45v", family: Glm4vMoe, mtpLayer: -1, ropeWidth: 32, ropeTheta: 1e6},
	} {
		t.Run(want.dir, func(t *testing.T) {
			dir := testkit.Shared(t, "reference/"+want.dir)
			cfg, err := LoadConfig(dir)
			require.NoError(t, err)
			require.NoError(t, cfg.RequireUnquantized())
			assert.Equal(t, want.family, cfg.Family)
			assert.Equal(t, want.ropeWidth, cfg.RopeWidth)
			assert.Equal(t, want.ropeTheta, cfg.RopeTheta)
			assert.Equal(t, cfg.LatentAttention(), cfg.RopeInterleaved)
			assert.Equal(t, want.interleavedIx, cfg.IndexerInterleaved)
			assert.Len(t, cfg.EOS, 3)
			assert.Equal(t, cfg.EOS[0], cfg.Pad)
			assert.Equal(t, "bfloat16", cfg.DType)

			infos := headersOf(t, dir)
			m, err := Describe(cfg, infos)
			require.NoError(t, err)
			assert.Empty(t, m.Missing)
			assert.Empty(t, m.Unexpected)
			assert.Empty(t, m.Notes)
			assert.Len(t, m.Entries, len(infos))
			elements := int64(0)
			for _, info := range infos {
				elements += info.Elements()
			}
			assert.Equal(t, elements, m.Parameters())
			for _, e := range m.Entries {
				assert.Equal(t, e.DType, e.Source.DType, e.Name)
			}
			if last := m.ByRole(IndexerK); want.lastIndexer > 0 {
				assert.Equal(t, want.lastIndexer, last[len(last)-2].Layer)
				assert.True(t, last[len(last)-1].MTP)
			}
			if want.mtpLayer < 0 {
				assert.Nil(t, m.MTP)
				return
			}
			assert.Equal(t, &MTP{Layer: want.mtpLayer, EmbedTokens: want.embed, SharedHead: want.head, File: want.mtpFile, Complete: true}, m.MTP)
		})
	}
}

func TestDescribeStackedExperts(t *testing.T) {
	cfg := small(t, "glm-5.2")
	m, err := Describe(cfg, infosOf(cfg.Table()))
	require.NoError(t, err)
	require.Empty(t, m.Missing)

	stacked := Stack(cfg, cfg.Table())
	require.Less(t, len(stacked), len(cfg.Table()))
	got, err := Describe(cfg, infosOf(stacked))
	require.NoError(t, err)
	assert.Empty(t, got.Missing)
	assert.Empty(t, got.Unexpected)
	require.Len(t, got.Entries, len(m.Entries))
	assert.Equal(t, m.Parameters(), got.Parameters())
	h, w := int64(cfg.HiddenSize), int64(cfg.MoEIntermediateSize)
	for i, e := range got.Entries {
		assert.Equal(t, m.Entries[i].Tensor, e.Tensor)
		assert.Equal(t, m.Entries[i].Size, e.Size, e.Name)
		if !e.Role.IsExpert() {
			assert.Equal(t, e.Name, e.Source.Name)
			assert.Zero(t, e.Offset)
			continue
		}
		gateUp, down := cfg.StackedExperts(e.Layer)
		k := int64(e.Expert)
		switch e.Role {
		case ExpertGate:
			assert.Equal(t, gateUp, e.Source.Name)
			assert.Equal(t, k*2*w*h*2, e.Offset)
		case ExpertUp:
			assert.Equal(t, gateUp, e.Source.Name)
			assert.Equal(t, (k*2*w+w)*h*2, e.Offset)
		case ExpertDown:
			assert.Equal(t, down, e.Source.Name)
			assert.Equal(t, k*h*w*2, e.Offset)
		}
	}

	t.Run("both forms", func(t *testing.T) {
		gateUp, _ := cfg.StackedExperts(1)
		i := slices.IndexFunc(stacked, func(r Tensor) bool { return r.Name == gateUp })
		both := infosOf(append(slices.Clone(cfg.Table()), stacked[i]))
		_, err := Describe(cfg, both)
		require.ErrorIs(t, err, ErrInvalid)
		assert.ErrorContains(t, err, "stacked and per-expert")
	})
}

func TestDescribeRefuses(t *testing.T) {
	cfg := small(t, "glm-4.5-air")
	change := func(name string, edit func(*safetensors.Info)) []safetensors.Info {
		infos := infosOf(cfg.Table())
		i := slices.IndexFunc(infos, func(t safetensors.Info) bool { return t.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		edit(&infos[i])
		return infos
	}
	const q = "model.layers.1.self_attn.q_proj.weight"
	cases := map[string]struct {
		infos []safetensors.Info
		kind  error
		says  []string
	}{
		"shape": {change(q, func(i *safetensors.Info) { i.Shape = []int64{64, 3} }), ErrInvalid, []string{q, "[64 32]", "[64 3]"}},
		"rank":  {change(q, func(i *safetensors.Info) { i.Shape = []int64{2048} }), ErrInvalid, []string{q, "[64 32]", "[2048]"}},
		"fp8":   {change(q, func(i *safetensors.Info) { i.DType = safetensors.F8E4M3; i.Size /= 2 }), ErrQuantized, []string{q, "F8_E4M3"}},
		"int8":  {change(q, func(i *safetensors.Info) { i.DType = safetensors.I8; i.Size /= 2 }), ErrUnsupported, []string{q, "I8"}},
		"size":  {change(q, func(i *safetensors.Info) { i.Size-- }), ErrInvalid, []string{q, "4095"}},
		"twice": {append(infosOf(cfg.Table()), infosOf(cfg.Table())[0]), ErrInvalid, []string{"model.embed_tokens.weight", "twice"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Describe(cfg, tc.infos)
			require.ErrorIs(t, err, tc.kind)
			var te *TensorError
			require.ErrorAs(t, err, &te)
			assert.Equal(t, "model.safetensors", te.File)
			for _, s := range tc.says {
				assert.ErrorContains(t, err, s)
			}
			m := Survey(cfg, tc.infos) // the same, told and not refused
			assert.Len(t, m.Entries, len(cfg.Table())-len(m.Missing))
			if errors.Is(err, ErrInvalid) {
				assert.Contains(t, m.Notes, err.Error())
			}
		})
	}
}

func TestDescribeFindsGaps(t *testing.T) {
	cfg := small(t, "glm-4.5-air")
	gone := map[string]bool{
		"model.layers.1.mlp.experts.2.up_proj.weight": true,
		"model.layers.2.eh_proj.weight":               true,
		"model.layers.2.embed_tokens.weight":          true, // optional
	}
	var infos []safetensors.Info
	for _, i := range infosOf(cfg.Table()) {
		if !gone[i.Name] {
			infos = append(infos, i)
		}
	}
	for _, extra := range []string{"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.9.input_layernorm.weight"} {
		infos = append(infos, safetensors.Info{Name: extra, DType: safetensors.F32, Shape: []int64{4}, Size: 16, File: "x"})
	}
	m, err := Describe(cfg, infos)
	require.NoError(t, err)
	require.Len(t, m.Missing, 2)
	assert.Equal(t, "model.layers.1.mlp.experts.2.up_proj.weight", m.Missing[0].Name)
	assert.Equal(t, "model.layers.2.eh_proj.weight", m.Missing[1].Name)
	assert.Len(t, m.Unexpected, 2)
	assert.Equal(t, &MTP{Layer: 2, SharedHead: true, MissingCount: 1}, m.MTP)
}

func TestDescribeSeesUndeclaredMTP(t *testing.T) {
	declared := small(t, "glm-5")
	infos := infosOf(declared.Table())
	cfg := edited(t, declared, func(f map[string]any) { delete(f, "num_nextn_predict_layers") })
	assert.False(t, cfg.MTPDeclared)
	m, err := Describe(cfg, infos)
	require.NoError(t, err)
	assert.Empty(t, m.Missing)
	assert.Empty(t, m.Unexpected)
	require.NotNil(t, m.MTP)
	assert.True(t, m.MTP.Complete)
	assert.Contains(t, m.Notes[0], "num_nextn_predict_layers")

	// Declared, but dropped from the files: every tensor of it is missing.
	trunk := slices.DeleteFunc(infos, func(i safetensors.Info) bool { return declared.Lookup(i.Name).MTP })
	m, err = Describe(declared, trunk)
	require.NoError(t, err)
	assert.False(t, m.MTP.Complete)
	assert.Len(t, m.Missing, m.MTP.MissingCount)

	m, err = Describe(cfg, trunk)
	require.NoError(t, err)
	assert.Nil(t, m.MTP)
	assert.Empty(t, m.Missing)
}

func TestDescribeNotesNarrowRouterBias(t *testing.T) {
	cfg := small(t, "glm-4.5-air")
	infos := infosOf(cfg.Table())
	for i := range infos {
		if cfg.Lookup(infos[i].Name).Role == RouterBias {
			infos[i].DType, infos[i].Size = safetensors.BF16, infos[i].Size/2
		}
	}
	m, err := Describe(cfg, infos)
	require.NoError(t, err)
	require.Len(t, m.Notes, 1)
	assert.Contains(t, m.Notes[0], "2 router biases are not F32")
}

func TestSurveyQuantized(t *testing.T) {
	for _, name := range []string{"FP8_DYNAMIC", "W4A8"} {
		dir := testkit.Shared(t, "reference/nano-glm4moe-quantized/"+name)
		cfg, err := LoadConfig(dir)
		require.NoError(t, err)
		require.ErrorIs(t, cfg.RequireUnquantized(), ErrQuantized)
		infos := headersOf(t, dir)
		_, err = Describe(cfg, infos)
		require.ErrorIs(t, err, ErrQuantized)
		m := Survey(cfg, infos)
		assert.Empty(t, m.Missing)
		assert.Empty(t, m.Unexpected)
		assert.Equal(t, len(infos), len(m.Entries)+len(m.Auxiliary))
		assert.NotEmpty(t, m.Auxiliary)
		// The tool that wrote these dropped the key; the layer is seen all the same.
		require.NotNil(t, m.MTP)
		assert.True(t, m.MTP.Complete)
	}
}

func BenchmarkDescribeGLM5(b *testing.B) {
	cfg, rows := presetRows(b, "glm-5")
	infos := infosOf(rows)
	b.ReportAllocs()
	for b.Loop() {
		fresh := *cfg
		if m, err := Describe(&fresh, infos); err != nil || len(m.Missing) > 0 {
			b.Fatal(err)
		}
	}
}
