package calib

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
)

// TestCostOfPublished: the estimate for a published model is of the size of
// 46 layers of about 2e14 operations, and grows with the tokens.
func TestCostOfPublished(t *testing.T) {
	plan, err := quant.PlanPublished("glm-4.5-air", quant.W4A16, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	c := CostOf(plan, 65536)
	assert.InEpsilon(t, 46*2.0e14, c.Work, 0.7)
	assert.Less(t, CostOf(plan, 16384).Work, c.Work)
	assert.Greater(t, c.Scratch, int64(40<<30))
	assert.Equal(t, Need(plan, 512), c.Memory)
	assert.Positive(t, Rate(1))
}
