package demo

import (
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
	assert.Error(t, Extract(dir), "existing files are not overwritten")
	assert.Less(t, len(archive), 4<<20, "the built-in model stays under 4 MiB")
}
