//go:build !purego

package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
)

// TestFewBF16: few tokens have the bits that they have among many, which
// pass a panel, and nothing beside them is touched.
func TestFewBF16(t *testing.T) {
	for _, p := range panelPaths(t) {
		t.Run(p.name, func(t *testing.T) { fewBF16(t, p.panelPath) })
	}
}

func fewBF16(t *testing.T, p *panelPath) {
	r := rand.New(rand.NewPCG(8, 15))
	for range 200 {
		m, n, k := 1+r.IntN(3), 1+r.IntN(90), 32*(1+r.IntN(20))
		ldy := n + r.IntN(3)
		w, x := make([]byte, 2*n*k), make([]float32, panelRows*k)
		for i := 0; i < len(w); i += 2 {
			u := numeric.F32ToBF16(float32(r.NormFloat64()))
			w[i], w[i+1] = byte(u), byte(u>>8)
		}
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		many, few := make([]float32, panelRows*n), make([]float32, m*ldy)
		for i := range few {
			few[i] = 77
		}
		p.float(many, n, x, panelRows, BF16, w, n, k, &Workers{N: 2})
		require.Equal(t, n >= fewRowsOfBF16, p.few(few, ldy, x[:m*k], m, w, n, k, &Workers{N: 2}))
		for i := range m {
			if n < fewRowsOfBF16 {
				continue
			}
			require.Equal(t, many[i*n:][:n], few[i*ldy:][:n], fmt.Sprintf("%d × %d × %d, token %d", m, n, k, i))
			for _, v := range few[i*ldy+n : (i+1)*ldy] {
				require.Equal(t, float32(77), v)
			}
		}
	}
}

// BenchmarkFewBF16 is one token with weights that no cache holds.
func BenchmarkFewBF16(b *testing.B) {
	const n, k = 1408, 4096
	w, x, y := make([]byte, 32*2*n*k), make([]float32, k), make([]float32, n)
	for i := range w {
		w[i] = byte(i >> 12)
	}
	for _, name := range []string{"rows", "panel"} {
		b.Run(name, func(b *testing.B) {
			if name == "panel" && panels != nil {
				defer func(f []fewBF16Block) { panels.fewBF16 = f }(panels.fewBF16)
				panels.fewBF16 = nil
			}
			at := 0
			b.SetBytes(2 * n * k)
			for b.Loop() {
				Float(y, n, x, 1, BF16, w[at:at+2*n*k], n, k, nil)
				at = (at + 2*n*k) % len(w)
			}
		})
	}
}

// BenchmarkFewInt8 is the same with int8 weights.
func BenchmarkFewInt8(b *testing.B) {
	const n, k, copies = 1408, 4096, 32
	r := rand.New(rand.NewPCG(1, 1))
	all := matrix(r, numeric.Int8, n*copies, k, 1, k)
	for m := 1; m < panelRows; m++ {
		a, y := QuantizeInt8(normals(r, m*k), m, k, 127, nil), make([]float32, m*n)
		b.Run(fmt.Sprintf("M=%d", m), func(b *testing.B) {
			at := 0
			b.SetBytes(n * k)
			for b.Loop() {
				w := *all
				w.Rows, w.Codes, w.Scales = n, all.Codes[at*n*k:][:n*k], all.Scales[at*n:][:n]
				Int8(y, n, a, &w, nil)
				at = (at + 1) % copies
			}
		})
	}
}
