package calib

import (
	"slices"
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
	of := func(n, length int) [][]int { return slices.Repeat([][]int{make([]int, length)}, n) }
	c := CostOf(plan, of(128, 512))
	assert.InEpsilon(t, 46*2.0e14, c.Work, 0.7)
	assert.Less(t, CostOf(plan, of(32, 512)).Work, c.Work)
	assert.Greater(t, c.Scratch, int64(40<<30))
	assert.Equal(t, Need(plan, 512), c.Memory)
	assert.Equal(t, Need(plan, 2048), CostOf(plan, of(32, 2048)).Memory, "the longest sequence counts")
	assert.Positive(t, Rate(1))
}
