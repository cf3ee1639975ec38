package repair_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/repair"
	"github.com/glmconv/glmconv/safetensors"
)

// unlist takes a file out of an index.
func unlist(t *testing.T, dir string, files ...string) {
	t.Helper()
	path := filepath.Join(dir, safetensors.IndexName)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var m struct {
		Map map[string]string `json:"weight_map"`
	}
	require.NoError(t, json.Unmarshal(raw, &m))
	for k, v := range m.Map {
		for _, f := range files {
			if v == f {
				delete(m.Map, k)
			}
		}
	}
	raw, err = json.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

// TestUnlistedShardsAreListed: a file that the index does not name and whose
// tensors the model lacks goes into the index.
func TestUnlistedShardsAreListed(t *testing.T) {
	const a, b = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	for name, files := range map[string][]string{"the second": {b}, "the first": {a}, "both": {a, b}} {
		t.Run(name, func(t *testing.T) {
			dir, _ := reference(t, "nano-glm5")
			unlist(t, dir, files...)
			p, r := repaired(t, dir, repair.Options{})
			assert.Empty(t, p.Broken, strings.Join(p.Broken, "\n"))
			assert.Contains(t, p.Text(), files[0])
			assert.True(t, r.OK, r.Text())
			require.NoError(t, repair.Undo(dir, nil))
		})
	}
}

// TestUnlistedShardsInDoubt: files that hold the same, or of which a part does
// not fit, are left to the user.
func TestUnlistedShardsInDoubt(t *testing.T) {
	const b = "model-00002-of-00002.safetensors"
	t.Run("twice", func(t *testing.T) {
		dir, _ := reference(t, "nano-glm5")
		raw, err := os.ReadFile(filepath.Join(dir, b))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "copy.safetensors"), raw, 0o600))
		unlist(t, dir, b)
		p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
		require.NoError(t, err)
		assert.NotEmpty(t, p.Broken)
		assert.NotContains(t, p.Text(), "listed:")
	})
	t.Run("of another model", func(t *testing.T) {
		dir, _ := reference(t, "nano-glm5")
		other, _ := reference(t, "nano-glm4moe")
		raw, err := os.ReadFile(filepath.Join(other, b))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, b), raw, 0o600))
		unlist(t, dir, b)
		p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
		require.NoError(t, err)
		assert.NotEmpty(t, p.Broken)
		assert.NotContains(t, p.Text(), "listed:")
	})
}
