package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSubF64: the vector kernels take away the sums of the plain loops, whatever
// the shape, and touch nothing beside them.
func TestSubF64(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 4))
	fill := func(n int) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = r.NormFloat64()
		}
		return x
	}
	for range 60 {
		m, n, k := 1+r.IntN(20), 1+r.IntN(80), 1+r.IntN(70)
		ldy, ldx, ldw := n+r.IntN(3), k+r.IntN(3), n+r.IntN(3)
		y, x, w := fill(m*ldy), fill(m*ldx), fill(k*ldw)
		want := append([]float64(nil), y...)
		for i := range m {
			for j := range n {
				for c := range k {
					want[i*ldy+j] -= x[i*ldx+c] * w[c*ldw+j]
				}
			}
		}
		SubF64(y, ldy, x, ldx, w, ldw, m, n, k)
		require.InDeltaSlice(t, want, y, 1e-11, fmt.Sprintf("m=%d n=%d k=%d", m, n, k))
	}
	require.Panics(t, func() { SubF64(fill(3), 2, fill(4), 2, fill(4), 2, 2, 2, 2) })
}
