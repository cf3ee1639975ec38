//go:build amd64 && !purego

package kernel

import (
	"math/rand/v2"
	"testing"
)

// TestCodeSums: sums of codes on vectors are those of the plain loop, to the bit.
func TestCodeSums(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 17))
	for n := range 131 {
		w, h := normals(r, n), normals(r, n+3)
		var inv [8]float32
		for i := range inv {
			inv[i] = float32(r.NormFloat64() * 9)
		}
		inv[5] = 3e38 // beyond all codes
		for _, top := range []float32{7, 127} {
			wq, qq := CodeSums(w, h, &inv, -top-1, top)
			plainly(func() {
				a, b := CodeSums(w, h, &inv, -top-1, top)
				sameBits(t, a[:], wq[:], "Σhwq")
				sameBits(t, b[:], qq[:], "Σhq²")
			})
		}
	}
}
