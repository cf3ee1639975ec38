package verify

import (
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// smoothedCopy writes a checkpoint as tools smooth it: factors between a quarter and
// four at the sites that are chosen, each tensor rounded once. leave says which
// tensors a tool forgets, by the end of their names.
func smoothedCopy(t *testing.T, src string, chosen func(*fold.Site) bool, leave ...string) string {
	t.Helper()
	cfg, err := glm.LoadConfig(src)
	require.NoError(t, err)
	factors, r := fold.Factors{}, rand.New(rand.NewPCG(7, 7))
	for _, site := range fold.Sites(cfg) {
		if !chosen(&site) {
			continue
		}
		by := make([]float64, site.Channels)
		for c := range by {
			by[c] = math.Exp2(4*r.Float64() - 2)
		}
		factors.Put(&site, by)
	}
	for _, name := range leave {
		require.Contains(t, factors, name)
		delete(factors, name)
	}
	dir := filepath.Join(t.TempDir(), "smoothed")
	require.NoError(t, os.CopyFS(dir, os.DirFS(src)))
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	}))
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	view := fold.NewFactorReader(cfg, c, factors)
	for _, info := range c.Tensors() {
		raw := make([]byte, info.Size)
		require.NoError(t, view.ReadAt(info, 0, raw))
		f, err := os.OpenFile(filepath.Join(dir, info.File), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(raw, info.Offset)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	return dir
}

// foreign converts a checkpoint and takes its manifest away.
func foreign(t *testing.T, src string, scheme quant.Scheme, format layout.Format) string {
	t.Helper()
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	p, err := quant.NewPlan(c, scheme, format, quant.Options{})
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "out")
	_, err = convert.Run(t.Context(), p, c, dst, convert.Options{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
	return dst
}

func norms(s *fold.Site) bool  { return s.Kind == fold.Norm }
func all(*fold.Site) bool      { return true }
func inside(s *fold.Site) bool { return s.Kind != fold.Norm }

// TestSmoothedResults: folds by any factors are found in results of other tools, and
// the weights are judged through them.
func TestSmoothedResults(t *testing.T) {
	for name, c := range map[string]struct {
		model  string
		scheme quant.Scheme
		format layout.Format
		sites  func(*fold.Site) bool
	}{
		"SmoothQuant, int8":       {"nano-glm4moe", quant.W8A8, layout.CompressedTensors, norms},
		"AWQ, int4":               {"nano-glm4moe", quant.W4A16, layout.CompressedTensors, all},
		"latent attention, int8":  {"nano-glm5", quant.W8A8, layout.Ascend, norms},
		"latent attention, int4":  {"nano-glm5", quant.W4A16, layout.CompressedTensors, all},
		"values and up rows only": {"nano-glm4moe", quant.W8A8, layout.CompressedTensors, inside},
	} {
		t.Run(name, func(t *testing.T) {
			src := testkit.Shared(t, "reference/"+c.model)
			dst := foreign(t, smoothedCopy(t, src, c.sites), c.scheme, c.format)
			r, err := Static(t.Context(), src, dst, StaticOptions{})
			require.NoError(t, err)
			assert.Empty(t, r.Failed)
			assert.Contains(t, noteOf(r, "weights"), "(smoothing)")
		})
	}
}

// TestSmoothedInFullPrecision: a checkpoint that was smoothed and not quantized is
// the source's function, each tensor rounded once more.
func TestSmoothedInFullPrecision(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm5")
	r, err := Compare(t.Context(), src, smoothedCopy(t, src, all), Options{Tokens: 256, SeqLen: 32})
	require.NoError(t, err)
	assert.Empty(t, r.Failed)
	assert.Equal(t, Pass, r.Verdict, r.Reason)
	assert.Contains(t, noteOf(r, "weights"), "(smoothing)")
}

// TestSmoothedInPart: a reader that a fold forgot, and a channel that is off it, are
// named with the fold.
func TestSmoothedInPart(t *testing.T) {
	for _, c := range []struct {
		model, left string
		sites       func(*fold.Site) bool
		scheme      quant.Scheme
		format      layout.Format
	}{
		{"nano-glm4moe", "model.layers.1.mlp.gate.weight", norms, quant.W8A8, layout.CompressedTensors},
		{"nano-glm4moe", "model.layers.2.self_attn.k_proj.weight", all, quant.W4A16, layout.CompressedTensors},
		{"nano-glm4moe", "model.layers.3.mlp.experts.1.gate_proj.weight", norms, quant.W8A8, layout.CompressedTensors}, // of the MTP layer
		{"nano-glm5", "model.layers.0.self_attn.indexer.weights_proj.weight", norms, quant.W8A8, layout.Ascend},
		{"nano-glm5", "model.layers.1.self_attn.indexer.wq_b.weight", norms, quant.W8A8, layout.Ascend},
	} {
		t.Run(c.model+" "+c.left, func(t *testing.T) {
			src := testkit.Shared(t, "reference/"+c.model)
			dst := foreign(t, smoothedCopy(t, src, c.sites, c.left), c.scheme, c.format)
			r, err := Static(t.Context(), src, dst, StaticOptions{})
			require.NoError(t, err)
			require.NotEmpty(t, r.Failed)
			assert.Equal(t, c.left, r.Failed[0].Where)
			assert.Contains(t, r.Failed[0].Detail, "does not take part in a fold")
		})
	}
	t.Run("a gain", func(t *testing.T) {
		src := testkit.Shared(t, "reference/nano-glm4moe")
		dst := foreign(t, smoothedCopy(t, src, norms), quant.W8A8, layout.CompressedTensors)
		const name = "model.layers.1.input_layernorm.weight"
		damage(t, dst, name, func(b []byte) { b[2*17+1] ^= 1 }) // by a power of two
		r, err := Static(t.Context(), src, dst, StaticOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, r.Failed)
		assert.Equal(t, name, r.Failed[0].Where)
		assert.Contains(t, r.Failed[0].Detail, "channel 17")
	})
	t.Run("a column", func(t *testing.T) {
		src := testkit.Shared(t, "reference/nano-glm4moe")
		smooth := smoothedCopy(t, src, norms)
		const name = "model.layers.1.self_attn.v_proj.weight"
		damage(t, smooth, name, func(b []byte) { scaleColumn(b, 128, 5, 1.25) })
		r, err := Static(t.Context(), src, foreign(t, smooth, quant.W8A8, layout.CompressedTensors), StaticOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, r.Failed)
		assert.Equal(t, name, r.Failed[0].Where)
		assert.Contains(t, r.Failed[0].Detail, "column 5 ")
	})
}

// scaleColumn multiplies a column of BF16 values.
func scaleColumn(b []byte, cols, c int, by float32) {
	for at := 2 * c; at < len(b); at += 2 * cols {
		v := math.Float32frombits(uint32(b[at])<<16|uint32(b[at+1])<<24) * by
		bits := math.Float32bits(v) + 0x8000
		b[at], b[at+1] = byte(bits>>16), byte(bits>>24)
	}
}

// TestNoSmoothing: gains that were changed alone are no fold.
func TestNoSmoothing(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := foreign(t, src, quant.W8A8, layout.CompressedTensors)
	const name = "model.layers.1.input_layernorm.weight"
	damage(t, dst, name, func(b []byte) { scaleColumn(b, len(b)/2, 3, 1.3) })
	r, err := Static(t.Context(), src, dst, StaticOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, r.Failed)
	assert.True(t, strings.HasPrefix(r.Failed[0].Where, "model.layers.1.input_layernorm"))
	assert.NotContains(t, noteOf(r, "weights"), "smoothing")
}
