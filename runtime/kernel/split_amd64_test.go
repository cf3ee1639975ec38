//go:build !purego

package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/quant/numeric"
)

// rowsOf are kinds of codes, from those without pairs that have to be split to
// those with nothing else.
var rowsOf = []struct {
	name string
	code func(r *rand.Rand, i int) int8
}{
	{"small", func(r *rand.Rand, _ int) int8 { return int8(r.IntN(129) - 64) }},
	{"normal", func(r *rand.Rand, _ int) int8 { return int8(min(max(r.NormFloat64()*33, -128), 127)) }},
	{"any", func(r *rand.Rand, _ int) int8 { return int8(r.Uint32()) }},
	{"largest", func(*rand.Rand, int) int8 { return 127 }},
	{"least", func(*rand.Rand, int) int8 { return -128 }},
	{"either", func(r *rand.Rand, _ int) int8 { return []int8{127, -128}[r.IntN(2)] }},
	{"one pair", func(_ *rand.Rand, i int) int8 { return []int8{0, 65}[min(max(0, i-41), 1)*min(max(0, 44-i), 1)] }},
}

func codesLike(r *rand.Rand, code func(*rand.Rand, int) int8, m, k int) *Int8Rows {
	a := &Int8Rows{M: m, K: k, Q: make([]int8, m*k), Scale: filled(m, 0.01)}
	for i := range a.Q {
		a.Q[i] = code(r, i%k)
	}
	return a
}

// TestSplit: what is kept and the pieces are the codes again, no pair that is kept
// is beyond what VPMADDUBSW takes, and pairs within that have no piece.
func TestSplit(t *testing.T) {
	if cpu.Current() < cpu.AVX2 {
		t.Skip("SKIPPED: this processor does not run the avx2 kernels")
	}
	r := rand.New(rand.NewPCG(13, 14))
	for _, c := range rowsOf {
		t.Run(c.name, func(t *testing.T) {
			for _, k := range []int{4, 28, 32, 60, 64, 100, 1056} {
				const m = 3
				a := codesLike(r, c.code, m, k)
				s := panelsAVX2.whole(a)
				require.Same(t, s, panelsAVX2.whole(a), "split once")
				again := make([]int8, m*k)
				for i, b := range s.codes {
					again[i] = int8(b)
				}
				for i := 0; i < len(again); i += 2 {
					sum := int(again[i]) + int(again[i+1])
					require.True(t, sum >= -128 && sum <= 128, "k=%d: %d and %d", k, again[i], again[i+1])
				}
				at := 0
				for i, end := range s.ends {
					for ; at < end; at++ {
						p := s.pieces[at]
						for j, q := range p.codes {
							again[i*k+int(p.at)/16+j] += q
						}
					}
				}
				require.Equal(t, len(s.pieces), at)
				require.Equal(t, a.Q, again, "k=%d", k)
				want := 0
				for i := 0; i < len(a.Q); i += 4 {
					if excess(a.Q[i], a.Q[i+1]) != 0 || excess(a.Q[i+2], a.Q[i+3]) != 0 {
						want++
					}
				}
				require.Len(t, s.pieces, want)
			}
		})
	}
	assert.Nil(t, panelsAVX512.whole(codesLike(r, rowsOf[3].code, 1, 8)).pieces, "VPDPBUSD does not saturate")
}

// TestSplitCut: every piece is in the run of the part that its columns are in.
func TestSplitCut(t *testing.T) {
	s := &splitRows{pieces: []piece{{at: 0}, {at: 16}, {at: 64}, {at: 48}, {at: 112}}, ends: []int{3, 3, 5}}
	assert.Equal(t, [][2]int32{{0, 1}, {3, 0}, {3, 0}, {1, 2}, {3, 0}, {3, 1}, {3, 0}, {3, 0}, {4, 1}}, s.cut([]int{4, 20, 32}, 16))
	assert.Nil(t, (&splitRows{ends: []int{0}}).cut([]int{4}, 16))
}

// TestPanelInt8Extremes: the panels give the bits of the plain dot products where
// every pair, or any, saturates in 16 bits.
func TestPanelInt8Extremes(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for _, p := range panelPaths(t) {
		for _, x := range rowsOf {
			for _, y := range rowsOf {
				for _, block := range []int{2100, 128, 20} {
					m, n, k := panelRows+r.IntN(15), 1+r.IntN(40), 2100
					a, w := codesLike(r, x.code, m, k), matrix(r, numeric.Int8, n, k, 1, block)
					for i, q := range codesLike(r, y.code, n, k).Q {
						w.Codes[i] = byte(q)
					}
					want, got := make([]float32, m*n), make([]float32, m*n)
					plainInt8(want, n, a, w)
					p.int8(got, n, a, w, &Workers{N: 2})
					sameBits(t, want, got, fmt.Sprintf("%s, activations %s, weights %s, groups of %d", p.name, x.name, y.name, block))
				}
			}
		}
	}
}

// TestTileExtremes: few tokens get the exact sums where every pair, or any,
// saturates in 16 bits.
func TestTileExtremes(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for _, p := range vectorPaths(t) {
		for _, x := range rowsOf {
			for _, y := range rowsOf {
				for _, k := range []int{31, 32, 96, 100, 1408} {
					m, n := 1+r.IntN(6), 1+r.IntN(5)
					a, b := codesLike(r, x.code, m, k).Q, codesLike(r, y.code, n, k).Q
					w := make([]byte, len(b))
					for i, q := range b {
						w[i] = byte(q)
					}
					got, want := make([]int32, m*n), make([]int32, m*n)
					p.int8(got, n, a, k, w, k, m, n, k)
					tileInt8Go(want, n, a, k, w, k, m, n, k)
					require.Equal(t, want, got, "%s, activations %s, weights %s, m=%d n=%d k=%d", p.name, x.name, y.name, m, n, k)
				}
			}
		}
	}
}
