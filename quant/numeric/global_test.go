package numeric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSampleInParts: parts of a set, in any sizes and from bytes or numbers, are
// joined to the sample of the whole.
func TestSampleInParts(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for _, groups := range []int{1, 7, 4095, 4096, 4097, 8191, 8192, 20_011} {
		w := make([]float32, 16*groups)
		for i := range w {
			w[i] = RoundBF16(float32(r.NormFloat64()))
		}
		var whole SampleGlobal
		require.NoError(t, whole.Add(w, 16))
		var all SampleGlobal
		var x Scratch
		for first := 0; first < len(w); {
			n := min(16*(1+r.IntN(groups)), len(w)-first)
			var part SampleGlobal
			part.Part(first, len(w))
			if piece := w[first : first+n]; r.IntN(2) == 0 {
				require.NoError(t, part.Add(piece, 16))
			} else {
				require.NoError(t, part.AddBytes(AppendBF16(nil, piece), Decoder{Size: 2, Decode: DecodeBF16, BF16: true}, 16, &x))
			}
			all.Join(&part)
			first += n
		}
		require.Equal(t, whole, all, fmt.Sprint(groups))
		require.Less(t, len(all.groups), 2*16*sampleGroups)
	}
}

// TestSampleRefuses: what is not finite is named by its place in the part.
func TestSampleRefuses(t *testing.T) {
	w := make([]float32, 4*32)
	w[70] = float32(math.Inf(-1))
	var g SampleGlobal
	var x Scratch
	want := &NonFiniteError{Row: 2, Col: 6, Value: w[70]}
	require.Equal(t, want, g.Add(w, 32))
	require.Equal(t, want, g.AddBytes(AppendBF16(nil, w), Decoder{Size: 2, Decode: DecodeBF16, BF16: true}, 32, &x))
}
