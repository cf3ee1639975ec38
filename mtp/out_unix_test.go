//go:build unix

package mtp

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

func listed(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestOutThroughLinks: a new directory that a link leads into the checkpoint, or
// to it, is refused and nothing is made in it.
func TestOutThroughLinks(t *testing.T) {
	top := t.TempDir()
	src := filepath.Join(top, "model")
	require.NoError(t, demo.Extract(src))
	before := listed(t, src)
	require.NoError(t, os.Symlink(src, filepath.Join(top, "link")))
	for _, out := range []string{filepath.Join(top, "link", "new"), filepath.Join(top, "link"), filepath.Join(src, "new", "er"), top, filepath.Join(top, "model", "..", "model")} {
		r, err := NewRemap(src, Options{Out: out})
		if err == nil {
			err = r.Apply(t.Context())
		}
		require.ErrorIs(t, err, ErrConflict, out)
		assert.Equal(t, before, listed(t, src), out)
	}
}

// TestOutSaysItIsUnfinished: whatever operation fails, the directory is whole or
// has the mark of an unfinished one, and a second run completes it.
func TestOutSaysItIsUnfinished(t *testing.T) {
	src := filepath.Join(t.TempDir(), "model")
	require.NoError(t, demo.Extract(src))
	for n := 2; ; n++ { // the first makes the directory
		out := filepath.Join(t.TempDir(), "out")
		faulty := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.EIO, Sticky: true}
		r, err := NewRemap(src, Options{Out: out, FS: faulty})
		require.NoError(t, err)
		err = r.Apply(t.Context())
		if !faulty.Hit() {
			require.NoError(t, err)
			assert.NoDirExists(t, filepath.Join(out, fsx.StateDir))
			break
		}
		if entries := listed(t, out); err != nil && len(entries) > 0 && entries[0] != fsx.StateDir {
			require.Contains(t, entries, r.File, "operation %d", n) // only the last sync failed
			require.Contains(t, entries, safetensors.IndexName, "operation %d", n)
		}
		r, err = NewRemap(src, Options{Out: out})
		require.NoError(t, err)
		require.NoError(t, r.Apply(t.Context()), "operation %d", n)
		assert.NoDirExists(t, filepath.Join(out, fsx.StateDir))
	}
}

// TestUndoTakesTheLock: undoing waits for nobody and disturbs nobody.
func TestUndoTakesTheLock(t *testing.T) {
	src := filepath.Join(t.TempDir(), "model")
	require.NoError(t, demo.Extract(src))
	unlock, err := fsx.Lock(src)
	require.NoError(t, err)
	require.ErrorIs(t, Undo(src, nil), fsx.ErrLocked)
	require.NoError(t, unlock())
	require.ErrorIs(t, Undo(src, nil), ErrNoUndo)
}
