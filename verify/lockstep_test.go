package verify

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestProbes: what is said of a layer on the source's states comes from the rows
// that are probed and from no others.
func TestProbes(t *testing.T) {
	const h = 2
	seqs := [][]int{{1, 2}, {3}, {4, 5, 6}}
	probes := []rowRange{{0, 2}, {3, 6}}
	x := []float32{1, 2, 3, 4, 50, 60, 7, 8, 9, 10, 11, 12}
	assert.Equal(t, []float32{1, 2, 3, 4, 7, 8, 9, 10, 11, 12}, appendRows(nil, x, probes, h))
	own := appendRows(nil, x, probes, h)
	own[9] += 3
	var s layerSums
	s.addOwn(x, own, probes, h)
	assert.Equal(t, 9.0, s.Own)
	assert.Equal(t, 1.0+4+9+16+49+64+81+100+121+144, s.OwnSize)

	// Rows 1 and 5 chose one of the keys before them; on the source's states row 5
	// chooses another one.
	a := [][]int32{{0}, {0}, {0}, {0}, {0, 1}, {1}}
	b := append(append([][]int32{}, a...), []int32{0}, []int32{0}, []int32{0}, []int32{0, 1}, []int32{2})
	s.addKeys(seqs, probes, a, b)
	assert.Equal(t, 2, s.Chosen)
	assert.Equal(t, 2.0, s.Keys)
	assert.Equal(t, 2, s.Probed)
	assert.Equal(t, 1.0, s.OwnKeys)
	before := s
	s.addKeys(seqs, probes, nil, nil)
	assert.Equal(t, before, s)
}
