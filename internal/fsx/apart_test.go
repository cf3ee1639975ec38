//go:build unix

package fsx

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOverlap(t *testing.T) {
	top := t.TempDir()
	src := filepath.Join(top, "a", "src")
	require.NoError(t, os.MkdirAll(filepath.Join(src, "sub"), 0o755))
	require.NoError(t, os.Symlink(src, filepath.Join(top, "link")))
	require.NoError(t, os.Symlink("src/sub", filepath.Join(top, "a", "deep")))
	t.Chdir(filepath.Join(top, "a"))
	for dst, want := range map[string]string{
		src: "is", "src": "is", "../link": "is", "./src/../src/": "is",
		"src/new": "lies inside", "../link/x/y": "lies inside", "deep": "lies inside", "deep/z": "lies inside",
		top: "contains", ".": "contains", "..": "contains",
		"src2": "", "src-new": "", filepath.Join(top, "b"): "", "../b/src": "",
	} {
		got, err := Overlap("src", dst)
		require.NoError(t, err)
		assert.Equal(t, want, got, dst)
		got, err = Overlap(filepath.Join(top, "link"), dst)
		require.NoError(t, err)
		assert.Equal(t, want, got, dst)
	}
}

// TestModesAreKept: a file that is written anew keeps who may read it.
func TestModesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	require.NoError(t, WriteFile(OS, path, []byte("y")))
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}
