package endpoint

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestDescribes: a description is found in a folder that is read from elsewhere, too,
// and under the names that older tools gave it.
func TestDescribes(t *testing.T) {
	for name, want := range map[string]bool{"quant_model_description.json": true, "quant_model_description_w8a8.json": true, "config.json": false} {
		dir := filepath.Join(t.TempDir(), "folder [1]") // no pattern
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600))
		assert.Equal(t, want, describes(dir), name)
		assert.Equal(t, want, describes(testkit.Mount(t, dir).Name()), "%s of a source", name)
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "quant_model_description.json"), 0o755))
	assert.False(t, describes(dir), "a folder of the name")
	assert.False(t, describes(filepath.Join(dir, "absent")))
}
