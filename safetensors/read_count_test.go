package safetensors

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

// TestBytesRead counts what the two ways of reading ask for, also after Close.
func TestBytesRead(t *testing.T) {
	dir := t.TempDir()
	plan, err := PlanFile(SingleName, []Spec{{"a", U8, []int64{10, 100}}}, nil)
	require.NoError(t, err)
	_, err = writeAll(fsx.OS, dir, plan, make([]byte, 1000), 1000)
	require.NoError(t, err)
	c, err := OpenDir(dir)
	require.NoError(t, err)
	assert.Zero(t, c.BytesRead(), "headers do not count")
	a, ok := c.Info("a")
	require.True(t, ok)
	require.NoError(t, c.ReadAt(a, 5, make([]byte, 7)))
	require.NoError(t, c.ReadRows("a", 2, 4, make([]byte, 200)))
	require.NoError(t, c.Close())
	assert.EqualValues(t, 207, c.BytesRead())
}

// TestShare: handles of a checkpoint count apart, and its files are open until
// the last is closed.
func TestShare(t *testing.T) {
	dir := t.TempDir()
	plan, err := PlanFile(SingleName, []Spec{{"a", U8, []int64{10, 100}}}, nil)
	require.NoError(t, err)
	_, err = writeAll(fsx.OS, dir, plan, make([]byte, 1000), 1000)
	require.NoError(t, err)
	c, err := OpenDir(dir)
	require.NoError(t, err)
	d := c.Share()
	a, ok := d.Info("a")
	require.True(t, ok)
	require.NoError(t, c.ReadAt(a, 0, make([]byte, 5)))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "a second time")
	require.NoError(t, d.ReadAt(a, 5, make([]byte, 7)))
	assert.EqualValues(t, 5, c.BytesRead())
	assert.EqualValues(t, 7, d.BytesRead())
	require.NoError(t, d.Close())
	require.Error(t, d.ReadAt(a, 5, make([]byte, 7)))
}

// TestErr: what AllErrors collects is the error that OpenDir returns.
func TestErr(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.safetensors", "b.safetensors"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("no header"), 0o600))
	}
	_, err := OpenDir(dir)
	require.Error(t, err)
	c, all := OpenDirOptions(dir, Options{AllErrors: true})
	require.NoError(t, all)
	assert.Equal(t, err, c.Err())
	require.NoError(t, c.Close())
}
