package verify

import (
	"math/rand/v2"
	"os"
	"path/filepath"
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

// TestFoldsWithoutManifest: powers of two of every kind of site are found in a
// result that says nothing of them, and its weights are judged; a consumer that
// was left out of the fold fails.
func TestFoldsWithoutManifest(t *testing.T) {
	for _, c := range []struct {
		model  string
		scheme quant.Scheme
		format layout.Format
	}{
		{"nano-glm4moe", quant.W4A16, layout.CompressedTensors},
		{"nano-glm5", quant.W8A8, layout.Ascend},
		{"nano-glm4moe", layout.MXFP4, layout.CompressedTensors},
	} {
		t.Run(c.model+" "+string(c.scheme), func(t *testing.T) {
			src := testkit.Shared(t, "reference/"+c.model)
			cfg, err := glm.LoadConfig(src)
			require.NoError(t, err)
			set, r := fold.NewSet(), rand.New(rand.NewPCG(5, 5))
			sites := fold.Sites(cfg)
			for i := range sites {
				e := make(fold.Exponents, sites[i].Channels)
				for k := range e {
					e[k] = int8(r.IntN(5) - 2)
				}
				set.Put(&sites[i], e)
			}
			ckpt, err := safetensors.OpenDir(src)
			require.NoError(t, err)
			defer ckpt.Close()
			p, err := quant.NewPlan(ckpt, c.scheme, c.format, quant.Options{Fold: quant.FoldSearch, Folds: set})
			require.NoError(t, err)
			dst := filepath.Join(t.TempDir(), "out")
			_, err = convert.Run(t.Context(), p, ckpt, dst, convert.Options{})
			require.NoError(t, err)
			require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))

			got, err := Static(t.Context(), src, dst, StaticOptions{})
			require.NoError(t, err)
			assert.Empty(t, got.Failed)
			require.NotEmpty(t, got.Notes)
			assert.Contains(t, got.Notes[0].Detail, "powers of two moved at")

			f := &folders{}
			defer f.close()
			_, p2, err := openPair(f, src, dst)
			require.NoError(t, err)
			defer p2.close()
			found, others, err := p2.moved(cfg)
			require.NoError(t, err)
			assert.False(t, others)
			assert.Equal(t, set.Hash(), found.Hash())
		})
	}
}
