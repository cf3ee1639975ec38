//go:build !purego

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/quant/numeric"
)

// fp4 is a random FP4 weight whose scales are bytes: E4M3 with a global one, which
// multiplies or divides them, or E8M0.
func fp4(r *rand.Rand, kind string, n, k, block int) *numeric.Matrix {
	w := matrix(r, numeric.E2M1, n, k, 1, block)
	w.ScaleCodes = make([]byte, len(w.Scales))
	if kind != "mx" {
		w.Global, w.Times = 0.5+3*r.Float32(), kind == "times"
	}
	for i := range w.Scales {
		switch kind {
		case "mx":
			w.ScaleCodes[i] = byte(110 + r.IntN(30))
			w.Scales[i] = numeric.E8M0ToF32(w.ScaleCodes[i])
		case "times":
			w.ScaleCodes[i] = byte(r.IntN(0x7f))
			w.Scales[i] = numeric.E4M3ToF32(w.ScaleCodes[i]) * w.Global
		default:
			w.ScaleCodes[i] = byte(r.IntN(0x7f))
			w.Scales[i] = numeric.E4M3ToF32(w.ScaleCodes[i]) / w.Global
		}
	}
	return w
}

// TestTilesFP4: FP4 weights give the bits of BF16 ones that hold the same products
// of codes and local scales, times the global scale, and are near to what the weight
// says; for every width, group, number of tokens and threads.
func TestTilesFP4(t *testing.T) {
	needTiles(t)
	r := rand.New(rand.NewPCG(21, 22))
	for _, kind := range []string{"divided", "times", "mx"} {
		for turn := range 40 {
			m, n, k, block := 1+r.IntN(40), 1+r.IntN(70), 2*(1+r.IntN(200)), 16*(1+r.IntN(3))
			if turn%10 == 0 {
				k, n = 2*(1000+r.IntN(3000)), 1+r.IntN(8)
			}
			w, x := fp4(r, kind, n, k, min(block, (k+15)/16*16)), normals(r, m*k)
			local := *w
			local.Scales, local.Global = make([]float32, len(w.Scales)), 0
			for i, c := range w.ScaleCodes {
				if local.Scales[i] = numeric.E4M3ToF32(c); kind == "mx" {
					local.Scales[i] = w.Scales[i]
				}
			}
			wide, exactly := make([]float32, n*k), make([]float32, n*k)
			local.Dequant(wide, 0, n)
			w.Dequant(exactly, 0, n)
			raw := numeric.AppendBF16(nil, wide)
			want, got := make([]float32, m*n), filled(m*(n+2), 77)
			require.True(t, tilesFloat(want, n, &FloatRows{M: m, K: k, X: x}, BF16, raw, n, nil))
			require.True(t, tilesFP4(got, n+2, x, m, w, &Workers{N: 1 + r.IntN(3)}))
			for i := range m {
				for j := range n {
					v := want[i*n+j]
					switch kind {
					case "times":
						v *= w.Global
					case "divided":
						v /= w.Global
					}
					sameBits(t, []float32{v}, got[i*(n+2)+j:][:1], fmt.Sprintf("%s m=%d n=%d k=%d block=%d, %d,%d", kind, m, n, k, w.BlockCols, i, j))
					exact, size := 0.0, 0.0
					for c := range k {
						p := float64(x[i*k+c]) * float64(exactly[j*k+c])
						exact, size = exact+p, size+math.Abs(p)
					}
					require.InDelta(t, exact, float64(v), size*0x1p-20)
				}
				require.EqualValues(t, 77, got[i*(n+2)+n], "nothing is written beside the rows")
			}
			i, one := r.IntN(m), make([]float32, n)
			require.True(t, tilesFP4(one, n, x[i*k:][:k], 1, w, nil))
			sameBits(t, got[i*(n+2):][:n], one, "one token")
		}
	}
}

// TestTilesFP4Declines: weights that tiles do not take go another way.
func TestTilesFP4Declines(t *testing.T) {
	needTiles(t)
	r := rand.New(rand.NewPCG(23, 24))
	tests := []struct {
		name string
		w    *numeric.Matrix
	}{
		{"scales that are numbers", matrix(r, numeric.E2M1, 5, 64, 1, 16)},
		{"groups that are no sixteens", fp4(r, "mx", 5, 64, 24)},
		{"an odd number of columns", fp4(r, "mx", 5, 63, 16)},
		{"another code", matrix(r, numeric.Int4, 5, 64, 1, 16)},
		{"several rows with one scale", func() *numeric.Matrix { w := fp4(r, "mx", 5, 64, 16); w.BlockRows = 2; return w }()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			y := filled(10, 77)
			require.False(t, tilesFP4(y, 5, normals(r, 2*tt.w.Cols), 2, tt.w, nil))
			require.Equal(t, filled(10, 77), y)
		})
	}
}

// BenchmarkTilesFP4 is an expert's projection, from memory: each turn has weights
// of its own; and what widening them alone takes.
func BenchmarkTilesFP4(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k, copies = 1408, 4096, 4
	var w [copies]*numeric.Matrix
	for c := range copies {
		w[c] = fp4(r, "divided", n, k, 16)
	}
	b.Run("widened", func(b *testing.B) {
		if cpu.Current() < cpu.AVX512 {
			b.Skip("*** no AVX-512 here ***")
		}
		dst := make([]byte, 2*k)
		for i := 0; b.Loop(); i++ {
			for row := range n {
				fillFP4(dst, w[i%copies], row, 0)
			}
		}
		b.ReportMetric(float64(b.N)*n*k/b.Elapsed().Seconds()/1e9, "Gweights/s")
	})
	for _, m := range []int{1, 8, 64, 256} {
		x, y := normals(r, m*k), make([]float32, m*n)
		b.Run(fmt.Sprintf("M=%d", m), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				WeightOnly(y, n, x, m, w[i%copies], nil)
			}
			b.ReportMetric(float64(b.N)*float64(m)*n*k/b.Elapsed().Seconds()/1e9, "GMAC/s")
		})
	}
}
