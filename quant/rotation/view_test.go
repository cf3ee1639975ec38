package rotation

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// view opens a rotated view of a reference model, folded before where asked for.
func view(t *testing.T, name string, o ViewOptions, folded bool) *View {
	dir := testkit.Shared(t, "reference/"+name)
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	set, err := New(cfg, cfg.SparseAttention())
	require.NoError(t, err)
	if folded {
		set.Folds = fold.NewSet()
		for _, s := range fold.Sites(cfg) {
			e := make(fold.Exponents, s.Channels)
			for i := range e {
				e[i] = int8(i % 3)
			}
			set.Folds.Put(&s, e)
		}
	}
	v, err := NewView(dir, set, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

// TestViewReadsAnywhere: pieces of a file are those of the whole file, also
// where little is kept of what was computed.
func TestViewReadsAnywhere(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cache  int64
		folded bool
	}{{"nano-glm5", 0, false}, {"nano-glm5", 1, true}, {"nano-glm4moe", 1, true}} {
		v := view(t, tc.name, ViewOptions{Wide: func(n string) bool { return len(n)%2 == 0 }, Copies: true, Matrix: true, Cache: tc.cache}, tc.folded)
		list, err := v.List(t.Context())
		require.NoError(t, err)
		for _, e := range list {
			f, err := v.Open(t.Context(), e.Name)
			require.NoError(t, err)
			all := make([]byte, e.Size)
			n, err := f.ReadAt(t.Context(), all, 0)
			require.NoError(t, err, e.Name)
			require.Equal(t, len(all), n)
			for range 60 {
				lo := rand.Int64N(e.Size)
				p := make([]byte, min(rand.Int64N(5000), e.Size-lo))
				_, err := f.ReadAt(t.Context(), p, lo)
				require.NoError(t, err)
				require.Equal(t, all[lo:][:len(p)], p, "%s at %d", e.Name, lo)
			}
		}
	}
}

// TestViewKeepsLittle: weights that were read whole make room for the next ones
// of their size, and one that is read again is what it was.
func TestViewKeepsLittle(t *testing.T) {
	v := view(t, "nano-glm5", ViewOptions{}, false)
	sizes, first := map[int64]bool{}, map[string][]float32{}
	read := 0
	for _, again := range []bool{false, true} {
		for name, tensor := range v.made {
			if tensor.change.left == nil {
				continue
			}
			rows, _ := tensor.dims()
			sizes[tensor.entry.Elements()] = true
			half, err := v.Rows(name, 0, rows/2)
			require.NoError(t, err)
			rest, err := v.Rows(name, rows/2, rows)
			require.NoError(t, err)
			x := append(half, rest...)
			if again {
				require.Equal(t, first[name], x, name)
			}
			first[name] = x
			read++
		}
	}
	require.Greater(t, read, 2*len(sizes))
	require.LessOrEqual(t, len(v.kept), len(sizes))
}

// TestViewIsACheckpoint: it has the source's tensors, norms of 1, and what
// engines need for drafts.
func TestViewIsACheckpoint(t *testing.T) {
	v := view(t, "nano-glm5", ViewOptions{Copies: true, Matrix: true}, false)
	unmount, err := source.Mount(t.Context(), v)
	require.NoError(t, err)
	defer unmount()
	c, err := safetensors.OpenDir(v.Name())
	require.NoError(t, err)
	defer c.Close()
	src, err := safetensors.OpenDir(v.dir)
	require.NoError(t, err)
	defer src.Close()
	added := map[string]bool{WeightName: true, "model.layers.3.embed_tokens.weight": true, "model.layers.3.shared_head.head.weight": true}
	for _, info := range c.Tensors() {
		old, ok := src.Info(info.Name)
		assert.Equal(t, !added[info.Name], ok, info.Name)
		if ok {
			assert.Equal(t, old.Shape, info.Shape)
			assert.Equal(t, old.DType, info.DType)
		}
		if info.Name == "model.norm.weight" {
			raw, x := make([]byte, info.Size), make([]float32, info.Elements())
			require.NoError(t, c.ReadAt(info, 0, raw))
			require.NoError(t, layout.DecodeFloats(x, raw, info.DType))
			for _, f := range x {
				require.Equal(t, float32(1), f)
			}
		}
	}
	cfg, err := glm.LoadConfig(v.Name())
	require.NoError(t, err)
	m, err := glm.Describe(cfg, c.Tensors())
	require.NoError(t, err)
	assert.True(t, m.MTP.EmbedTokens && m.MTP.SharedHead)
}

// TestWhatCannotBeRotated: the reasons are said.
func TestWhatCannotBeRotated(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(c *glm.Config)
		model  string
		drafts bool
		says   string
	}{
		"tied":               {func(c *glm.Config) { c.TieEmbeddings = true }, "nano-glm5", false, "one tensor"},
		"vision":             {func(*glm.Config) {}, "nano-glm45v", false, "vision tower"},
		"drafts of GLM-4.x":  {func(*glm.Config) {}, "nano-glm4moe", true, "no engine has rot.weight"},
		"GLM-4.x alone":      {func(*glm.Config) {}, "nano-glm4moe", false, ""},
		"drafts with GLM-5":  {func(*glm.Config) {}, "nano-glm52", true, ""},
		"sizes of real ones": {func(c *glm.Config) { c.HiddenSize, c.QLoraRank, c.KVLoraRank, c.VHeadDim = 6144, 2048, 512, 256 }, "nano-glm5", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := glm.LoadConfig(testkit.Shared(t, "reference/"+tc.model))
			require.NoError(t, err)
			tc.change(cfg)
			set, err := New(cfg, tc.drafts)
			switch tc.says {
			case "":
				require.NoError(t, err)
				assert.Equal(t, cfg.HiddenSize, set.Stream.Size())
			default:
				require.ErrorIs(t, err, ErrImpossible)
				assert.Contains(t, err.Error(), tc.says)
			}
		})
	}
}
