package share

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestCut(t *testing.T) {
	for name, tc := range map[string]struct {
		sizes []int64
		count int
		want  [][2]int
	}{
		"even":             {[]int64{1, 1, 1, 1}, 2, [][2]int{{0, 2}, {2, 4}}},
		"one is large":     {[]int64{1, 8, 1}, 2, [][2]int{{0, 1}, {1, 3}}},
		"no part":          {[]int64{3, 4}, 0, [][2]int{{0, 2}}},
		"more parts":       {[]int64{5}, 3, [][2]int{{0, 0}, {0, 1}, {1, 1}}},
		"nothing":          {nil, 2, [][2]int{{0, 0}, {0, 0}}},
		"items of no size": {[]int64{0, 0}, 2, [][2]int{{0, 2}, {2, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			for i, want := range tc.want {
				lo, hi := Cut(tc.sizes, i+1, tc.count)
				assert.Equal(t, want, [2]int{lo, hi}, "part %d", i+1)
			}
		})
	}
}

// Every item is in exactly one part, and parts follow each other.
func TestCutCoversAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOf(rapid.Int64Range(0, 1<<40)).Draw(t, "sizes")
		count := rapid.IntRange(1, 20).Draw(t, "count")
		at := 0
		for i := range count {
			lo, hi := Cut(sizes, i+1, count)
			if lo == hi {
				continue
			}
			assert.Equal(t, at, lo)
			at = hi
		}
		assert.Equal(t, len(sizes), at)
	})
}
