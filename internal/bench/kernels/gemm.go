package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// The projections of an expert of GLM-4.5-Air: gate and up, and down.
var projections = [][2]int{{1408, 4096}, {4096, 1408}}

// copies of the weights, so that they come from memory as in a model.
const copies = 6

// gemm is a product to measure: make returns a function that computes one of
// the copies for m tokens.
type gemm struct {
	name  string
	limit func(isa string) string
	make  func(r *rand.Rand, m, n, k int) func(y []float32, copy int, w *kernel.Workers)
}

func int8Limit(isa string) string {
	return map[string]string{"avx2": limits.Int8AVX2, "avx512": limits.Int8AVX512, "amx": limits.Int8AMX}[isa]
}

// fmaLimit is what float32 multiply-accumulates reach. On matrix tiles, which
// have none, it is still what to compare with: three BF16 products of theirs are one.
func fmaLimit(isa string) string {
	return map[string]string{"avx2": limits.FMAAVX2, "avx512": limits.FMAAVX512, "amx": limits.FMAAVX512}[isa]
}

func codes(r *rand.Rand, code numeric.Code, n, k, blockRows, blockCols int) []*numeric.Matrix {
	out := make([]*numeric.Matrix, copies)
	for c := range out {
		m := &numeric.Matrix{Code: code, Rows: n, Cols: k, BlockRows: blockRows, BlockCols: blockCols}
		m.Codes = make([]byte, n*m.RowBytes())
		for i := range m.Codes {
			if m.Codes[i] = byte(r.Uint32()); code == numeric.E4M3 && m.Codes[i]&0x7f == 0x7f {
				m.Codes[i] = 0 // not a number
			}
		}
		m.Scales = make([]float32, m.ScaleRows()*m.ScaleCols())
		for i := range m.Scales {
			m.Scales[i] = 0.001 + r.Float32()/100
		}
		out[c] = m
	}
	return out
}

func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func intGEMM(name string, code numeric.Code, block func(k int) int) gemm {
	return gemm{name, int8Limit, func(r *rand.Rand, m, n, k int) func([]float32, int, *kernel.Workers) {
		w := codes(r, code, n, k, 1, block(k))
		a := kernel.QuantizeInt8(normals(r, m*k), m, k, kernel.EngineDivisor, nil)
		return func(y []float32, c int, workers *kernel.Workers) { kernel.Int8(y, n, a, w[c], workers) }
	}}
}

func fp8GEMM(name string, rows, cols func(k int) int, group int) gemm {
	return gemm{name, fmaLimit, func(r *rand.Rand, m, n, k int) func([]float32, int, *kernel.Workers) {
		w := codes(r, numeric.E4M3, n, k, rows(k), cols(k))
		a := kernel.QuantizeE4M3(normals(r, m*k), m, k, group, nil)
		return func(y []float32, c int, workers *kernel.Workers) { kernel.E4M3(y, n, a, w[c], workers) }
	}}
}

// weightGEMM is a product with codes of small groups and inputs as they are, or
// as they were rounded before.
func weightGEMM(name string, code numeric.Code, group int) gemm {
	return gemm{name, fmaLimit, func(r *rand.Rand, m, n, k int) func([]float32, int, *kernel.Workers) {
		w, x := codes(r, code, n, k, 1, group), normals(r, m*k)
		return func(y []float32, c int, workers *kernel.Workers) { kernel.WeightOnly(y, n, x, m, w[c], workers) }
	}}
}

func whole(k int) int { return k }
func one(int) int     { return 1 }
func g128(int) int    { return 128 }

var gemms = []gemm{
	intGEMM("int8 × int8", numeric.Int8, whole),
	intGEMM("int4 channel × int8", numeric.Int4, whole),
	intGEMM("int4 group 128 × int8", numeric.Int4, g128),
	{"bf16 × float32", fmaLimit, func(r *rand.Rand, m, n, k int) func([]float32, int, *kernel.Workers) {
		var w [copies][]byte
		for c := range w {
			w[c] = numeric.AppendBF16(nil, normals(r, n*k))
		}
		x := normals(r, m*k)
		return func(y []float32, c int, workers *kernel.Workers) {
			kernel.Float(y, n, x, m, kernel.BF16, w[c], n, k, workers)
		}
	}},
	fp8GEMM("fp8 channel × fp8", one, whole, 0),
	fp8GEMM("fp8 block 128 × fp8", g128, g128, 128),
	weightGEMM("nvfp4 × float32", numeric.E2M1, 16),
	weightGEMM("mxfp4 × float32", numeric.E2M1, 32),
	weightGEMM("mxfp8 × float32", numeric.E4M3, 32),
}

func gemmName(g gemm, m int) string { return fmt.Sprintf("%s, %d tokens an expert", g.name, m) }

// measureGEMM takes turns between the limit and the product over both
// projections, and returns the medians of rate and ratio.
func measureGEMM(g gemm, isa string, m, threads, runs int) (f figure, err error) {
	r := rand.New(rand.NewPCG(1, uint64(m)))
	workers := &kernel.Workers{N: threads}
	var run []func([]float32, int, *kernel.Workers)
	size := 0
	for _, p := range projections {
		run = append(run, g.make(r, m, p[0], p[1]))
		size = max(size, m*p[0])
	}
	y := make([]float32, size)
	n := copies
	if isa == "purego" {
		n = 1
	}
	product := func() float64 {
		macs := 0.0
		for c := range n {
			for i, p := range projections {
				run[i](y, c, workers)
				macs += float64(m) * float64(p[0]*p[1])
			}
		}
		return macs
	}
	limit := g.limit(isa)
	f = figure{Name: gemmName(g, m), Path: isa, Threads: threads, Unit: "GMAC/s", Limit: limit}
	return f, f.pairs(runs, func() (float64, error) { return limits.Timed(product), nil },
		func() (float64, error) { return limits.Peak(limit, threads, 1<<19), nil })
}
