package share

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPieces(t *testing.T) {
	list := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	for name, c := range map[string]struct {
		list     []int
		total, n int
		want     [][]int
	}{
		"nothing":                {nil, 10, 4, nil},
		"shorter than a piece":   {list[:3], 10, 4, [][]int{{0, 1, 2}}},
		"… and than what fits":   {list[:3], 2, 4, [][]int{{0, 1}}},
		"all of them":            {list, 10, 2, [][]int{{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}}},
		"spread":                 {list, 4, 2, [][]int{{0, 1}, {4, 5}}},
		"one, whatever is asked": {list, 1, 4, [][]int{{0, 1, 2, 3}}},
		"the rest is left out":   {list, 10, 4, [][]int{{0, 1, 2, 3}, {4, 5, 6, 7}}},
	} {
		assert.Equal(t, c.want, Pieces(c.list, c.total, c.n), name)
	}
}
