package verify

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/safetensors"
)

// TestGoesOn: a comparison that is stopped after any layer of any batch goes on
// from there, does no layer twice, and ends in the figures of one that nobody
// stopped.
func TestGoesOn(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "nano-glm52"} {
		src := testkit.Shared(t, "reference/"+model)
		c, err := safetensors.OpenDir(src)
		require.NoError(t, err)
		plan, err := quant.NewPlan(c, quant.W8A8, "", quant.Options{})
		require.NoError(t, err)
		dst := filepath.Join(t.TempDir(), "result")
		_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{Workers: 2, Version: "test"})
		require.NoError(t, err)
		require.NoError(t, c.Close())

		// So little memory that the sequences need three batches.
		o := Options{Tokens: 192, SeqLen: 32, MaxMemory: 4 * 64 * (4*4*128 + 9<<10)}
		want, err := Compare(t.Context(), src, dst, o)
		require.NoError(t, err)
		require.Equal(t, Pass, want.Verdict)

		o.State, o.saveAlways = t.TempDir(), true
		var last int64
		runs := 0
		for {
			runs++
			ctx, cancel := context.WithCancel(t.Context())
			seen := int64(-1)
			o.Progress = func(done, _ int64, stage string) {
				if stage != "layers" {
					assert.Zero(t, last, "%s is done again", stage)
					return
				}
				if seen < 0 && runs > 1 {
					assert.Greater(t, done, last, "a layer is done twice")
				}
				if seen, last = done, done; runs < 100 {
					cancel() // the layer in hand is saved before the next one asks
				}
			}
			got, err := Compare(ctx, src, dst, o)
			cancel()
			if err != nil {
				require.ErrorIs(t, err, context.Canceled)
				require.Less(t, runs, 40)
				continue
			}
			got.Seconds, got.Bytes = want.Seconds, want.Bytes
			a, _ := json.Marshal(want)
			b, _ := json.Marshal(got)
			assert.JSONEq(t, string(a), string(b))
			break
		}
		t.Logf("%s: stopped %d times", model, runs-1)
		assert.Greater(t, runs, 6)
		left, err := os.ReadDir(o.State)
		require.NoError(t, err)
		assert.Empty(t, left, "nothing is left of a comparison that ended")
	}
}

// A state of other files or other options is not gone on with, and neither is a
// damaged one.
func TestStateBelongsToItsComparison(t *testing.T) {
	dir := t.TempDir()
	s := &stateFile{path: filepath.Join(dir, "a"), key: "one", fs: fsx.OS}
	require.NoError(t, s.save(&point{Evidence: &evidence{}, First: 3}, []float32{1, 2}, []float32{3}))
	p, x, y := s.load()
	require.NotNil(t, p)
	assert.Equal(t, 3, p.First)
	assert.Equal(t, []float32{1, 2}, x)
	assert.Equal(t, []float32{3}, y)
	other := *s
	other.key = "two"
	p, _, _ = other.load()
	assert.Nil(t, p)
	raw, err := os.ReadFile(s.path)
	require.NoError(t, err)
	for n := 0; n < len(raw); n += 5 {
		require.NoError(t, os.WriteFile(s.path, raw[:n], 0o600))
		p, _, _ = s.load()
		assert.Nil(t, p, "cut to %d bytes", n)
	}
}

// TestStateMayFail fails each operation on the state, once and from then on, and
// the folder for it: no verdict and no figure is lost, and it is said once.
func TestStateMayFail(t *testing.T) {
	src := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(src))
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	plan, err := quant.NewPlan(c, quant.W8A8, "", quant.Options{})
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "result")
	_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	o := Options{Tokens: 64, SeqLen: 32}
	want, err := Compare(t.Context(), src, dst, o)
	require.NoError(t, err)
	o.saveAlways = true
	for _, sticky := range []bool{false, true} {
		for n := 1; n <= 8; n++ {
			var said []string
			fsys := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.ENOSPC, Sticky: sticky, Short: true}
			o.FS, o.State, o.Warn = fsys, filepath.Join(t.TempDir(), "state"), func(text string) { said = append(said, text) }
			got, err := Compare(t.Context(), src, dst, o)
			require.NoError(t, err)
			require.True(t, fsys.Hit())
			require.Len(t, said, 1)
			assert.Contains(t, said[0], "no space left")
			got.Seconds, got.Bytes = want.Seconds, want.Bytes
			assert.Equal(t, want.Verdict, got.Verdict)
			assert.Equal(t, want.KL, got.KL)
		}
	}
}
