package synth

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// write writes a checkpoint and opens it the way the commands do.
func write(t testing.TB, o Options) (dir string, cp *safetensors.Checkpoint, m *glm.Model) {
	t.Helper()
	plan, err := NewPlan(o)
	require.NoError(t, err)
	dir = t.TempDir()
	require.NoError(t, plan.Write(context.Background(), dir))
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	cp, err = safetensors.OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cp.Close()) })
	m, err = glm.Describe(cfg, cp.Tensors())
	require.NoError(t, err)
	assert.Empty(t, m.Missing)
	assert.Empty(t, m.Unexpected)
	return dir, cp, m
}

// narrow is a published model cut down to kilobytes: true names, small widths.
func narrow(t testing.TB, preset string) []byte {
	t.Helper()
	p, err := glm.LookupPreset(preset)
	require.NoError(t, err)
	var file map[string]any
	require.NoError(t, json.Unmarshal(p.JSON, &file))
	text := file
	if sub, ok := file["text_config"].(map[string]any); ok {
		text = sub
	}
	for k, v := range map[string]any{
		"hidden_size": 64, "intermediate_size": 97, "moe_intermediate_size": 33, "vocab_size": 512, "num_attention_heads": 4,
		"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "qk_head_dim": 24, "v_head_dim": 16,
		"index_n_heads": 2, "index_head_dim": 16, "num_key_value_heads": 2, "head_dim": 16,
	} {
		if _, ok := text[k]; ok {
			text[k] = v
		}
	}
	if _, ok := text["q_lora_rank"]; ok {
		text["num_key_value_heads"] = 4
	}
	if v, ok := file["vision_config"].(map[string]any); ok {
		v["hidden_size"], v["num_heads"], v["out_hidden_size"], v["intermediate_size"], v["depth"] = 32, 2, 64, 48, 2
		text["rope_scaling"] = map[string]any{"rope_type": "default", "mrope_section": []int{1, 1, 2}}
	}
	for _, k := range []string{"eos_token_id", "pad_token_id", "image_token_id", "video_token_id", "image_start_token_id",
		"image_end_token_id", "video_start_token_id", "video_end_token_id"} {
		delete(file, k)
		delete(text, k)
	}
	return encode(file)
}

// Full-size headers of the seven published shapes, as sparse files on disk,
// give the counts of docs/facts/families.md 1.6. (4.7, 5.1 and 4.6V have the
// headers of 4.6, 5 and 4.5V.)
func TestSparsePublished(t *testing.T) {
	want := map[string]struct {
		tensors int
		params  int64
	}{
		"glm-4.5-air":   {18329, 110468824832},
		"glm-4.5":       {44691, 358337791296},
		"glm-4.6":       {44689, 356785898816},
		"glm-4.7-flash": {9703, 31221488576},
		"glm-5":         {59870, 753864139008},
		"glm-5.2":       {59585, 753329940480},
		"glm-4.5v":      {18106, 107710933120},
	}
	for name := range want {
		t.Run(name, func(t *testing.T) {
			_, cp, m := write(t, Options{Preset: name, Sparse: true})
			assert.Len(t, cp.Tensors(), want[name].tensors)
			assert.Len(t, m.Entries, want[name].tensors)
			assert.Equal(t, want[name].params, m.Parameters())
			f32 := int64(0)
			for _, info := range cp.Tensors() {
				if info.DType == safetensors.F32 {
					f32 += info.Elements()
				}
			}
			if name == "glm-5.2" {
				assert.EqualValues(t, 19456, f32)
			}
			total, ok := cp.TotalSize()
			assert.True(t, ok)
			assert.Equal(t, 2*m.Parameters()+2*f32, total)
			switch p, _ := glm.LookupPreset(name); {
			case m.Config.MTPLayers == 0:
				assert.Nil(t, m.MTP)
			case p.MTPFile:
				assert.Equal(t, "mtp.safetensors", m.MTP.File)
				fallthrough
			default:
				assert.True(t, m.MTP.Complete)
				assert.Equal(t, p.MTPCopies, m.MTP.EmbedTokens)
				assert.Equal(t, p.MTPCopies, m.MTP.SharedHead)
			}
		})
	}
}

