package demo

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExtract(t *testing.T) {
	dir := filepath.Join(t.TempDir(), Name)
	require.NoError(t, Extract(dir))
	st, err := os.Stat(filepath.Join(dir, "model-00001-of-00002.safetensors"))
	require.NoError(t, err)
	assert.Equal(t, int64(2122128), st.Size())
	assert.FileExists(t, filepath.Join(dir, "config.json"))
	require.NoError(t, Extract(dir), "the same files are there already")
	changed := filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(changed, []byte("{}"), 0o644))
	require.ErrorIs(t, Extract(dir), fs.ErrExist, "existing files are not overwritten")
	raw, err := os.ReadFile(changed)
	require.NoError(t, err)
	assert.Equal(t, "{}", string(raw))
	assert.Less(t, len(archive), 4<<20, "the built-in model stays under 4 MiB")
}
