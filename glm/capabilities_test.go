package glm_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
)

func TestCapabilities(t *testing.T) {
	for preset, want := range map[string]struct {
		latent, sparse, shared, nested bool
		steps                          int
	}{
		"glm-4.5-air":   {steps: 1},
		"glm-4.5v":      {nested: true, steps: 1},
		"glm-4.7-flash": {latent: true, steps: 1},
		"glm-5":         {latent: true, sparse: true, steps: 3},
		"glm-5.2":       {latent: true, sparse: true, shared: true, steps: 3},
	} {
		t.Run(preset, func(t *testing.T) {
			cfg, err := glm.Preset(preset)
			require.NoError(t, err)
			assert.Equal(t, want.latent, cfg.LatentAttention())
			assert.Equal(t, want.sparse, cfg.SparseAttention())
			assert.Equal(t, want.shared, cfg.SharedSelection())
			assert.Equal(t, want.nested, cfg.NestedText())
			assert.Equal(t, want.steps, cfg.DraftSteps())
		})
	}
}
