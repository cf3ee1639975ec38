package convert

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

func readAll(t *testing.T, c *safetensors.Checkpoint, name string) []byte {
	info, ok := c.Info(name)
	require.True(t, ok, name)
	b := make([]byte, info.Size)
	require.NoError(t, c.ReadAt(info, 0, b))
	return b
}

// TestFoldGamma: what is copied is the source's times the folds, and the
// manifest has the exponents.
func TestFoldGamma(t *testing.T) {
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/nano-glm5-outliers"))
	require.NoError(t, err)
	defer src.Close()
	p, err := quant.NewPlan(src, quant.W4A16, layout.CompressedTensors, quant.Options{Fold: quant.FoldGamma})
	require.NoError(t, err)
	plain, err := quant.NewPlan(src, quant.W4A16, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	assert.NotEqual(t, plain.Fingerprint, p.Fingerprint)
	dst := filepath.Join(t.TempDir(), "out")
	_, err = Run(context.Background(), p, src, dst, Options{})
	require.NoError(t, err)

	m, err := quant.ReadManifest(dst)
	require.NoError(t, err)
	require.Equal(t, quant.FoldGamma, m.Fold)
	require.Equal(t, p.Folds.Hash(), m.Folds.Hash())
	folded, err := fold.NewReader(p.Config, src, m.Folds)
	require.NoError(t, err)
	res, err := safetensors.OpenDir(dst)
	require.NoError(t, err)
	defer res.Close()
	moved := 0
	for i := range p.Items {
		it := &p.Items[i]
		if it.Action != quant.Copy || p.Scaling(it.Name()) == nil {
			continue
		}
		want := make([]byte, it.Bytes)
		require.NoError(t, folded.ReadAt(it.Source, it.Offset, want))
		require.Equal(t, want, readAll(t, res, it.Name()), it.Name())
		require.NotEqual(t, readAll(t, src, it.Name()), want, it.Name())
		moved++
	}
	assert.Greater(t, moved, 3, "norms, routers, indexers, q_a and kv_a")
}

func TestFoldRefuses(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	src, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer src.Close()
	p, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	sites := p.FoldSites()
	require.Equal(t, "model.layers.0.input_layernorm.weight", sites[0].Name)

	t.Run("range", func(t *testing.T) {
		set := fold.NewSet()
		e := make(fold.Exponents, sites[0].Channels)
		e[0] = 127
		set.Put(&sites[0], e)
		p, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{Fold: quant.FoldSearch, Folds: set})
		require.NoError(t, err)
		dst := filepath.Join(t.TempDir(), "out")
		_, err = Run(context.Background(), p, src, dst, Options{})
		require.ErrorIs(t, err, fold.ErrRange)
		require.ErrorIs(t, err, quant.ErrSource)
		assert.NoFileExists(t, filepath.Join(dst, quant.ManifestName))
	})
	t.Run("no statistics", func(t *testing.T) {
		_, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{Fold: quant.FoldSearch})
		assert.ErrorIs(t, err, quant.ErrImpossible)
	})
	t.Run("unknown", func(t *testing.T) {
		_, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{Fold: "beta"})
		assert.ErrorIs(t, err, quant.ErrImpossible)
	})
	t.Run("of another model", func(t *testing.T) {
		var set fold.Set
		require.NoError(t, set.UnmarshalJSON([]byte(`{"model.layers.0.input_layernorm.weight":"YgYEAAD//w=="}`)))
		_, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{Fold: quant.FoldSearch, Folds: &set})
		assert.ErrorIs(t, err, quant.ErrSource)
	})
}
