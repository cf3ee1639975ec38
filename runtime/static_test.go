package runtime

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// staticCase is a weight with a static input, and inputs.
func staticCase(n, k, tokens int, scale float32, offset int) (*Weight, []float32) {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	m := &numeric.Matrix{Code: numeric.Int8, Rows: n, Cols: k, BlockRows: 1, BlockCols: k, Codes: make([]byte, n*k), Scales: make([]float32, n)}
	rows := &layout.StaticRows{Scale: scale, Offset: offset, Deq: make([]float32, n), Bias: make([]int32, n)}
	for i := range m.Codes {
		m.Codes[i] = byte(int8(rng.IntN(255) - 127))
	}
	for r := range n {
		m.Scales[r] = numeric.RoundBF16(0.001 * float32(1+rng.IntN(9)))
		rows.Deq[r] = m.Scales[r] * scale
		sum := int32(0)
		for _, c := range m.Codes[r*k:][:k] {
			sum += int32(int8(c))
		}
		rows.Bias[r] = -int32(offset) * sum
	}
	x := make([]float32, tokens*k)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return &Weight{Rows: n, Cols: k, Quant: m, Act: layout.AscendStatic, static: &static{StaticRows: rows, fused: true}}, x
}

// TestStaticProduct: the products of both paths are those of their definition
// with exact sums, also where sums exceed what F32 holds exactly, in slices and
// for picked rows.
func TestStaticProduct(t *testing.T) {
	const scale = 0.037 // its reciprocal is no BF16 number
	for _, size := range []struct{ n, k, tokens int }{{5, 7, 3}, {67, 129, 2}, {128, 4096, 9}} {
		w, x := staticCase(size.n, size.k, size.tokens, scale, -17)
		for _, path := range []NPUPath{Plain, MLAPO} {
			stored := numeric.RoundBF16(scale)
			times := 1 / stored
			if path == Plain {
				times = numeric.RoundBF16(times)
			}
			want := make([]float32, size.tokens*size.n)
			for i := range size.tokens {
				for r := range size.n {
					sum := int64(w.static.Bias[r])
					for j, c := range w.Quant.Codes[r*size.k:][:size.k] {
						q := math.RoundToEven(float64(float32(x[i*size.k+j]*times) - 17))
						sum += int64(min(max(q, -128), 127)) * int64(int8(c))
					}
					want[i*size.n+r] = float32(sum) * w.static.Deq[r]
				}
			}
			workers := &kernel.Workers{N: 2}
			in := &input{x: x, rows: size.tokens, cols: size.k, divisor: 127, path: path, workers: workers}
			y := make([]float32, len(want))
			w.product(y, size.n, in, workers)
			assert.Equal(t, want, y, "%v %v", size, path)

			half := size.n / 2
			part := w.slice(half, size.n)
			picked := make([]float32, size.n-half)
			part.product(picked, size.n-half, in.gather([]int32{1}), workers)
			assert.Equal(t, want[size.n+half:2*size.n], picked)
		}
	}
}

// TestStaticPaths: W8A8_MIX is static for a consumer only, and MLAPO is another
// path where the reciprocal is no BF16 number.
func TestStaticPaths(t *testing.T) {
	w, _ := staticCase(4, 4, 1, 0.037, 0)
	assert.NotEqual(t, w.static.times(Plain), w.static.times(MLAPO))
	w.static.fused = false
	assert.Equal(t, w.static.times(Plain), w.static.times(MLAPO), "not a product of MLAPO")
	w.static.mix = true
	assert.Nil(t, w.on(Plain))
	assert.NotNil(t, w.on(Consumer))
	power, _ := staticCase(4, 4, 1, 1.0/32, 0)
	assert.Equal(t, power.static.times(Plain), power.static.times(MLAPO))
}

// TestInt8Caches: keys and values by their stored scales, tokens by their own.
func TestInt8Caches(t *testing.T) {
	x := []float32{1, -0.5, 0.3, 0}
	want := make([]float32, 4)
	s := float32(1) / 127
	kept := numeric.F16ToF32(numeric.F32ToF16(s))
	for i, f := range x {
		want[i] = float32(math.RoundToEven(float64(f/s))) * kept
	}
	roundInt8(x)
	assert.Equal(t, want, x)
	zero := []float32{0, 0}
	roundInt8(zero)
	assert.Equal(t, []float32{0, 0}, zero)

	var none *int8Cache
	require.NoError(t, none.keysValues(nil, x, x))
	assert.Equal(t, want, x)
}

// TestTilesOfLatents: 128 values share a scale, so that one outlier costs its own
// tile alone.
func TestTilesOfLatents(t *testing.T) {
	x := make([]float32, 300)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	x[0] = 1000
	want := append([]float32(nil), x...)
	for lo := 0; lo < len(x); lo += latentTile {
		roundTile(x[lo:min(lo+latentTile, len(x))])
	}
	assert.Equal(t, float32(1000), x[0])
	assert.Equal(t, float32(0), x[6], "3 is less than half a step of 1000/127")
	assert.InDeltaSlice(t, want[latentTile:], x[latentTile:], 3.0/254)
	zero := make([]float32, 4)
	roundTile(zero)
	assert.Equal(t, make([]float32, 4), zero)
}
