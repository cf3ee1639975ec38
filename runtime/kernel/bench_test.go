package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/glmconv/glmconv/quant/numeric"
)

func BenchmarkFloatBF16(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k = 512, 1024
	raw := numeric.AppendBF16(nil, normals(r, n*k))
	for _, m := range []int{1, 16} {
		x, y := normals(r, m*k), make([]float32, m*n)
		b.Run(fmt.Sprint("M=", m), func(b *testing.B) {
			b.SetBytes(int64(2 * m * n * k)) // MB/s reads as MFLOP/s
			for b.Loop() {
				Float(y, n, x, m, BF16, raw, n, k, nil)
			}
		})
	}
}

// BenchmarkRows is the loops over rows, a token of GLM-4.5-Air's width each.
func BenchmarkRows(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const k = 4096
	x, w, y := normals(r, k), normals(r, k), make([]float32, k)
	q := make([]int8, k)
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"RMSNorm", func() { RMSNorm(y, x, w, 1e-5) }},
		{"SwiGLU", func() { SwiGLU(y, x, w) }},
		{"Softmax", func() { copy(y, x); Softmax(y) }},
		{"Axpy", func() { Axpy(y, 1e-9, x) }},
		{"QuantizeInt8", func() { quantizeInt8(q, x, 127) }},
		{"QuantizeE4M3", func() { roundE4M3(y, x) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(4 * k)
			for b.Loop() {
				c.run()
			}
		})
	}
}

// BenchmarkAttend is a key head of GLM-4.5-Air: a block of a prompt, and one
// token after 4096.
func BenchmarkAttend(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const heads, dim, width, n = 12, 128, 1024, 4096
	k, v := normals(r, n*width), normals(r, n*width)
	rows := func(x []float32) Rows { return func(t int) ([]float32, int, int) { return x[t*width:], width, n - t } }
	for _, c := range []struct{ tokens, first int }{{10, 500}, {1, n}} {
		a := Attention{Tokens: c.tokens, Heads: heads, First: c.first, KeyDim: dim, ValueDim: dim, Scale: 0.1, Keys: rows(k), Values: rows(v)}
		q, o := normals(r, c.tokens*heads*dim), make([]float32, c.tokens*heads*dim)
		b.Run(fmt.Sprintf("tokens=%d/rows=%d", c.tokens, c.first), func(b *testing.B) {
			for b.Loop() {
				a.Attend(o, heads*dim, q, heads*dim)
			}
			b.ReportMetric(2*float64(b.N)*float64(c.tokens*c.first*heads*dim)/b.Elapsed().Seconds()/1e9, "GMAC/s")
		})
	}
}

// BenchmarkE4M3 and BenchmarkWeightOnly are an expert's projection.
func BenchmarkE4M3(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k = 512, 4096
	for _, c := range []struct {
		name   string
		br, bc int
		group  int
	}{{"channel", 1, k, 0}, {"block", 128, 128, 128}} {
		w := matrix(r, numeric.E4M3, n, k, c.br, c.bc)
		for _, m := range []int{1, 64} {
			a, y := QuantizeE4M3(normals(r, m*k), m, k, c.group, nil), make([]float32, m*n)
			b.Run(fmt.Sprintf("%s/M=%d", c.name, m), func(b *testing.B) {
				for b.Loop() {
					E4M3(y, n, a, w, nil)
				}
				b.ReportMetric(float64(b.N)*float64(m)*n*k/b.Elapsed().Seconds()/1e9, "GMAC/s")
			})
		}
	}
}

func BenchmarkWeightOnly(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k = 512, 4096
	w := matrix(r, numeric.Int4, n, k, 1, 128)
	for _, m := range []int{1, 64} {
		x, y := normals(r, m*k), make([]float32, m*n)
		b.Run(fmt.Sprint("M=", m), func(b *testing.B) {
			for b.Loop() {
				WeightOnly(y, n, x, m, w, nil)
			}
			b.ReportMetric(float64(b.N)*float64(m)*n*k/b.Elapsed().Seconds()/1e9, "GMAC/s")
		})
	}
}

// BenchmarkRoute chooses 8 of 128 experts.
func BenchmarkRoute(b *testing.B) {
	logits := normals(rand.New(rand.NewPCG(1, 1)), 128)
	r := &Routing{TopK: 8, Normalize: true, Scale: 1}
	for b.Loop() {
		r.Route(nil, nil, logits)
	}
}
