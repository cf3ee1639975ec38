package repair_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/repair"
	"github.com/glmconv/glmconv/safetensors"
)

// TestLostShardsKeepTheirIndex: the index is all that is known of a file that
// cannot be read; it is not written anew without it.
func TestLostShardsKeepTheirIndex(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"longer": func(t *testing.T, path string) {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, append(raw, make([]byte, 4096)...), 0o600))
		},
		"cut":    func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 100_000)) },
		"absent": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := reference(t, "nano-glm5")
			damage(t, filepath.Join(dir, "model-00002-of-00002.safetensors"))
			before := contents(t, dir)
			p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
			require.NoError(t, err)
			assert.Empty(t, p.Steps)
			require.Len(t, p.Broken, 1, strings.Join(p.Broken, "\n"))
			assert.Contains(t, p.Broken[0], "fetch it again")
			assert.NotContains(t, p.Text(), "nothing to repair")
			require.NoError(t, p.Apply(t.Context()))
			assert.Equal(t, before[safetensors.IndexName], contents(t, dir)[safetensors.IndexName])
		})
	}
}

// TestDeclarationsBesideGo: a declaration of its own file goes with the file.
func TestDeclarationsBesideGo(t *testing.T) {
	for name, text := range map[string]string{
		"hf_quant_config.json":         `{"quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": []}}`,
		"quant_model_description.json": `{"model.layers.0.mlp.up_proj.weight": "W8A8_DYNAMIC", "version": "1.0.0"}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := reference(t, "nano-glm5")
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
			p, r := repaired(t, dir, repair.Options{})
			assert.Empty(t, p.Broken)
			assert.True(t, r.OK, r.Text())
			assert.NoFileExists(t, filepath.Join(dir, name))
			require.NoError(t, repair.Undo(dir, nil))
			assert.FileExists(t, filepath.Join(dir, name))
		})
	}
}

// TestLostShardBesideOtherFaults: where the index is written for another fault,
// it keeps what it had of the file that cannot be read.
func TestLostShardBesideOtherFaults(t *testing.T) {
	dir, _ := reference(t, "nano-glm5")
	lost := "model-00002-of-00002.safetensors"
	require.NoError(t, os.Remove(filepath.Join(dir, lost)))
	raw, err := os.ReadFile(filepath.Join(dir, "model-00001-of-00002.safetensors"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model-00003-of-00003.safetensors"), raw, 0o600)) // all of it twice
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
	require.NoError(t, err)
	require.NotEmpty(t, p.Steps)
	require.NoError(t, p.Apply(t.Context()))
	assert.Contains(t, contents(t, dir)[safetensors.IndexName], lost)
}
