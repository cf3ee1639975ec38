package verify_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// TestReferenceOfQuantizedSources: a BF16 result of an FP8 release is compared
// with its decoded weights, every value; against the release as it is served the
// same result shows the rounding of activations besides, which is nobody's
// fault; a result that is quantized again is compared with the release as served.
func TestReferenceOfQuantizedSources(t *testing.T) {
	for _, name := range []string{"nano-glm5-fp8", "nano-glm4moe-fp8"} {
		t.Run(name, func(t *testing.T) {
			src := testkit.Shared(t, "reference/sources/"+name)
			dst := convertTo(t, src, layout.BF16, "")
			o := verify.Options{Tokens: 512, SeqLen: 64}
			r, err := verify.Compare(t.Context(), src, dst, o)
			require.NoError(t, err)
			assert.Equal(t, verify.Pass, r.Verdict, "%v", r.Failed)
			assert.Equal(t, verify.ReferenceWeights, r.Reference)
			assert.Equal(t, "decoded", r.Profile.Name)
			o.Reference = verify.ReferenceSource
			served, err := verify.Compare(t.Context(), src, dst, o)
			require.NoError(t, err)
			assert.Equal(t, verify.ReferenceSource, served.Reference)
			assert.Greater(t, served.KL.Mean, 3*r.KL.Mean, "activations are rounded on one side")

			again := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
			r, err = verify.Compare(t.Context(), src, again, verify.Options{Tokens: 512, SeqLen: 64})
			require.NoError(t, err)
			assert.Equal(t, verify.Pass, r.Verdict, "%v", r.Failed)
			assert.Equal(t, verify.ReferenceSource, r.Reference)
			assert.True(t, r.Oracle.Computed)

			spoil(t, dst, "model.layers.1.self_attn.o_proj.weight")
			r, err = verify.Static(t.Context(), src, dst, verify.StaticOptions{})
			require.NoError(t, err)
			require.Equal(t, verify.Fail, r.Verdict)
			assert.Contains(t, r.Cause, "1 of")
			assert.Contains(t, r.Cause, "decoded and rounded once")
		})
	}
}

// spoil changes the last bit of a value in the middle of a BF16 tensor.
func spoil(t *testing.T, dir, name string) {
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	info, ok := c.Info(name)
	require.True(t, ok)
	raw := make([]byte, info.Size)
	require.NoError(t, c.ReadAt(info, 0, raw))
	require.NoError(t, c.Close())
	path := filepath.Join(dir, info.File)
	all, err := os.ReadFile(path)
	require.NoError(t, err)
	at := bytes.Index(all, raw)
	require.Positive(t, at)
	all[at+len(raw)/4*2] ^= 1
	require.NoError(t, os.WriteFile(path, all, 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "glmconv-manifest.json")))
}
