package convert

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// Lanes grow with the cores and shrink with the memory; what they may hold
// together stays within it.
func TestLanes(t *testing.T) {
	s, err := synth.NewPlan(synth.Options{Preset: "glm-4.5-air", Layers: 3, Experts: 8, Sparse: true})
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, s.Write(t.Context(), dir))
	src, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, src.Close()) }()
	p, err := quant.NewPlan(src, layout.W8A8, "", quant.Options{})
	require.NoError(t, err)
	flight, scratch, spool := largest(p)
	for _, c := range []struct {
		workers, shards int
		memory          int64
		want            int
	}{
		{1, 50, 1 << 30, 1}, {2, 50, 1 << 30, 2}, {2, 1, 1 << 30, 1}, {4, 50, 1 << 30, 2}, {2, 0, 1 << 30, 1},
		{16, 50, 4 << 30, 8}, {64, 50, 4 << 30, 8}, {64, 3, 4 << 30, 3}, {16, 50, 512 << 20, 8}, {16, 50, minMemory(p), 2},
	} {
		lanes, budget := lanes(p, Options{Workers: c.workers, MaxMemory: c.memory}, c.shards)
		assert.Equal(t, c.want, lanes, "%+v", c)
		assert.GreaterOrEqual(t, budget, 2*flight)
		if lanes > 2 {
			assert.LessOrEqual(t, fixedMemory(p)+scratch*int64(c.workers)+int64(lanes)*(budget+2*spool), c.memory)
		}
	}
}
