package mtp

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/safetensors"
)

// usable demands that a directory is a checkpoint as it was or as it shall be,
// never between.
func usable(t *testing.T, dir string, before, after map[string]string) {
	t.Helper()
	now := weights(t, dir)
	if len(now) == len(before) {
		require.Equal(t, before, now)
		return
	}
	require.Equal(t, after, now)
}

func reset(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.Mkdir(dir, 0o755))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}

// TestEveryOperationMayFail fails each operation of a remapping and of its
// undoing, with an error and with a power cut, and demands a working
// checkpoint, and the wanted result from the next run.
func TestEveryOperationMayFail(t *testing.T) {
	dir := clone(t, "nano-glm5")
	files, before := testkit.Files(t, dir), weights(t, dir)
	apply(t, dir, Options{})
	doneFiles, after := testkit.Files(t, dir), weights(t, dir)
	run := func(fsys fsx.FS) error {
		r, err := NewRemap(dir, Options{FS: fsys})
		if err != nil {
			return err
		}
		return r.Apply(context.Background())
	}
	undo := func(fsys fsx.FS) error { return Undo(dir, fsys) }
	for name, tc := range map[string]struct {
		start, end map[string]string
		work       func(fsx.FS) error
		again      error // what running again may say when all was done
	}{
		"apply": {files, doneFiles, run, nil},
		"undo":  {doneFiles, files, undo, ErrNoUndo},
	} {
		for _, cut := range []bool{false, true} {
			for n := 1; ; n++ {
				reset(t, dir, tc.start)
				fsys := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.ENOSPC, Short: true}
				if cut {
					fsys = &fsx.Faulty{FS: fsx.OS, CutAt: n}
				}
				err := tc.work(fsys)
				if !fsys.Hit() {
					require.NoError(t, err)
					require.Greater(t, n, 5, "%s: too few operations were tried", name)
					break
				}
				require.Error(t, err, "%s %d %v", name, n, fsys.Ops())
				if cut {
					require.NoError(t, fsys.Crash(fsx.Loss{Data: 1, Names: 0.5, Seed: uint64(n)}))
				}
				usable(t, dir, before, after)
				if err := tc.work(fsx.OS); err != nil {
					require.ErrorIs(t, err, tc.again, "%s %d", name, n)
				}
				now := testkit.Files(t, dir)
				require.Equal(t, tc.end, now, "%s: not completed after operation %d failed", name, n)
			}
		}
	}
}

// TestOutMayFail does the same for a new directory: until its index is there
// it is no checkpoint, and the next run completes it.
func TestOutMayFail(t *testing.T) {
	dir := clone(t, "nano-glm5")
	files := testkit.Files(t, dir)
	out := filepath.Join(t.TempDir(), "result")
	apply(t, dir, Options{Out: out})
	want := testkit.Files(t, out)
	for n := 1; ; n++ {
		require.NoError(t, os.RemoveAll(out))
		fsys := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.EIO}
		r, err := NewRemap(dir, Options{Out: out, FS: fsys})
		require.NoError(t, err)
		err = r.Apply(context.Background())
		if !fsys.Hit() {
			require.NoError(t, err)
			break
		}
		require.Error(t, err, "operation %d", n)
		if _, err := os.Stat(filepath.Join(out, safetensors.IndexName)); err == nil {
			require.Equal(t, want[safetensors.IndexName], testkit.Files(t, out)[safetensors.IndexName])
		}
		apply(t, dir, Options{Out: out})
		require.Equal(t, want, testkit.Files(t, out), "operation %d", n)
		require.Equal(t, files, testkit.Files(t, dir))
	}
}

func TestInterrupted(t *testing.T) {
	dir := clone(t, "nano-glm5")
	files := testkit.Files(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := NewRemap(dir, Options{})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(ctx), context.Canceled)
	require.Equal(t, files, testkit.Files(t, dir))
}

// TestTwoAtOnce: a remapping that was decided while another one was applied
// leaves an index that undoes to the original.
func TestTwoAtOnce(t *testing.T) {
	dir := clone(t, "nano-glm5")
	files := testkit.Files(t, dir)
	second, err := NewRemap(dir, Options{})
	require.NoError(t, err)
	apply(t, dir, Options{})
	want := testkit.Files(t, dir)
	second.index = []byte(want[safetensors.IndexName]) // it read the headers before and the index after
	require.NoError(t, second.Apply(context.Background()))
	require.Equal(t, want, testkit.Files(t, dir))
	require.NoError(t, Undo(dir, nil))
	require.Equal(t, files, testkit.Files(t, dir))
}

func TestLocked(t *testing.T) {
	dir := clone(t, "nano-glm5")
	unlock, err := fsx.Lock(dir)
	require.NoError(t, err)
	defer func() { _ = unlock() }()
	r, err := NewRemap(dir, Options{})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background()), fsx.ErrLocked)
}
