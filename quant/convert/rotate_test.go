package convert_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// rotated converts a reference model and returns the result's folder.
func rotated(t *testing.T, name string, scheme quant.Scheme, o quant.Options, workers int) (string, error) {
	r, err := quant.OpenRotated(t.Context(), testkit.Shared(t, "reference/"+name), scheme, layout.Ascend, o, 1<<20)
	if err != nil {
		return "", err
	}
	defer func() { require.NoError(t, r.Close()) }()
	dst := filepath.Join(t.TempDir(), "result")
	_, err = convert.Run(t.Context(), r.Plan, r.Checkpoint, dst, convert.Options{Workers: workers})
	return dst, err
}

// TestRotatedResult: it holds what engines look for, and its bytes depend on
// nothing but the source.
func TestRotatedResult(t *testing.T) {
	a, err := rotated(t, "nano-glm5", quant.W8A8, quant.Options{}, 1)
	require.NoError(t, err)
	b, err := rotated(t, "nano-glm5", quant.W8A8, quant.Options{}, 4)
	require.NoError(t, err)
	for _, name := range []string{"quant_model_weights-00001-of-00001.safetensors", layout.RotationFile, layout.DescriptionName} {
		x, err := os.ReadFile(filepath.Join(a, name))
		require.NoError(t, err)
		y, err := os.ReadFile(filepath.Join(b, name))
		require.NoError(t, err)
		assert.Equal(t, x, y, name)
	}
	raw, err := os.ReadFile(filepath.Join(a, layout.DescriptionName))
	require.NoError(t, err)
	var desc map[string]any
	require.NoError(t, json.Unmarshal(raw, &desc))
	assert.Equal(t, true, desc["is_rot_used"])
	assert.Equal(t, map[string]any{"quarot": map[string]any{"rotation_map": map[string]any{"global_rotation": layout.RotationFile}}}, desc["optional"])
	assert.NotContains(t, desc, layout.DraftRotation)
	c, err := safetensors.OpenDir(a)
	require.NoError(t, err)
	defer c.Close()
	rot, ok := c.Info(layout.DraftRotation)
	require.True(t, ok)
	assert.Equal(t, []int64{128, 128}, rot.Shape)
	m, err := quant.ReadManifest(a)
	require.NoError(t, err)
	assert.True(t, m.Rotated)
}

// TestRotatedWhereItIsImpossible: other formats have no place for what drafts
// need, and the MTP layer of GLM-4.x must be left out.
func TestRotatedWhereItIsImpossible(t *testing.T) {
	_, err := rotated(t, "nano-glm4moe", quant.W8A8, quant.Options{}, 1)
	require.ErrorIs(t, err, layout.ErrImpossible)
	_, err = rotated(t, "nano-glm4moe", quant.W8A8, quant.Options{MTP: layout.MTPDrop}, 1)
	require.NoError(t, err)
	_, err = quant.OpenRotated(t.Context(), testkit.Shared(t, "reference/nano-glm5"), quant.FP8, "", quant.Options{}, 0)
	require.ErrorIs(t, err, layout.ErrImpossible)
}
