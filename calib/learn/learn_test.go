package learn

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// data are correlated inputs and a weight.
func data(rows, n, out int, seed uint64) (x, w []float32) {
	r := rand.New(rand.NewPCG(seed, 2))
	x, w = make([]float32, rows*n), make([]float32, out*n)
	for i := range rows {
		common := r.NormFloat64()
		for j := range n {
			x[i*n+j] = float32((r.NormFloat64() + 2*common) * (1 + float64(j%7)))
		}
	}
	for i := range w {
		w[i] = float32(r.NormFloat64()) * 0.02
	}
	return x, w
}

var specs = map[string]numeric.Spec{
	"int4 group":       {Code: numeric.Int4, Rule: numeric.CompressedTensors, BlockRows: 1, BlockCols: 32},
	"int4 signed":      {Code: numeric.Int4, Rule: numeric.CompressedTensors, BlockRows: 1, BlockCols: 32, Signed: true},
	"int4 channel":     {Code: numeric.Int4, Rule: numeric.Ascend, BlockRows: 1},
	"int8 channel":     {Code: numeric.Int8, Rule: numeric.CompressedTensors, BlockRows: 1},
	"fp8 channel":      {Code: numeric.E4M3, Rule: numeric.CompressedTensors, BlockRows: 1},
	"fp8 block":        {Code: numeric.E4M3, Rule: numeric.DeepSeekBlock, BlockRows: 128, BlockCols: 128},
	"int4, FP8 scales": {Code: numeric.Int4, Rule: numeric.CompressedTensors, BlockRows: 1, BlockCols: 32, FP8Scales: true},
	"NVFP4":            {Code: numeric.E2M1, Rule: numeric.NVFP4, BlockRows: 1, BlockCols: 16, Global: numeric.GlobalNVFP4(0.1, numeric.Best, false)},
	"NVFP4, times":     {Code: numeric.E2M1, Rule: numeric.NVFP4, BlockRows: 1, BlockCols: 16, Global: numeric.TimesNVFP4(0.1), Times: true},
	"MXFP4":            {Code: numeric.E2M1, Rule: numeric.MX, BlockRows: 1, BlockCols: 32},
	"MXFP8":            {Code: numeric.E4M3, Rule: numeric.MX, BlockRows: 1, BlockCols: 32},
}

func basis(t *testing.T, x []float32, n int, o Options, w *kernel.Workers) *Basis {
	g := NewGram(n, false)
	g.Add(x, nil, len(x)/n, w)
	g.Finish(w)
	b, err := NewBasis(g, o, 0, w)
	require.NoError(t, err)
	return b
}

// TestSolveBeatsRounding: in the metric of the inputs the codes are better than
// rounding, and the matrix holds what the loss was measured on.
func TestSolveBeatsRounding(t *testing.T) {
	const n, rows = 160, 140
	x, w := data(900, n, rows, 1)
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			m, loss, err := basis(t, x, n, Options{}, nil).Solve(spec, w, rows, nil)
			require.NoError(t, err)
			assert.Less(t, loss.Found, 0.7*loss.Plain)
			assert.Less(t, loss.Plain, 0.05*loss.Size)
			for i, c := range m.ScaleCodes {
				require.Equal(t, spec.LocalScale(c), m.Scales[i])
			}
			var direct float64
			deq := make([]float32, n)
			for r := 0; r < rows; r += judged {
				if m.Dequant(deq, r, r+1); spec.FP8Scales {
					copy(deq, dequantEngine(m, r))
				}
				for i := range len(x) / n {
					var e float64
					for k := range n {
						e += float64(x[i*n+k]) * float64(w[r*n+k]-deq[k])
					}
					direct += e * e
				}
			}
			direct /= float64(len(x) / n)
			assert.InEpsilon(t, direct, loss.Found, 0.2, "the loss has damping besides")
		})
	}
}

// dequantEngine is a row as vLLM computes with it.
func dequantEngine(m *numeric.Matrix, r int) []float32 {
	x := *m.Slice(r, r+1)
	x.Scales = numeric.VLLMGroupScales(x.Scales)
	out := make([]float32, x.Cols)
	x.Dequant(out, 0, 1)
	return out
}

// TestSolveIsDeterministic: neither workers nor the cut of the inputs change a bit.
func TestSolveIsDeterministic(t *testing.T) {
	const n, rows = 320, 500 // more than a block of columns and than rows that are solved together
	x, w := data(700, n, rows, 3)
	one := &kernel.Workers{N: 1}
	four := &kernel.Workers{N: 4}
	want, _, err := basis(t, x, n, Options{}, one).Solve(specs["int4 group"], w, rows, one)
	require.NoError(t, err)
	g := NewGram(n, false)
	for lo := 0; lo < 700; lo += 113 {
		hi := min(lo+113, 700)
		g.Add(x[lo*n:hi*n], nil, hi-lo, four)
	}
	g.Finish(four)
	b, err := NewBasis(g, Options{}, 0, four)
	require.NoError(t, err)
	got, _, err := b.Solve(specs["int4 group"], w, rows, four)
	require.NoError(t, err)
	assert.Equal(t, want.Codes, got.Codes)
	assert.Equal(t, want.Scales, got.Scales)
}

