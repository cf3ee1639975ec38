//go:build unix

package fsx

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// soon fails the test if f does not return soon.
func soon(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("still reading after 10 s")
	}
}

func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(at("ok"), []byte("0123456789"), 0o644))
	require.NoError(t, os.WriteFile(at("empty"), nil, 0o644))
	require.NoError(t, syscall.Mkfifo(at("fifo"), 0o644))
	require.NoError(t, os.Symlink("ok", at("link")))
	require.NoError(t, os.Symlink("/dev/zero", at("zero")))
	require.NoError(t, os.Symlink("b", at("a")))
	require.NoError(t, os.Symlink("a", at("b")))
	require.NoError(t, os.Truncate(at("empty"), 0))
	huge, err := os.Create(at("huge"))
	require.NoError(t, err)
	require.NoError(t, huge.Truncate(1<<40))
	require.NoError(t, huge.Close())

	for name, kind := range map[string]error{"fifo": ErrNotRegular, ".": ErrNotRegular, "zero": ErrNotRegular, "a": ErrLoop, "huge": ErrTooLarge,
		"ok": ErrTooLarge, "gone": fs.ErrNotExist} {
		soon(t, func() {
			_, err := ReadRegular(at(name), 9)
			assert.ErrorIs(t, err, kind, name)
			if kind != fs.ErrNotExist {
				var in *InputError
				assert.ErrorAs(t, err, &in, name)
			}
		})
	}
	for name, want := range map[string]string{"ok": "0123456789", "link": "0123456789", "empty": ""} {
		got, err := ReadRegular(at(name), 10)
		require.NoError(t, err, name)
		assert.Equal(t, want, string(got), name)
	}
	got, err := ReadRegular("/proc/self/status", 1<<16) // says it has no bytes, and has some
	if err == nil {
		assert.NotEmpty(t, got)
	} else {
		t.Logf("SKIPPED: no /proc here: %v", err)
	}
}

// TestDir: links stay inside, except those of a cache's snapshot to its blobs.
func TestDir(t *testing.T) {
	top := t.TempDir()
	model := filepath.Join(top, "models--x", "snapshots", "rev")
	blobs := filepath.Join(top, "models--x", "blobs")
	require.NoError(t, os.MkdirAll(model, 0o755))
	require.NoError(t, os.MkdirAll(blobs, 0o755))
	put := func(path, text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o644)) }
	link := func(target, name string) { require.NoError(t, os.Symlink(target, filepath.Join(model, name))) }
	put(filepath.Join(blobs, "sha"), "blob")
	put(filepath.Join(top, "private"), "private")
	put(filepath.Join(model, "plain"), "plain")
	require.NoError(t, os.Symlink("../../private", filepath.Join(blobs, "hop")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(blobs, "fifo"), 0o644))
	require.NoError(t, syscall.Mkfifo(filepath.Join(model, "pipe"), 0o644))
	link("plain", "inside")
	link("../../blobs/sha", "relative")
	link(filepath.Join(blobs, "sha"), "absolute")
	link("../../blobs/fifo", "fifo")
	link("../../blobs/hop", "hop")
	link("../../blobs/../../private", "up")
	link("../../blobs/gone", "missing")
	link("gone", "nowhere")
	link("../../../private", "out")
	link("/etc/passwd", "passwd")
	link("circle", "circle")

	d, err := OpenDir(model)
	require.NoError(t, err)
	defer d.Close()
	for name, want := range map[string]string{"plain": "plain", "inside": "plain", "relative": "blob", "absolute": "blob"} {
		got, err := d.ReadFile(name, 100)
		require.NoError(t, err, name)
		assert.Equal(t, want, string(got), name)
		_, err = d.ReadFile(name, 3)
		assert.ErrorIs(t, err, ErrTooLarge, name)
	}
	for name, kind := range map[string]error{"fifo": ErrNotRegular, "pipe": ErrNotRegular, "hop": ErrOutside, "up": ErrOutside, "out": ErrOutside,
		"passwd":  ErrOutside,
		"missing": fs.ErrNotExist, "nowhere": fs.ErrNotExist, "circle": ErrLoop, "absent": fs.ErrNotExist} {
		soon(t, func() {
			_, err := d.Open(name)
			assert.ErrorIs(t, err, kind, name)
			_, err = ReadIn(model, name, 100)
			assert.ErrorIs(t, err, kind, name)
		})
	}

	// The same links in a folder that is no snapshot lead out of it.
	other := filepath.Join(top, "models--x", "copies", "rev")
	require.NoError(t, os.MkdirAll(other, 0o755))
	require.NoError(t, os.Symlink("../../blobs/sha", filepath.Join(other, "relative")))
	_, err = ReadIn(other, "relative", 100)
	assert.ErrorIs(t, err, ErrOutside)
	// Reached by a link, a snapshot is one all the same.
	require.NoError(t, os.Symlink(model, filepath.Join(top, "short")))
	got, err := ReadIn(filepath.Join(top, "short"), "relative", 100)
	require.NoError(t, err)
	assert.Equal(t, "blob", string(got))
}
