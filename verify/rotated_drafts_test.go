package verify_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

// spread copies a model and gives it a wide final norm, as published ones have:
// gains times factors that the head is divided by.
func spread(t *testing.T, name string) string {
	dir := filepath.Join(t.TempDir(), "spread")
	require.NoError(t, os.CopyFS(dir, os.DirFS(testkit.Shared(t, "reference/"+name))))
	ok, err := mutate.Edit(dir, func(s mutate.Set) (bool, error) {
		norm, head := s["model.norm.weight"], s["lm_head.weight"]
		g, w := make([]float32, norm.Shape[0]), make([]float32, head.Shape[0]*head.Shape[1])
		numeric.DecodeBF16(g, norm.Data)
		numeric.DecodeBF16(w, head.Data)
		rng := rand.New(rand.NewPCG(5, 5))
		by := make([]float32, len(g))
		for i := range by {
			by[i] = float32(math.Exp(0.8 * rng.NormFloat64()))
			g[i] *= by[i]
		}
		for i := range w {
			w[i] /= by[i%len(by)]
		}
		norm.Data, head.Data = numeric.AppendBF16(nil, g), numeric.AppendBF16(nil, w)
		return true, nil
	})
	require.NoError(t, err)
	require.True(t, ok)
	return dir
}

// rotate writes the rotated model in full precision, MTP layer included.
func rotate(t *testing.T, src string, o quant.Options) string {
	return rotateAs(t, src, quant.BF16, o)
}

// rotateAs writes the rotated model in a scheme.
func rotateAs(t *testing.T, src string, scheme quant.Scheme, o quant.Options) string {
	r, err := quant.OpenRotated(t.Context(), src, scheme, "", o, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	if o.MTP != layout.MTPDrop {
		require.Equal(t, layout.Ascend, r.Plan.Format, "drafts need its description")
	}
	dst := filepath.Join(t.TempDir(), "rotated")
	_, err = convert.Run(t.Context(), r.Plan, r.Checkpoint, dst, convert.Options{Workers: 2})
	require.NoError(t, err)
	return dst
}

// drafts are the logits of a model's first drafts over ids.
func drafts(t *testing.T, dir string, ids []int) []float32 {
	m, err := runtime.Load(dir, runtime.Options{})
	require.NoError(t, err)
	defer func() { _ = m.Close() }()
	h, err := m.NewSession().Forward(t.Context(), ids)
	require.NoError(t, err)
	mtp, err := m.MTP()
	require.NoError(t, err)
	n := len(ids) - 1
	_, g, err := mtp.Step(t.Context(), ids[1:], h[:n*m.Config().HiddenSize], []runtime.Span{{N: n, Cache: new(runtime.LayerCache)}}, nil)
	require.NoError(t, err)
	z, err := mtp.Logits(t.Context(), g)
	require.NoError(t, err)
	return z
}

// away is the relative difference of two vectors.
func away(a, b []float32) float64 {
	var diff, size float64
	for i, v := range a {
		d := float64(b[i]) - float64(v)
		diff, size = diff+d*d, size+float64(v)*float64(v)
	}
	return math.Sqrt(diff / size)
}

// TestRotatedInFullPrecision: a rotated BF16 result passes, with a wide final norm
// too; its drafts are the source's with rot.weight and collapse without.
func TestRotatedInFullPrecision(t *testing.T) {
	ids := make([]int, 200)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range ids {
		ids[i] = rng.IntN(900)
	}
	for _, name := range []string{"nano-glm5", "nano-glm52"} {
		t.Run(name, func(t *testing.T) {
			src := spread(t, name)
			dst := rotate(t, src, quant.Options{})
			r, err := verify.Compare(t.Context(), src, dst, verify.Options{Tokens: 512, SeqLen: 64, Workers: 2})
			require.NoError(t, err)
			assert.Equal(t, verify.Pass, r.Verdict, report.Text(r))
			assert.Equal(t, "rotated", r.Profile.Name)
			assert.Less(t, r.KL.Mean, 1e-3, "weights are rounded to BF16 once")
			assert.Less(t, r.NRMSE, 0.01)
			assert.InDelta(t, r.MTP.Source.Agreement[0], r.MTP.Result.Agreement[0], 0.02)
			want := drafts(t, src, ids)
			with := away(want, drafts(t, dst, ids))
			assert.Less(t, with, 0.03)
			ok, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
				delete(s, layout.DraftRotation)
				return true, nil
			})
			require.NoError(t, err)
			require.True(t, ok)
			assert.Greater(t, away(want, drafts(t, dst, ids)), max(0.1, 5*with))
		})
	}
}

// TestFoldsBeforeTheRotation: the result is compared with the source under both.
func TestFoldsBeforeTheRotation(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm5-outliers")
	dst := rotate(t, src, quant.Options{Fold: quant.FoldGamma})
	m, err := quant.ReadManifest(dst)
	require.NoError(t, err)
	assert.Positive(t, m.Folds.Len())
	assert.Equal(t, quant.FoldGamma, m.Fold)
	r, err := verify.Compare(t.Context(), src, dst, verify.Options{Tokens: 256, SeqLen: 64, Workers: 2})
	require.NoError(t, err)
	assert.Equal(t, verify.Pass, r.Verdict, report.Text(r))
}

// attentionRanges are ranges of the inputs of attention for static W8A8.
func attentionRanges() map[string]quant.Range {
	ranges := map[string]quant.Range{}
	for _, l := range []string{"0", "1", "2"} {
		for _, m := range []string{"q_a_proj", "kv_a_proj_with_mqa", "q_b_proj", "o_proj", "indexer.wq_b"} {
			ranges["model.layers."+l+".self_attn."+m] = quant.Range{Lo: -8, Hi: 8.1}
		}
	}
	return ranges
}

// TestPathsOfAnNPU: a static result is run on both paths, the verdict is of the
// worse; a dynamic one has one path.
func TestPathsOfAnNPU(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm5")
	o := verify.Options{Tokens: 512, SeqLen: 64, Workers: 2, AllTokens: true, Tol: 1}
	r, err := verify.Compare(t.Context(), src, convertAs(t, src, quant.W8A8, layout.Ascend, quant.Options{Ranges: attentionRanges()}), o)
	require.NoError(t, err)
	require.Len(t, r.Paths, 2)
	assert.Equal(t, []string{"plain", "MLAPO"}, []string{r.Paths[0].Name, r.Paths[1].Name})
	assert.NotEqual(t, r.Paths[0].Mean, r.Paths[1].Mean)
	worst := r.Paths[0]
	if r.Paths[1].Failed > worst.Failed || r.Paths[1].Failed == worst.Failed && r.Paths[1].Upper > worst.Upper {
		worst = r.Paths[1]
	}
	assert.Equal(t, worst.Name, r.Path)
	assert.Equal(t, worst.Mean, r.KL.Mean)
	assert.Contains(t, report.Text(r), "the figures are those of "+worst.Name)
	r, err = verify.Compare(t.Context(), src, convertTo(t, src, quant.W8A8, layout.Ascend), o)
	require.NoError(t, err)
	assert.Empty(t, r.Paths)
	assert.Empty(t, r.Path)
}