// TestTargetUndoesAScale: where the served inputs are the float ones times a
// factor, the target is the weight divided by it.
func TestTargetUndoesAScale(t *testing.T) {
	const n, rows = 300, 8
	x, w := data(4000, n, rows, 5)
	served := make([]float32, len(x))
	for i, v := range x {
		served[i] = v * 1.25
	}
	for _, weights := range []int{rows, 2 * n} { // few rows and many go different ways
		g := NewGram(n, true)
		g.Add(served, x, len(x)/n, nil)
		g.Finish(nil)
		b, err := NewBasis(g, Options{Damp: 1e-9}, weights, nil)
		require.NoError(t, err)
		require.Equal(t, weights > n, b.solved)
		for i, v := range b.correct(w, rows) {
			assert.InDelta(t, w[i]/1.25, v, 1e-4)
		}
	}
}

// TestRestIsTheErrorsProduct: what coordinate descent begins with, which comes from
// the errors that rounding spread, is (W* − Ŵ)H.
func TestRestIsTheErrorsProduct(t *testing.T) {
	const n, rows = 300, 16
	x, w := data(2000, n, rows, 13)
	b := basis(t, x, n, Options{}, nil)
	spec := numeric.Spec{Code: numeric.Int4, Rule: numeric.CompressedTensors, BlockRows: 1, BlockCols: 20, Signed: true}
	j := &job{b: b, spec: &spec, rows: rows, target: b.correct(w, rows), codes: make([]float32, len(w)), group: 20, lo: -8, hi: 7}
	require.NoError(t, j.chooseScales())
	got := j.rounded()
	var far, size float64
	for r := range rows {
		for k := range n {
			var want float64
			for c := range n {
				want += float64(j.target[r*n+c]-j.value(r, c)) * float64(b.h.mem[c*n+k])
			}
			far += (want - float64(got[r*n+k])) * (want - float64(got[r*n+k]))
			size += want * want
		}
	}
	assert.Less(t, far, 1e-6*size)
}

func TestBasisOfLittle(t *testing.T) {
	const n, rows = 64, 4
	x, w := data(3, n, rows, 7)
	for i := range 3 {
		x[i*n] = 0 // a column without inputs
	}
	m, _, err := basis(t, x, n, Options{}, nil).Solve(specs["int8 channel"], w, rows, nil)
	require.NoError(t, err)
	require.Equal(t, rows, m.Rows)
	m, _, err = basis(t, make([]float32, n), n, Options{}, nil).Solve(specs["int8 channel"], w, rows, nil)
	require.NoError(t, err)
	deq := make([]float32, n)
	m.Dequant(deq, 0, 1)
	assert.InDeltaSlice(t, w[:n], deq, 0.001)

	g := NewGram(n, false)
	g.H[0] = -1
	_, err = NewBasis(g, Options{}, 0, nil)
	assert.ErrorIs(t, err, ErrSingular)
}

// TestWeightedBeatsRounding: scales weighted by the columns leave a smaller
// weighted error than those of package numeric, and codes that are the nearest.
func TestWeightedBeatsRounding(t *testing.T) {
	const n, rows = 160, 64
	_, w := data(1, n, rows, 11)
	h := make([]float32, n)
	r := rand.New(rand.NewPCG(6, 6))
	for i := range h {
		h[i] = float32(r.ExpFloat64() * r.ExpFloat64())
	}
	for name, spec := range specs {
		if !free(&spec) && !micro(&spec) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m, err := Weighted(spec, w, rows, n, h)
			require.NoError(t, err)
			plain, _, err := numeric.Quantize(spec, w, rows, n, nil)
			require.NoError(t, err)
			of := func(m *numeric.Matrix) (sum float64) {
				deq := make([]float32, rows*n)
				m.Dequant(deq, 0, rows)
				for i, v := range deq {
					d := float64(v - w[i])
					sum += float64(h[i%n]) * d * d
				}
				return sum
			}
			assert.LessOrEqual(t, of(m), of(plain))
			if spec.Code.Bits() == 4 {
				assert.Less(t, of(m), 0.99*of(plain))
			}
			for i, c := range m.ScaleCodes {
				require.Equal(t, spec.LocalScale(c), m.Scales[i])
				require.True(t, spec.LegalLocal(int(c)))
			}
		})
	}
}

// TestInvertingFitsIntoMoments: however many CPUs there are, what workers hold while a
// matrix is inverted fits into what moments took before: the bytes of GramBytes but for
// H, the factor, its inverse and C − H.
func TestInvertingFitsIntoMoments(t *testing.T) {
	for _, n := range []int{1, 96, 1408, 5120, 12288, 16384} {
		for _, cpus := range []int{1, 4, 96, 384} {
			w := inverting(&kernel.Workers{N: cpus}, n)
			cells := int64(n) * int64(n)
			held := int64(w.N)*8*factorLine*int64(n) + cells*(4+4+8+4)
			assert.LessOrEqual(t, held, GramBytes(n, true), "%d columns, %d CPUs", n, cpus)
			assert.LessOrEqual(t, held-4*cells, GramBytes(n, false), "%d columns, %d CPUs, no C", n, cpus)
			assert.Positive(t, w.N)
		}
	}
	assert.Nil(t, inverting(nil, 96))
}
