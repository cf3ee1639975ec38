package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// demoPair is the demo's checkpoint and its W8A8 conversion for Ascend.
func demoPair(t *testing.T) (src, dst string) {
	t.Helper()
	src, dst = filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "result")
	require.NoError(t, demo.Extract(src))
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	plan, err := quant.NewPlan(c, layout.W8A8, "", quant.Options{})
	require.NoError(t, err)
	_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{Version: "test"})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	return src, dst
}

// compareDamaged does damage when the first layer of both models has been run.
func compareDamaged(t *testing.T, src, dst string, damage func()) (*verify.Result, error) {
	t.Helper()
	done := false
	r, err := verify.Compare(t.Context(), src, dst, verify.Options{Tokens: 256, SeqLen: 32, Progress: func(_, _ int64, stage string) {
		if stage == "layers" && !done {
			done = true
			damage()
		}
	}})
	require.True(t, done)
	return r, err
}

// TestShardDamagedInThePass: a shard that is cut while the models run ends
// verify with the exit code and the sentence of bad input; bytes that change
// then, after the weights were compared, show in the logits.
func TestShardDamagedInThePass(t *testing.T) {
	src, dst := demoPair(t)
	shards, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	require.Len(t, shards, 1)
	good, err := os.ReadFile(shards[0])
	require.NoError(t, err)

	_, err = compareDamaged(t, src, dst, func() { require.NoError(t, os.Truncate(shards[0], 60_000)) })
	require.Error(t, err)
	var out bytes.Buffer
	assert.Equal(t, exitBadInput, report(&out, err))
	assert.Regexp(t, `^glmconv: .*/result/quant_model_weights-00001-of-00001.safetensors: tensor model\.layers\..* ends early: it became shorter while in use \(at byte [\d,]+\)\n`, filepath.ToSlash(out.String()))

	require.NoError(t, os.WriteFile(shards[0], good, 0o600))
	c, err := safetensors.OpenDir(dst)
	require.NoError(t, err)
	codes := slices.DeleteFunc(slices.Clone(c.Tensors()), func(x safetensors.Info) bool {
		return x.DType != safetensors.I8 || !strings.Contains(x.Name, ".experts.")
	})
	require.NoError(t, c.Close())
	require.NotEmpty(t, codes)
	r, err := compareDamaged(t, src, dst, func() {
		f, err := os.OpenFile(shards[0], os.O_WRONLY, 0)
		require.NoError(t, err)
		for _, x := range codes {
			_, err = f.WriteAt(bytes.Repeat([]byte{0x55}, int(x.Size)), x.Offset)
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
	})
	require.NoError(t, err)
	assert.Equal(t, verify.Fail, r.Verdict)
	assert.Equal(t, "kl", r.Failed[0].Check)
	assert.NotEmpty(t, r.Cause)
}