// readAll returns a tensor's bytes by its official name.
func readAll(t testing.TB, cp *safetensors.Checkpoint, m *glm.Model) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, e := range m.Entries {
		data := make([]byte, e.Size)
		_, err := io.ReadFull(io.NewSectionReader(cp.Reader(e.Source), e.Offset, e.Size), data)
		require.NoError(t, err, e.Name)
		out[e.Name] = data
	}
	return out
}

// Same seed, same weights, whatever the files look like.
func TestBytesDependOnSeedAlone(t *testing.T) {
	for _, preset := range []string{"glm-4.5-air", "glm-4.5v", "glm-5.2", "glm-4.7-flash"} {
		base := Options{Config: narrow(t, preset), Layers: 3, Experts: 5, Seed: 7, Workers: 1}
		switch preset {
		case "glm-5.2":
			base.Layers = 5
		case "glm-4.5-air": // tensors of several chunks
			base.Config = bytes.Replace(base.Config, []byte(`"vocab_size": 512`), []byte(`"vocab_size": 40000`), 1)
		}
		_, cp, m := write(t, base)
		want := readAll(t, cp, m)
		if preset == "glm-4.5-air" {
			require.Greater(t, len(want[m.Config.HeadName()]), 2*2*chunkElements)
		}

		for name, change := range map[string]func(*Options){
			"workers": func(o *Options) { o.Workers = 4 },
			"shards":  func(o *Options) { o.ShardBytes = 50_000 },
			"stacked": func(o *Options) { o.Fused = true },
			"v5":      func(o *Options) { o.V5Config = true },
		} {
			o := base
			change(&o)
			_, cp, got := write(t, o)
			assert.Equal(t, want, readAll(t, cp, got), "%s, %s", preset, name)
			if name == "shards" {
				assert.Greater(t, len(cp.Files()), 3)
			}
			if name == "stacked" {
				assert.Less(t, len(cp.Tensors()), len(m.Entries))
			}
			if name == "v5" {
				a, b := m.Config, got.Config
				assert.Equal(t, a.Dense, b.Dense)
				assert.Equal(t, a.RopeTheta, b.RopeTheta)
				assert.Equal(t, a.RopeWidth, b.RopeWidth)
				assert.Equal(t, a.MRopeSections, b.MRopeSections)
				assert.Contains(t, string(got.Config.Raw), "rope_parameters")
				assert.NotContains(t, string(got.Config.Raw), "torch_dtype")
			}
		}
		other := base
		other.Seed = 8
		_, cp, got := write(t, other)
		assert.NotEqual(t, want, readAll(t, cp, got))
	}
}

func TestStreamRandomAccess(t *testing.T) {
	for _, dtype := range []safetensors.DType{safetensors.BF16, safetensors.F16, safetensors.F32} {
		width := dtype.Bits() / 8
		s := newStream(3, part{key: "a.weight", role: glm.AttnQ, dtype: dtype})
		whole := make([]byte, 1003*width)
		s.fill(whole, 0)
		for _, first := range []int{0, 4, 400, 1000} {
			for _, n := range []int{1, 2, 3} {
				piece := make([]byte, n*width)
				s.fill(piece, int64(first))
				assert.Equal(t, whole[first*width:(first+n)*width], piece, "%s %d %d", dtype, first, n)
			}
		}
	}
}

