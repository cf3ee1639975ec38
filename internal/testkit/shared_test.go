package testkit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBuiltIn: a fresh clone has a model with goldens, the same as in ../shared.
func TestBuiltIn(t *testing.T) {
	for _, name := range []string{"reference/nano-glm5", "reference/golden/nano-glm5/golden.safetensors", "reference/golden/nano-glm5/golden.json"} {
		path := builtIn(t, name)
		require.NotEmpty(t, path, name)
		shared := filepath.Join(filepath.Dir(Root()), "shared", name)
		if !exists(shared) {
			continue
		}
		files := []string{""}
		if filepath.Ext(name) == "" {
			files = []string{"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json"}
		}
		for _, f := range files {
			want, err := os.ReadFile(filepath.Join(shared, f))
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join(path, f))
			require.NoError(t, err)
			assert.Equal(t, want, got, "%s %s", name, f)
		}
	}
	assert.Empty(t, builtIn(t, "reference/nano-glm4moe"))
	assert.Empty(t, builtIn(t, "reference/golden/nano-glm4moe/golden.safetensors"))
}
