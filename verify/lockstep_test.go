package verify

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestProbes: what is said of a layer on the source's states comes from the rows
// that are probed and from no others.
func TestProbes(t *testing.T) {
	const h = 2
	seqs := [][]int{{1, 2}, {3}, {4, 5, 6}}
	probes := []rowRange{{0, 2, 0}, {3, 6, 2}}
	x := []float32{1, 2, 3, 4, 50, 60, 7, 8, 9, 10, 11, 12}
	assert.Equal(t, []float32{1, 2, 3, 4, 7, 8, 9, 10, 11, 12}, appendRows(nil, x, probes, h))
	own := appendRows(nil, x, probes, h)
	own[9] += 3
	list := make([]layerSums, len(seqs))
	addOwn(list, x, own, probes, h)
	assert.Equal(t, []float64{0, 0, 9}, []float64{list[0].Own, list[1].Own, list[2].Own})
	assert.Equal(t, []float64{1 + 4 + 9 + 16, 0, 49 + 64 + 81 + 100 + 121 + 144}, []float64{list[0].OwnSize, list[1].OwnSize, list[2].OwnSize})

	// Rows 1 and 5 chose one of the keys before them; on the source's states row 5
	// chooses another one.
	a := [][]int32{{0}, {0}, {0}, {0}, {0, 1}, {1}}
	b := append(append([][]int32{}, a...), []int32{0}, []int32{0}, []int32{0}, []int32{0, 1}, []int32{2})
	addKeys(list, seqs, probes, a, b)
	assert.Zero(t, list[1].Chosen+list[1].Probed)
	var s layerSums
	for i := range list {
		s.plus(&list[i])
	}
	assert.Equal(t, 2, s.Chosen)
	assert.Equal(t, 2.0, s.Keys)
	assert.Equal(t, 2, s.Probed)
	assert.Equal(t, 1.0, s.OwnKeys)
	before := slices.Clone(list)
	addKeys(list, seqs, probes, nil, nil)
	assert.Equal(t, before, list)
}
