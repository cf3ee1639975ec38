package declaration

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestModelOptNames: exclusions without wildcards are looked up.
func TestModelOptNames(t *testing.T) {
	raw, err := json.Marshal(map[string]any{"quant_method": "modelopt", "quant_algo": "FP8",
		"exclude_modules": []string{"lm_head", "model.layers.1.mlp", "model.layers.2.*", "model.layers.[34].mlp"}})
	require.NoError(t, err)
	d, err := Config(raw)
	require.NoError(t, err)
	assert.Equal(t, []int{2, 3}, d.Ignore.other)
	for name, want := range map[string]bool{"lm_head": true, "model.layers.1.mlp": true, "model.layers.1.mlp.gate": false, "model.layers.2.x": true,
		"model.layers.4.mlp": true, "model.layers.5.mlp": false} {
		p, _ := d.Ignore.Find(name)
		assert.Equal(t, want, p != nil, name)
	}
}
