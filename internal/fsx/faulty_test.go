package fsx

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFaultyEachOperation fails each operation of WriteFile in turn: the file
// holds the old or the new text and nothing temporary is left.
func TestFaultyEachOperation(t *testing.T) {
	for _, short := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
			fsys := &Faulty{FS: OS, FailAt: n, Err: syscall.ENOSPC, Short: short}
			err := WriteFile(fsys, path, []byte("new text"))
			if !fsys.Hit() {
				require.NoError(t, err)
				assert.Equal(t, []string{"create .f.glmconv-tmp", "write .f.glmconv-tmp", "sync .f.glmconv-tmp",
					"close .f.glmconv-tmp", "rename f", "syncdir " + filepath.Base(dir)}, fsys.Ops())
				assert.Equal(t, 6, fsys.Count())
				break
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.ErrorContains(t, err, dir)
			assert.Equal(t, []string{"f"}, names(t, dir), "operation %d", n)
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			want := "old"
			if n == 6 { // renamed, only the directory was not synced
				want = "new text"
			}
			assert.Equal(t, want, string(got), "operation %d", n)
		}
	}
}

// TestPowerCut cuts the power at each operation, with every kind of loss: the
// file is old or new, never a mixture, and new if WriteFile said so.
func TestPowerCut(t *testing.T) {
	losses := []Loss{{}, {Data: 1}, {Names: 1}, {Data: 1, Names: 1}, {Data: .5, Names: .5, Seed: 1}, {Data: .5, Names: .5, Seed: 2}}
	for _, loss := range losses {
		for n := 1; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
			fsys := &Faulty{FS: OS, CutAt: n}
			err := WriteFile(fsys, path, []byte("new text"))
			done := !fsys.Hit()
			require.NoError(t, fsys.Crash(loss))
			got, rerr := os.ReadFile(path)
			require.NoError(t, rerr)
			msg := fmt.Sprintf("cut at %d, %+v", n, loss)
			if done {
				require.NoError(t, err)
				assert.Equal(t, "new text", string(got), msg)
				assert.Equal(t, []string{"f"}, names(t, dir), msg)
				break
			}
			require.ErrorIs(t, err, ErrPowerCut)
			assert.Contains(t, []string{"old", "new text"}, string(got), msg)
			for _, name := range names(t, dir) {
				assert.True(t, name == "f" || IsTemp(name), "%s: %s", msg, name)
			}
		}
	}
}

// TestPowerCutShowsMissingSync: the simulation catches writers that skip a
// step; without that the test above would prove nothing.
func TestPowerCutShowsMissingSync(t *testing.T) {
	write := func(fsys FS, path string, sync, syncDir bool) error {
		f, err := CreateTemp(fsys, path)
		if err != nil {
			return err
		}
		if _, err := f.Write([]byte("new")); err != nil {
			return err
		}
		if sync {
			if err := f.Sync(); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := fsys.Rename(f.Name(), path); err != nil || !syncDir {
			return err
		}
		return fsys.SyncDir(filepath.Dir(path))
	}
	const never = 1 << 30
	for _, c := range []struct {
		sync, syncDir bool
		loss          Loss
		want          string
	}{
		{true, true, Loss{Data: 1, Names: 1}, "new"},
		{false, true, Loss{Data: 1, Names: 1}, "\x00\x00\x00"},
		{true, false, Loss{Data: 1, Names: 1}, "old"},
		{true, false, Loss{Data: 1}, "new"},
		{false, false, Loss{Names: 1}, "old"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
		fsys := &Faulty{FS: OS, CutAt: never}
		require.NoError(t, write(fsys, path, c.sync, c.syncDir))
		require.NoError(t, fsys.Crash(c.loss))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, c.want, string(got), "%+v", c)
		assert.Equal(t, []string{"f"}, names(t, dir))
	}
}

func TestPowerCutUndoesRemoveAndLink(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(a, []byte("a"), 0o644))
	fsys := &Faulty{FS: OS, CutAt: 4}
	require.NoError(t, fsys.Link(a, b))
	require.NoError(t, fsys.Remove(a))
	f, err := fsys.Append(b)
	require.NoError(t, err)
	entries, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	_, err = f.Write([]byte("x"))
	require.ErrorIs(t, err, ErrPowerCut)
	require.ErrorIs(t, fsys.MkdirAll(filepath.Join(dir, "d")), ErrPowerCut)
	require.NoError(t, fsys.Crash(Loss{Names: 1}))
	assert.Equal(t, []string{"a"}, names(t, dir))
}

func TestFaultySticky(t *testing.T) {
	dir := t.TempDir()
	fsys := &Faulty{FS: OS, FailAt: 2, Err: syscall.EIO, Sticky: true}
	err := WriteFile(fsys, filepath.Join(dir, "f"), []byte("x"))
	require.ErrorIs(t, err, syscall.EIO)
	assert.Equal(t, []string{".f.glmconv-tmp"}, names(t, dir), "not even the removal worked")
}

func TestFaultyMatch(t *testing.T) {
	fsys := &Faulty{FS: OS, FailAt: 1, Err: syscall.EIO, Match: func(op, name string) bool { return op == "rename" && name == "g" }}
	dir := t.TempDir()
	require.NoError(t, WriteFile(fsys, filepath.Join(dir, "f"), nil))
	require.ErrorIs(t, WriteFile(fsys, filepath.Join(dir, "g"), nil), syscall.EIO)
	assert.Equal(t, []string{"f"}, names(t, dir))
}
