//go:build !purego

package diff

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// vectors says whether sums run on vector instructions (internal/asm/compare);
// tests turn it off to see the same bits.
var vectors = cpu.Current() >= cpu.AVX2

// addVector does the first whole vectors of add and returns how many elements
// that is. The slices are equally long; z may be nil.
func (t *totals) addVector(x, y, z []float32) int {
	n, all := len(x)&^3, (*[21]float64)(unsafe.Pointer(t))
	switch {
	case !vectors || n == 0:
		return 0
	case z == nil:
		addPairAVX2(&x[0], &y[0], n, all)
	default:
		addTripleAVX2(&x[0], &y[0], &z[0], n, all)
	}
	return n
}