// Distribution by role: mean, spread, symmetry, and what the router bias is.
func TestValues(t *testing.T) {
	plan, err := NewPlan(Options{Preset: "glm-4.5-air", Layers: 3, Experts: 8, Vocab: 1024})
	require.NoError(t, err)
	levels := map[float64]bool{}
	for name, parts := range plan.parts {
		p := parts[0]
		n := min(p.elements, 1<<12)
		data := make([]byte, n*int64(p.dtype.Bits()/8))
		newStream(0, p).fill(data, 0)
		sum, square := 0.0, 0.0
		for i := range n {
			v := 0.0
			if p.dtype == safetensors.F32 {
				v = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
			} else {
				v = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16))
			}
			require.False(t, math.IsNaN(v) || math.IsInf(v, 0))
			sum += v
			square += v * v
		}
		mean := sum / float64(n)
		sigma := math.Sqrt(square/float64(n) - mean*mean)
		wantMean, wantSigma := moments(0, p)
		if p.role == glm.RouterBias {
			assert.Equal(t, safetensors.F32, p.dtype)
			assert.GreaterOrEqual(t, wantMean, 7.0)
			assert.LessOrEqual(t, wantMean, 11.0)
			levels[wantMean] = true
		}
		tol := 6 / math.Sqrt(float64(n))
		assert.InDelta(t, wantMean, mean, wantSigma*tol+wantMean*0.004, name)
		if n > 1000 {
			assert.InEpsilon(t, wantSigma, sigma, tol+0.01, name)
		}
	}
	assert.Greater(t, len(levels), 1, "each layer has its level")
}

func TestMTPStates(t *testing.T) {
	config := narrow(t, "glm-4.5-air")
	for _, tc := range []struct {
		name   string
		state  MTPState
		place  MTPPlace
		copies bool
		file   string
	}{
		{"as published", MTPAsPublished, PlaceAsPublished, false, "model-00001-of-00001.safetensors"},
		{"in the shards", MTPPlain, PlaceShards, false, "model-00001-of-00001.safetensors"},
		{"copies in the shards", MTPCopies, PlaceShards, true, "model-00001-of-00001.safetensors"},
		{"a listed file", MTPCopies, PlaceListed, true, "mtp.safetensors"},
		{"a file that is not listed", MTPPlain, PlaceUnlisted, false, "mtp.safetensors"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, cp, m := write(t, Options{Config: config, Layers: 2, Experts: 4, MTP: tc.state, MTPPlace: tc.place})
			assert.Equal(t, &glm.MTP{Layer: 2, EmbedTokens: tc.copies, SharedHead: tc.copies, File: tc.file, Complete: true}, m.MTP)
			index, err := os.ReadFile(filepath.Join(dir, safetensors.IndexName))
			require.NoError(t, err)
			assert.Equal(t, tc.place != PlaceUnlisted, slices.Contains(listed(t, index), "model.layers.2.eh_proj.weight"))
			if tc.copies {
				all := readAll(t, cp, m)
				embed, head := m.Config.MTPNames(2)
				assert.Equal(t, all[m.Config.EmbeddingName()], all[embed])
				assert.Equal(t, all[m.Config.HeadName()], all[head])
				assert.NotEqual(t, all[embed], all[head])
			}
		})
	}
	_, _, m := write(t, Options{Config: config, Layers: 2, Experts: 4, MTP: MTPNone})
	assert.Nil(t, m.MTP)
}

func listed(t testing.TB, index []byte) []string {
	t.Helper()
	var file struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	require.NoError(t, json.Unmarshal(index, &file))
	var names []string
	for name := range file.WeightMap {
		names = append(names, name)
	}
	return names
}

