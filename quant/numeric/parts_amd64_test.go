//go:build !purego

package numeric

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDivisionByParts: a weight times the two parts of a scale's inverse has the
// code of its quotient, for every significand of a scale and the weights on both
// sides of each boundary between codes. Other weights lie between those, and
// exponents change nothing.
func TestDivisionByParts(t *testing.T) {
	if !groupTwins() {
		t.Skip("SKIPPED: this processor has no AVX2: there are no kernels of groups to hold against division")
	}
	g := &groups{size: 16, eights: batch / 16 / besides}
	count := g.eights * besides
	var out [batch / 2]byte
	want := make([]byte, batch/2)
	for first := 0; first < 1<<23; first += count {
		for i := range count {
			s := math.Float32frombits(0x3f800000 + uint32(first+i))
			g.table[i], g.codes[i] = parts(s), int32(i)
			at := g.turned[i/besides*16*besides+i%besides:]
			for j, w := range boundaries(s) {
				at[j*besides], at[j*besides+batch] = w, w
				want[8*i+j/2] |= F32ToE2M1(w/s) << (j % 2 * 4)
			}
		}
		g.encode(out[:], E2M1)
		require.Equal(t, want, out[:], "scales from significand %#x on", first)
		clear(want)
	}
}

// boundaries are the weights next to where the codes under a scale change, the
// largest number and a small one.
func boundaries(s float32) (w [16]float32) {
	for c, between := range [...]float32{0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5} {
		bits := math.Float32bits(between * s)
		passed := func() bool { return F32ToE2M1(math.Float32frombits(bits)/s) > byte(c) }
		for passed() {
			bits--
		}
		for !passed() {
			bits++
		}
		w[2*c], w[2*c+1] = math.Float32frombits(bits-1), math.Float32frombits(bits)
	}
	w[14], w[15] = math.MaxFloat32, 0x1p-120
	return w
}

// TestScalesWithoutParts: scales whose inverse has no two parts in float32 are
// left to the plain loops.
func TestScalesWithoutParts(t *testing.T) {
	for _, global := range []float32{0x1p95, 0x1p-95, 1} {
		var g groups
		s := Spec{Code: E2M1, Rule: NVFP4, BlockCols: 16, Global: global}
		require.Equal(t, groupTwins() && global == 1, g.begin(&s), global)
	}
}
