//go:build !purego

package numeric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// recodable are codes, all numbers: bell-shaped, or any, or as small as codes get.
func recodable(r *rand.Rand, n int) []byte {
	codes := make([]byte, n)
	kind := r.IntN(4)
	for i := range codes {
		c := F32ToE4M3(float32(r.NormFloat64() * 120))
		switch {
		case kind == 1 || r.IntN(200) == 0:
			c = byte(r.Uint32())
		case kind == 2:
			c &= 0x9f
		}
		if c&0x7f == 0x7f {
			c ^= 1
		}
		codes[i] = c
	}
	return codes
}

// checkRecode compares the codes, sums and errors that tables give with those of
// the weights, bit by bit, and tells whether there are tables.
func checkRecode(t *testing.T, codes []byte, scales []float32, s float32) bool {
	t.Helper()
	of := scaling{scales}
	w := make([]float32, len(codes))
	of.decode(w, codes)
	var x Scratch
	x.spec = Spec{Code: E4M3, Rule: CompressedTensors}
	k := x.spec.against(s)
	r, ok := x.recode(span{codes: codes, scaling: of, most: AbsMax(w)}, E4M3, k)
	if !ok {
		return false
	}
	want, got := make([]byte, len(w)), make([]byte, len(w))
	e := encode(want, w, E4M3, byReciprocal, k.factor, s)
	what := fmt.Sprintf("%x of %v to %v", codes, scales, s)
	require.Equal(t, e, r.encode(got), what)
	require.Equal(t, want, got, what)
	require.Equal(t, e.errSq, r.errorBelow(math.Inf(1)), what)
	for _, limit := range []float64{e.errSq * 1.01, e.errSq, e.errSq / 2, 0} {
		require.Equal(t, e.errSq < limit, r.errorBelow(limit) < limit, what)
	}
	return true
}

// TestRecode: what becomes of a code is looked up, and is what becomes of its
// weight, for scales of any ratio.
func TestRecode(t *testing.T) {
	if !vector {
		t.Skip("SKIPPED: this processor or GLMCONV_CPU has no vector kernels to compare")
	}
	r, tried := rand.New(rand.NewPCG(16, 20)), 0
	const tries = 6000
	for range tries {
		codes := recodable(r, blockWidth*(1+r.IntN(6)))
		scales := make([]float32, len(codes)/blockWidth)
		if r.IntN(4) == 0 {
			scales = scales[:1]
		}
		s := RoundBF16(float32(math.Exp2(-22 + 27*r.Float64())))
		for i := range scales {
			scales[i] = s * float32(math.Exp2(-2*r.Float64()))
			switch r.IntN(4) {
			case 0: // far away, and more codes that have no place in a table
				scales[i] = max(leastRecoded, s*float32(math.Exp2(-20*r.Float64())))
			case 1: // quotients that are exact, and ties
				scales[i] = max(leastRecoded, s*float32(1+r.IntN(16))/16)
			}
		}
		if checkRecode(t, codes, scales, s) {
			tried++
		}
	}
	require.Greater(t, tried, tries/2)
}

// TestRecodeOfEveryCode: every code under every significand of a BF16 scale.
func TestRecodeOfEveryCode(t *testing.T) {
	if !vector {
		t.Skip("SKIPPED: this processor or GLMCONV_CPU has no vector kernels to compare")
	}
	for most := byte(0x7e); most >= 0x60; most -= 3 {
		codes := make([]byte, 2*blockWidth)
		for i := range codes {
			codes[i] = byte(i)
			if codes[i]&0x7f > most {
				codes[i] = most | codes[i]&0x80
			}
		}
		for s := range 1 << 9 { // two octaves
			for _, source := range []float32{0x1p-10, 0x1p-10 * 1.1, 0x1p-10 * 1.7} {
				checkRecode(t, codes, []float32{source}, BF16ToF32(uint16(s)+F32ToBF16(0x1p-11)))
			}
		}
	}
}

// TestRecodeRefuses: scales beyond the tables' and quotients beyond the largest
// code are left to others.
func TestRecodeRefuses(t *testing.T) {
	codes := make([]byte, blockWidth)
	for i := range codes {
		codes[i] = 0x7e
	}
	for _, s := range []float32{leastRecoded / 2, mostRecoded * 2} {
		require.False(t, checkRecode(t, codes, []float32{s}, s))
		require.False(t, checkRecode(t, codes, []float32{0x1p-10}, s))
	}
	require.False(t, checkRecode(t, codes, []float32{0x1.1p-10}, 0x1p-10))
	require.Equal(t, vector, checkRecode(t, codes, []float32{0x1p-10}, 0x1p-10))
}
