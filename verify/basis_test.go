package verify

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// rotatedResult is a reference model, rotated and converted.
func rotatedResult(t *testing.T, name string) (src, dst string) {
	src, dst = testkit.Shared(t, "reference/"+name), filepath.Join(t.TempDir(), "result")
	r, err := quant.OpenRotated(t.Context(), src, quant.W8A8, layout.Ascend, quant.Options{}, 0)
	require.NoError(t, err)
	_, err = convert.Run(t.Context(), r.Plan, r.Checkpoint, dst, convert.Options{})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return src, dst
}

// TestRotatedResultsAreCompared: weights, layers' own errors, keys and drafts
// are measured in the result's basis, whether the rotation is known from the
// manifest, from the file beside the result or from the weights alone.
func TestRotatedResultsAreCompared(t *testing.T) {
	for name, tc := range map[string]struct {
		remove []string
		how    string
	}{
		"by the manifest": {nil, "the manifest's"},
		"by the matrix":   {[]string{quant.ManifestName}, layout.RotationFile},
		"solved":          {[]string{quant.ManifestName, layout.RotationFile}, "solved from the embedding"},
	} {
		t.Run(name, func(t *testing.T) {
			src, dst := rotatedResult(t, "nano-glm5")
			for _, f := range tc.remove {
				require.NoError(t, os.Remove(filepath.Join(dst, f)))
			}
			r, err := Compare(t.Context(), src, dst, Options{Tokens: 256, SeqLen: 32})
			require.NoError(t, err)
			assert.Equal(t, Pass, r.Verdict, "%v", r.Failed)
			assert.False(t, r.Exact.Rotated)
			assert.Contains(t, noteOf(r, "weights"), tc.how)
			for _, l := range r.Layers {
				assert.Less(t, l.Own, 0.1)
				assert.Greater(t, l.KeysOwn, 0.9)
			}
			require.NotNil(t, r.MTP)
			assert.False(t, math.IsNaN(r.MTP.Error))
			assert.Less(t, r.MTP.Error, 0.1)
		})
	}
}

func noteOf(r *Result, where string) string {
	for _, n := range r.Notes {
		if n.Where == where {
			return n.Detail
		}
	}
	return ""
}

// damage changes the bytes of a tensor.
func damage(t *testing.T, dir, name string, change func([]byte)) {
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	info, ok := c.Info(name)
	require.True(t, ok, name)
	raw := make([]byte, info.Size)
	require.NoError(t, c.ReadAt(info, 0, raw))
	c.Close()
	change(raw)
	f, err := os.OpenFile(filepath.Join(dir, info.File), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(raw, info.Offset)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// TestRotatedResultsThatAreDamaged: a weight that is another one is named, and a
// matrix that is not the result's leaves the verdict to the logits.
func TestRotatedResultsThatAreDamaged(t *testing.T) {
	src, dst := rotatedResult(t, "nano-glm5")
	require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
	const name = "model.layers.1.self_attn.q_b_proj.weight_scale"
	damage(t, dst, name, func(b []byte) { copy(b[4:], b[:4]) })
	r, err := Static(t.Context(), src, dst, StaticOptions{})
	require.NoError(t, err)
	assert.Equal(t, Fail, r.Verdict)
	require.NotEmpty(t, r.Failed)
	assert.Contains(t, r.Failed[0].Where, "model.layers.1.self_attn.q_b_proj")

	path := filepath.Join(dst, layout.RotationFile)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := len(raw) - 4*64; i < len(raw); i++ {
		raw[i] = 0
	}
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	r, err = Static(t.Context(), src, dst, StaticOptions{})
	require.NoError(t, err)
	assert.Contains(t, noteOf(r, "weights"), "solved from the embedding", "a matrix that is not orthogonal is none")
}
