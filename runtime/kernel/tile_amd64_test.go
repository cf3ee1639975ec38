//go:build !purego

package kernel

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/cpu"
)

type paths struct {
	name string
	need cpu.Level
	int8 func(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int)
}

func vectorPaths(t testing.TB) (out []paths) {
	for _, p := range []paths{{"avx2", cpu.AVX2, tileInt8AVX2}, {"avx512", cpu.AVX512, tileInt8VNNI}} {
		if p.need > cpu.Current() {
			t.Logf("this processor does not run the %s kernels", p.name)
			continue
		}
		out = append(out, p)
	}
	return out
}

// TestVectorInt8: every path gives the exact sums, extremes included, and
// touches nothing beside its tile.
func TestVectorInt8(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, p := range vectorPaths(t) {
		for range 400 {
			m, n, k := 1+r.IntN(9), 1+r.IntN(9), r.IntN(300)
			if r.IntN(20) == 0 {
				k = 4000 + r.IntN(5000)
			}
			ldx, ldw, lda := k+r.IntN(3), k+r.IntN(3), n+r.IntN(3)
			x, w := make([]int8, m*ldx), make([]byte, n*ldw)
			for i := range x {
				x[i] = int8(r.IntN(256) - 128)
			}
			for i := range w {
				w[i] = byte(r.IntN(256))
			}
			if r.IntN(4) == 0 {
				for i := range x {
					x[i] = -128
				}
				for i := range w {
					w[i] = 0x80
				}
			}
			got, want := make([]int32, m*lda), make([]int32, m*lda)
			for i := range got {
				got[i], want[i] = 77, 77
			}
			p.int8(got, lda, x, ldx, w, ldw, m, n, k)
			tileInt8Go(want, lda, x, ldx, w, ldw, m, n, k)
			require.Equal(t, want, got, "%s m=%d n=%d k=%d", p.name, m, n, k)
		}
	}
}

func TestTilesStayInside(t *testing.T) {
	for _, p := range vectorPaths(t) {
		assert.Panics(t, func() { p.int8(make([]int32, 4), 2, make([]int8, 7), 4, make([]byte, 8), 4, 2, 2, 4) })
	}
}

func BenchmarkTile(b *testing.B) {
	const m, n, k = 64, 8, 4096
	q, c, acc := make([]int8, m*k), make([]byte, n*k), make([]int32, m*n)
	all := append([]paths{{"purego", cpu.PureGo, tileInt8Go}}, vectorPaths(b)...)
	for _, p := range all {
		b.Run("int8/"+p.name, func(b *testing.B) {
			for b.Loop() {
				p.int8(acc, n, q, k, c, k, m, n, k)
			}
			b.ReportMetric(float64(b.N)*m*n*k/b.Elapsed().Seconds()/1e9, "GMAC/s")
		})
	}
}
