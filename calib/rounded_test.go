package calib

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
)

// TestInputsUnderOneScale: the scale of inputs that the plan does not know is that
// of all of them, however many rows come at a time, and one that it knows stays.
func TestInputsUnderOneScale(t *testing.T) {
	var s span
	s.add([]float32{1, -2})
	s.add(nil)
	s.add([]float32{0.5, 3, -7})
	w := &layout.Weight{Act: format.NVFP4Local}
	assert.True(t, unsettled(w))
	known := s.settle(w)
	assert.Equal(t, float32(7), known.InputMax)
	assert.False(t, unsettled(known))
	assert.Zero(t, w.InputMax)

	static := s.settle(&layout.Weight{Act: layout.AscendStatic})
	want, err := layout.NewStaticInput(-7, 3)
	assert.NoError(t, err)
	assert.Equal(t, want, static.Input)
	assert.False(t, unsettled(&layout.Weight{Act: format.Float8Token}))
}