func TestShrink(t *testing.T) {
	plan, err := NewPlan(Options{Preset: "glm-5.2", Layers: 8, Experts: 16, Vocab: 2048})
	require.NoError(t, err)
	c := plan.Config
	assert.Equal(t, []bool{true, true, true, false, false, false, false, false}, c.Dense)
	assert.Equal(t, []bool{true, true, true, false, false, false, true, false}, c.IndexerFull)
	assert.Equal(t, 6144, c.HiddenSize, "widths stay true")
	assert.Empty(t, c.Notes)
	assert.Len(t, c.EOS, 3)
	for _, id := range c.EOS {
		assert.Less(t, id, 2048)
	}
	assert.Equal(t, c.EOS[0], c.Pad)
	m, err := glm.Describe(c, plan.Infos())
	require.NoError(t, err)
	assert.Empty(t, m.Missing)

	plan, err = NewPlan(Options{Preset: "glm-4.5-air", Layers: 1, Experts: 4})
	require.NoError(t, err)
	assert.Equal(t, 4, plan.Config.ExpertsPerToken)
	assert.Equal(t, []bool{true}, plan.Config.Dense)

	plan, err = NewPlan(Options{Preset: "glm-4.5v", Vocab: 4096, DType: safetensors.F16})
	require.NoError(t, err)
	assert.Less(t, plan.Config.Vision.ImageTokenID, 4096)
	assert.NotEqual(t, plan.Config.Vision.ImageTokenID, plan.Config.Vision.VideoTokenID)
	assert.Equal(t, "float16", plan.Config.DType)
}

func TestScaleTo(t *testing.T) {
	for _, name := range []string{"glm-4.5-air", "glm-4.6", "glm-4.5v", "glm-5.2", "glm-4.7-flash"} {
		for _, target := range []int64{4e9, 20e9} {
			if name == "glm-5.2" && target == 4e9 {
				continue // three dense layers, the MTP layer and 8 experts take 5 GB
			}
			o, err := ScaleTo(Options{Preset: name}, target)
			require.NoError(t, err, name)
			plan, err := NewPlan(o)
			require.NoError(t, err)
			assert.InEpsilon(t, float64(target), float64(plan.Bytes), 0.15, "%s %d: %d layers, %d experts", name, target, o.Layers, o.Experts)
			assert.False(t, plan.Config.Dense[plan.Config.Layers-1], "%s keeps a layer with experts", name)
		}
	}
	whole, err := ScaleTo(Options{Preset: "glm-4.7-flash"}, 1e12)
	require.NoError(t, err)
	assert.Zero(t, whole.Layers)
	least, err := ScaleTo(Options{Preset: "glm-5"}, 1)
	require.NoError(t, err)
	assert.Equal(t, 4, least.Layers)
	assert.Equal(t, 8, least.Experts)
}

func TestRefusals(t *testing.T) {
	for name, o := range map[string]Options{
		"nothing":          {},
		"both":             {Preset: "glm-5", Config: []byte("{}")},
		"unknown preset":   {Preset: "glm-3"},
		"bad config":       {Config: []byte("{")},
		"more layers":      {Preset: "glm-5", Layers: 79},
		"more experts":     {Preset: "glm-5", Experts: 257},
		"negative":         {Preset: "glm-5", Experts: -1},
		"dtype":            {Preset: "glm-5", DType: safetensors.I8},
		"MTP state":        {Preset: "glm-5", MTP: "half"},
		"MTP place":        {Preset: "glm-5", MTPPlace: "elsewhere"},
		"copies of no MTP": {Preset: "glm-4.6v", MTP: MTPCopies},
	} {
		_, err := NewPlan(o)
		assert.Error(t, err, name)
	}
	_, err := NewPlan(Options{Config: []byte(`{"model_type": "llama"}`)})
	assert.ErrorIs(t, err, glm.ErrUnsupported)

	plan, err := NewPlan(Options{Config: narrow(t, "glm-4.5"), Layers: 1, Experts: 2})
	require.NoError(t, err)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, plan.Write(ctx, dir), context.Canceled)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries, "an interrupted write leaves nothing")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0o644))
	assert.ErrorIs(t, plan.Write(context.Background(), dir), fs.ErrExist)
}

func BenchmarkFill(b *testing.B) {
	s := newStream(1, part{key: "w.weight", role: glm.AttnQ, dtype: safetensors.BF16})
	buf := make([]byte, 2*chunkElements)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		s.fill(buf, 0)
	}
}
