//go:build (amd64 || arm64) && !purego

package numeric

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestFloatTwins: E4M3 codes are widened under any scale, and numbers rounded to
// bfloat16, as the plain loops do it, those that are none included.
func TestFloatTwins(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 6))
		codes := make([]byte, rapid.IntRange(0, 200).Draw(r, "codes"))
		most := rapid.SampledFrom([]int{256, 127}).Draw(r, "kinds") // with NaN, without
		for i := range codes {
			codes[i] = byte(rng.IntN(most))
		}
		s := math.Float32frombits(rapid.Uint32().Draw(r, "scale"))
		same(t, "E4M3", func() any {
			a, b := make([]float32, len(codes)), make([]float32, len(codes))
			DecodeE4M3(a, codes)
			m := Matrix{Code: E4M3, Rows: 1, Cols: max(len(codes), 1), BlockRows: 1, BlockCols: 48, Codes: codes}
			if len(codes) > 0 {
				m.Scales = make([]float32, m.ScaleCols())
				for i := range m.Scales {
					m.Scales[i] = s
				}
				m.Dequant(b, 0, 1)
			}
			return [][]byte{AppendF32(nil, a), AppendF32(nil, b)}
		})
		w := awkward(rng, rapid.IntRange(0, 100).Draw(r, "numbers"))
		for range rng.IntN(3) {
			if len(w) > 0 {
				w[rng.IntN(len(w))] = math.Float32frombits(rng.Uint32() | 0x7f800000)
			}
		}
		same(t, "BF16", func() any { return AppendBF16([]byte{1}, w) })
	})
}

// TestBF16TwinsExhaustively: the neighbours of every bfloat16 number and the ties
// between two.
func TestBF16TwinsExhaustively(t *testing.T) {
	var w []float32
	for i := range uint32(1 << 16) {
		for _, low := range []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff} {
			w = append(w, math.Float32frombits(i<<16|low))
		}
	}
	same(t, "BF16", func() any { return digest(AppendBF16(nil, w)) })
}
