package repair_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/repair"
	"github.com/glmconv/glmconv/safetensors"
)

// whole returns a copy of the small GLM-5, and the folder it was copied from.
func whole(t *testing.T) (dir, base string) {
	t.Helper()
	base = testkit.Shared(t, "reference/nano-glm5")
	dir = filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.CopyFS(dir, os.DirFS(base)))
	return dir, base
}

// withoutShard takes the shard away that holds the MTP layer.
func withoutShard(t *testing.T) (dir, base string) {
	t.Helper()
	dir, base = whole(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors")))
	return dir, base
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() || e.Name() == ".glmconv.lock" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		out[e.Name()] = string(raw)
	}
	return out
}

// A lost shard's tensors come from the base model bit for bit, and go again.
func TestMissingTensorsFromBase(t *testing.T) {
	dir, base := withoutShard(t)
	before := contents(t, dir)
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: base})
	require.NoError(t, err)
	require.Empty(t, p.Broken)
	require.NoError(t, p.Apply(t.Context()))
	a, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer a.Close()
	b, err := safetensors.OpenDir(base)
	require.NoError(t, err)
	defer b.Close()
	assert.Equal(t, b.Names(), a.Names())
	for _, n := range b.Names() {
		x, _ := a.Info(n)
		y, _ := b.Info(n)
		p, q := make([]byte, x.Size), make([]byte, y.Size)
		require.NoError(t, a.ReadAt(x, 0, p))
		require.NoError(t, b.ReadAt(y, 0, q))
		assert.Equal(t, q, p, n)
	}
	again, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: base})
	require.NoError(t, err)
	assert.Empty(t, again.Steps, "nothing is left to do")
	require.NoError(t, repair.Undo(dir, nil))
	assert.Equal(t, before, contents(t, dir))
	assert.ErrorIs(t, repair.Undo(dir, nil), repair.ErrNoUndo)
}

func TestWithoutBaseItStaysBroken(t *testing.T) {
	dir, _ := withoutShard(t)
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
	require.NoError(t, err)
	assert.NotEmpty(t, p.Broken)
}

func TestUnsuitableBase(t *testing.T) {
	dir, _ := whole(t)
	_, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: testkit.Shared(t, "reference/nano-glm4moe")})
	assert.ErrorIs(t, err, repair.ErrBase)
}

func TestWholeFolderNeedsNothing(t *testing.T) {
	dir, base := whole(t)
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: base})
	require.NoError(t, err)
	assert.Empty(t, p.Steps)
	assert.Contains(t, p.Text(), "nothing to repair")
}

// Whichever operation fails, the folder is as it was after Undo, or a further
// repair completes it.
func TestEveryFault(t *testing.T) {
	for n := 1; ; n++ {
		dir, base := withoutShard(t)
		before := contents(t, dir)
		faulty := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.ENOSPC}
		p, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: base, FS: faulty})
		require.NoError(t, err)
		err = p.Apply(t.Context())
		if !faulty.Hit() {
			require.NoError(t, err)
			require.Greater(t, n, 10)
			return
		}
		if err := repair.Undo(dir, nil); !errors.Is(err, repair.ErrNoUndo) {
			require.NoError(t, err, "operation %d", n)
		}
		require.Equal(t, before, contents(t, dir), "operation %d", n)
		p, err = repair.NewPlan(t.Context(), dir, repair.Options{Base: base})
		require.NoError(t, err)
		require.NoError(t, p.Apply(t.Context()), "operation %d", n)
	}
}

// A repair that was interrupted is put back by the next one, which then decides
// anew, and no other folder is made of what is in between.
func TestInterruptedIsPutBackFirst(t *testing.T) {
	want, interrupted := map[string]string(nil), 0
	for n := 1; ; n++ {
		dir, base := withoutShard(t)
		faulty := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.EACCES, Sticky: true}
		p, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: base})
		require.NoError(t, err)
		if want == nil {
			require.NoError(t, p.Apply(t.Context()))
			want = contents(t, dir)
			continue
		}
		p, err = repair.NewPlan(t.Context(), dir, repair.Options{Base: base, FS: faulty})
		if err == nil {
			err = p.Apply(t.Context())
		}
		if !faulty.Hit() {
			require.NoError(t, err)
			require.Greater(t, interrupted, 3)
			return
		}
		require.Error(t, err, "operation %d", n)
		p, err = repair.NewPlan(t.Context(), dir, repair.Options{Base: base})
		require.NoError(t, err)
		if len(p.Steps) == 1 && p.Steps[0].Do == "undo" {
			interrupted++
			require.ErrorIs(t, p.Into(t.Context(), filepath.Join(t.TempDir(), "other")), repair.ErrInterrupted)
			require.Contains(t, p.Text(), "interrupted")
		}
		require.NoError(t, p.Apply(t.Context()), "operation %d", n)
		require.Equal(t, want, contents(t, dir), "operation %d", n)
	}
}
