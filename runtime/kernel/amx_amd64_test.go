//go:build !purego

package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
)

// TestTilesInt8: the tiles give the bits of the plain dot products, for every
// number of tokens, width, group and kind of code, at the extremes too.
func TestTilesInt8(t *testing.T) {
	needTiles(t)
	r := rand.New(rand.NewPCG(1, 2))
	for turn := range 150 {
		m, n, k := 4+r.IntN(70), 1+r.IntN(150), 2*(1+r.IntN(200))
		switch turn % 10 {
		case 0:
			k = 2 * (2000 + r.IntN(6000)) // several cuts
		case 1:
			m = 250 + r.IntN(300) // several blocks of tokens
		}
		code, block := numeric.Int8, k
		if r.IntN(2) == 0 {
			code = numeric.Int4
		}
		if r.IntN(2) == 0 {
			block = 64 * (1 + r.IntN(4))
			if k > 1000 {
				block = 64 * (1 + r.IntN(100)) // smaller and larger than a cut
			}
		}
		w := matrix(r, code, n, k, 1, min(block, k))
		checkInt8(t, r, "tiles", m, w, turn%5 == 0, func(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, p *Workers) {
			require.True(t, tilesInt8(y, ldy, a, w, p))
		})
	}
}

func FuzzTilesInt8(f *testing.F) {
	f.Add(uint64(1), uint8(5), uint8(33), uint16(17), uint8(1), false)
	f.Add(uint64(2), uint8(13), uint8(7), uint16(400), uint8(0), true)
	f.Fuzz(func(t *testing.T, seed uint64, m, n uint8, cols uint16, block uint8, int4 bool) {
		needTiles(t)
		r := rand.New(rand.NewPCG(seed, 1))
		k := 2 * (1 + int(cols%3000))
		code, bc := numeric.Int8, k
		if int4 {
			code = numeric.Int4
		}
		if block > 0 {
			bc = min(k, 64*int(block))
		}
		rows, out := panelRows+int(m%60), 1+int(n%100)
		w := matrix(r, code, out, k, 1, bc)
		a := QuantizeInt8(odd(r, rows*k), rows, k, 127, nil)
		want, got := make([]float32, rows*out), make([]float32, rows*out)
		plainInt8(want, out, a, w)
		require.True(t, tilesInt8(got, out, a, w, nil))
		sameBits(t, want, got, "fuzz")
	})
}

// TestCuts: the cuts cover every step once, in order, whole groups or parts of
// one.
func TestCuts(t *testing.T) {
	for steps := 1; steps < 40; steps++ {
		for group := 1; group <= steps; group++ {
			for most := 1; most < 20; most++ {
				at := 0
				for _, c := range amxCuts(steps, group, most) {
					require.Equal(t, at, c.lo)
					require.Equal(t, at/group, c.group)
					require.LessOrEqual(t, c.steps*c.groups, most)
					require.Equal(t, at%group == 0, c.first)
					at += c.steps * c.groups
					require.Equal(t, at%group == 0 || at == steps, c.last)
					if c.groups > 1 {
						require.Equal(t, group, c.steps)
					}
				}
				require.Equal(t, steps, at)
			}
		}
	}
	assert.Len(t, amxCuts(32, 4, 128), 1)
}

// BenchmarkTiles is an expert's projection, from memory: each turn has weights
// of its own.
func BenchmarkTiles(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k, copies = 1408, 4096, 4
	for _, c := range []struct {
		name  string
		code  numeric.Code
		block int
	}{{"int8", numeric.Int8, k}, {"int4 group 128", numeric.Int4, 128}} {
		var w []*numeric.Matrix
		for range copies {
			w = append(w, matrix(r, c.code, n, k, 1, c.block))
		}
		for _, m := range []int{1, 8, 64, 256} {
			y := make([]float32, m*n)
			a := QuantizeInt8(normals(r, m*k), m, k, 127, nil)
			b.Run(fmt.Sprintf("%s/M=%d", c.name, m), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					Int8(y, n, a, w[i%copies], nil)
				}
				b.ReportMetric(float64(b.N)*float64(m)*n*k/b.Elapsed().Seconds()/1e9, "GMAC/s")
			})
		}
	}
}
