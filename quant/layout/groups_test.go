package layout

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestCheckGroups: a group size that changes nothing is refused.
func TestCheckGroups(t *testing.T) {
	takes := map[Scheme][]int{FP8: {PerChannel}, W8A8: {PerChannel}, FP8Block: {128}, W4A8: {32, 64, 128, PerChannel}, W4A16: {32, 64, 128}, W4A8FP8: {32, 64, 128}, Int4Int8: {32, 64, 128},
		NVFP4: {16}, NVFP4A16: {16}, MXFP4: {32}, MXFP4A16: {32}, MXFP8: {32}, MXFP8A16: {32}}
	for _, s := range Schemes {
		for _, f := range formatsOf(s) {
			for _, size := range []int{16, 32, 64, 128, PerChannel} {
				err := CheckGroups(s, f, size)
				ok := false
				for _, n := range takes[s] {
					ok = ok || n == size && (s != W4A8 || f != Ascend || size == PerChannel)
				}
				if size == 16 && err == nil && !ok {
					continue // Decide refuses the size itself
				}
				assert.Equal(t, ok, err == nil, "%s as %s, %s: %v", s, f, groupsOf(size), err)
				if err != nil {
					assert.ErrorIs(t, err, ErrImpossible)
				}
			}
		}
	}
}
