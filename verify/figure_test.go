package verify_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/verify"
)

// TestMeanKLFromItsDefinition computes the mean KL as docs/verify.md defines
// it, from the logits of both models alone.
func TestMeanKLFromItsDefinition(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	ids := [][]int{{5, 80, 7, 9, 100, 11, 3, 8, 44, 60}, {400, 2, 2, 30, 31, 90, 12, 13, 14, 15, 16, 17}, {1, 2, 3}}
	r, err := verify.Compare(t.Context(), src, dst, verify.Options{TokenIDs: ids, AllTokens: true})
	require.NoError(t, err)
	assert.Equal(t, 4+4+3, r.Skipped)
	assert.Equal(t, 6+8, r.Tokens)
	require.Positive(t, r.Identity.Vocab)
	a, b := logits(t, src, ids), logits(t, dst, ids)
	sum, n := 0.0, 0
	for i := range ids {
		for p := 4; p < len(ids[i]); p++ {
			x, y := logSoftmax(a[i][p][:r.Identity.Vocab]), logSoftmax(b[i][p][:r.Identity.Vocab])
			for k := range x {
				sum += math.Exp(x[k]) * (x[k] - y[k])
			}
			n++
		}
	}
	assert.InDelta(t, sum/float64(n), r.KL.Mean, 1e-12)
	assert.Greater(t, r.KL.Mean, 1e-6, "the result is no copy")
}

// logits are those of every position of every sequence.
func logits(t *testing.T, dir string, ids [][]int) (out [][][]float32) {
	t.Helper()
	m, err := runtime.Load(dir, runtime.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	vocab := m.Config().VocabSize
	for _, s := range ids {
		h, err := m.Forward(t.Context(), []runtime.Step{{Session: m.NewSession(), IDs: s}}, nil)
		require.NoError(t, err)
		z, err := m.Logits(t.Context(), h)
		require.NoError(t, err)
		var rows [][]float32
		for range s {
			rows = append(rows, z[:vocab])
			z = z[vocab:]
		}
		out = append(out, rows)
	}
	return out
}

func logSoftmax(z []float32) []float64 {
	top := math.Inf(-1)
	for _, v := range z {
		top = max(top, float64(v))
	}
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(float64(v) - top)
	}
	out := make([]float64, len(z))
	for i, v := range z {
		out[i] = float64(v) - top - math.Log(sum)
	}
	return out
}
