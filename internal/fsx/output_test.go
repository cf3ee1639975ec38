package fsx

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOutputProbe(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	require.NoError(t, os.WriteFile(old, []byte("old"), 0o644))
	require.NoError(t, os.Symlink("old", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "broken")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o755))
	for _, c := range []struct {
		name string
		want error
	}{{"new", nil}, {"old", nil}, {"link", nil}, {"folder", syscall.EISDIR}, {"absent/new", fs.ErrNotExist}, {"old/new", syscall.ENOTDIR},
		{"broken", fs.ErrNotExist}} {
		_, err := OpenOutput(nil, filepath.Join(dir, c.name))
		require.ErrorIs(t, err, c.want, c.name)
	}
	assert.Equal(t, []string{"broken", "folder", "link", "old"}, names(t, dir), "a probe leaves nothing")

	o, err := OpenOutput(nil, filepath.Join(dir, "link"))
	require.NoError(t, err)
	require.NoError(t, o.Write([]byte("new")))
	b, err := os.ReadFile(old)
	require.NoError(t, err)
	assert.Equal(t, "new", string(b), "a link is followed")
	assert.Equal(t, []string{"broken", "folder", "link", "old"}, names(t, dir))
}

func TestOutputStream(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: /dev/full is Linux's")
	}
	o, err := OpenOutput(nil, os.DevNull)
	require.NoError(t, err)
	assert.True(t, o.Stream())
	require.NoError(t, o.Write([]byte("x")))
	o, err = OpenOutput(nil, "/dev/full")
	require.NoError(t, err)
	require.ErrorIs(t, o.Write([]byte("x")), syscall.ENOSPC)
}

// TestOutputTurns: many writers of one path, and readers meanwhile: the file is
// always one of theirs, whole.
func TestOutputTurns(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	whole := func(b []byte) bool {
		return len(b) == 1<<16 && bytes.Count(b, b[:1]) == len(b)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 10 {
				o, err := OpenOutput(nil, path)
				if assert.NoError(t, err) {
					assert.NoError(t, o.Write(bytes.Repeat([]byte{byte('a' + i)}, 1<<16)))
				}
				b, err := os.ReadFile(path)
				assert.True(t, errors.Is(err, nil) && whole(b), "a mix of two files")
			}
		}()
	}
	wg.Wait()
	assert.Equal(t, []string{"f"}, names(t, dir))
}

// TestOutputEachOperation: the file is the old or the new one whatever fails.
func TestOutputEachOperation(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
		fsys := &Faulty{FS: OS, FailAt: n, Err: syscall.EDQUOT, Short: true}
		o, err := OpenOutput(fsys, path)
		require.NoError(t, err)
		err = o.Write([]byte("new text"))
		if !fsys.Hit() {
			require.NoError(t, err)
			break
		}
		require.ErrorIs(t, err, syscall.EDQUOT)
		assert.Equal(t, []string{"f"}, names(t, dir))
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Contains(t, []string{"old", "new text"}, string(b))
	}
}
