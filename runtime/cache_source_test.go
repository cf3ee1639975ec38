package runtime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/declaration"
)

// TestCachesOfASource: what a description says of caches holds for a folder that is
// read from elsewhere, too.
func TestCachesOfASource(t *testing.T) {
	dir := t.TempDir()
	text := `{"layers.3.self_attn.quant_type": "INT8_DYNAMIC", "model.layers.5.self_attn.quant_type": "INT8_DYNAMIC", "model.layers.6.self_attn.quant_type": "FLOAT"}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, declaration.DescriptionName), []byte(text), 0o600))
	for name, at := range map[string]string{"a folder": dir, "a source": testkit.Mount(t, dir).Name()} {
		got, err := ReadCaches(at)
		require.NoError(t, err, name)
		assert.Equal(t, Caches{3: true, 5: true}, got, name)
	}
	empty := t.TempDir()
	for name, at := range map[string]string{"a folder": empty, "a source": testkit.Mount(t, empty).Name()} {
		got, err := ReadCaches(at)
		require.NoError(t, err, name)
		assert.Nil(t, got, name)
	}
}
