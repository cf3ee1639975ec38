package numeric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stored is a matrix of codes as a source has them: magnitudes of every size,
// zeros of both signs, scales close to each other or far apart.
func stored(r *rand.Rand, code Code, rows, cols, blockRows, blockCols int, spread float64) *Matrix {
	m := &Matrix{Code: code, Rows: rows, Cols: cols, BlockRows: blockRows, BlockCols: blockCols}
	m.Codes = make([]byte, rows*m.RowBytes())
	for i := range m.Codes {
		c := F32ToE4M3(float32(r.NormFloat64() * 120))
		if r.IntN(16) == 0 || code != E4M3 {
			c = byte(r.Uint32())
		}
		if code == E4M3 && c&0x7f == 0x7f {
			c ^= 1
		}
		m.Codes[i] = c
	}
	m.Scales = make([]float32, m.ScaleRows()*m.ScaleCols())
	for i := range m.Scales {
		m.Scales[i] = float32(math.Exp(r.NormFloat64()*spread) * 2e-4)
	}
	return m
}

func decoded(m *Matrix) []float32 {
	w := make([]float32, m.Rows*m.Cols)
	m.Dequant(w, 0, m.Rows)
	return w
}

// TestQuantizeMatrix: weights that are quantized already are rounded as their
// values are, to the last bit of every code, scale and sum.
func TestQuantizeMatrix(t *testing.T) {
	specs := map[string]Spec{
		"int8":           {Code: Int8, Rule: CompressedTensors},
		"int8 ascend":    {Code: Int8, Rule: Ascend},
		"fp8":            {Code: E4M3, Rule: CompressedTensors},
		"fp8 compat":     {Code: E4M3, Rule: CompressedTensors, Arith: Compat},
		"fp8 blocks":     {Code: E4M3, Rule: CompressedTensors, BlockRows: 128, BlockCols: 128},
		"deepseek":       {Code: E4M3, Rule: DeepSeekBlock, BlockRows: 128, BlockCols: 128},
		"int4 groups":    {Code: Int4, Rule: CompressedTensors, BlockCols: 32},
		"int8 groups":    {Code: Int8, Rule: CompressedTensors, BlockCols: 128},
		"int8 of 64":     {Code: Int8, Rule: CompressedTensors, BlockCols: 64},
		"mxfp8":          {Code: E4M3, Rule: MX, BlockCols: 32},
		"nvfp4":          {Code: E2M1, Rule: NVFP4, BlockCols: 16, Global: 2000},
		"fp8 of a tenth": {Code: E4M3, Rule: CompressedTensors, BlockCols: 384},
	}
	sources := map[string]struct {
		code                 Code
		cols, rows, blockCol int
		spread               float64
	}{
		"blocks":               {E4M3, 1152, 128, 128, 0.05},
		"blocks far apart":     {E4M3, 768, 128, 128, 3},
		"blocks alike":         {E4M3, 768, 128, 128, 0},
		"channels":             {E4M3, 768, 1, 768, 1},
		"many blocks":          {E4M3, 64 * 128 * 3, 128, 128, 0.1},
		"the last is narrower": {E4M3, 768 - 64, 128, 128, 0.1},
		"other blocks":         {E4M3, 768, 1, 64, 0.1},
		"int8":                 {Int8, 768, 1, 768, 0.1},
		"int4 groups":          {Int4, 768, 1, 32, 0.1},
	}
	r := rand.New(rand.NewPCG(31, 8))
	for name, src := range sources {
		rows := 150
		if src.cols > 2000 {
			rows = 4
		}
		m := stored(r, src.code, rows, src.cols, src.rows, src.blockCol, src.spread)
		w := decoded(m)
		for what, spec := range specs {
			t.Run(name+" to "+what, func(t *testing.T) {
				want, wantStats, err := Quantize(spec, w, m.Rows, m.Cols, nil)
				if err != nil { // groups that do not fill rows
					_, _, again := QuantizeMatrix(spec, m, nil)
					require.EqualError(t, again, err.Error())
					return
				}
				got, gotStats, err := QuantizeMatrix(spec, m, new(Scratch))
				require.NoError(t, err)
				assert.True(t, want.Equal(got))
				assert.Equal(t, wantStats, gotStats)
			})
		}
	}
}

// TestQuantizeMatrixOddScales: scales that no writer makes give what their
// values give, and what is no number is found.
func TestQuantizeMatrixOddScales(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, s := range []float32{0, -2e-4, 1e-45, 0x1p-126, 0x1p118, 0x1p119} {
		for _, code := range []Code{Int8, E4M3} {
			t.Run(fmt.Sprintf("%g to %d", s, code), func(t *testing.T) {
				m := stored(r, E4M3, 3, 512, 1, 128, 0.1)
				m.Scales[5] = s
				spec := Spec{Code: code, Rule: CompressedTensors}
				want, wantStats, err := Quantize(spec, decoded(m), 3, 512, nil)
				require.NoError(t, err)
				got, gotStats, err := QuantizeMatrix(spec, m, nil)
				require.NoError(t, err)
				assert.True(t, want.Equal(got))
				assert.Equal(t, wantStats, gotStats)
			})
		}
	}
	bad := map[string]func(m *Matrix){
		"a code that is no number":  func(m *Matrix) { m.Codes[512+77] = 0xff },
		"a scale that is no number": func(m *Matrix) { m.Scales[4], m.Codes[512+77] = float32(math.NaN()), 1 },
		"values beyond float32":     func(m *Matrix) { m.Scales[4], m.Codes[512+77] = 0x1p125, 0x7e },
	}
	for name, spoil := range bad {
		t.Run(name, func(t *testing.T) {
			m := stored(r, E4M3, 3, 512, 1, 128, 0.1)
			spoil(m)
			_, _, want := Quantize(Spec{Code: Int8, Rule: CompressedTensors}, decoded(m), 3, 512, nil)
			_, _, got := QuantizeMatrix(Spec{Code: Int8, Rule: CompressedTensors}, m, nil)
			var nf *NonFiniteError
			require.ErrorAs(t, got, &nf)
			require.EqualError(t, got, want.Error())
		})
	}
}

// TestQuantizeBytesOfF32: values are taken where they are, or decoded where they
// do not lie as values do.
func TestQuantizeBytesOfF32(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	w := decoded(stored(r, E4M3, 5, 256, 1, 256, 1))
	d := Decoder{Size: 4, Decode: DecodeF32, F32: true}
	for _, arith := range []Arith{Best, Compat} {
		spec := Spec{Code: Int8, Rule: CompressedTensors, Arith: arith}
		want, wantStats, err := Quantize(spec, w, 5, 256, nil)
		require.NoError(t, err)
		for shift := range 4 {
			raw := AppendF32(make([]byte, shift, shift+4*len(w)), w)[shift:]
			before := string(raw)
			got, gotStats, err := QuantizeBytes(spec, raw, d, 5, 256, nil)
			require.NoError(t, err)
			assert.True(t, want.Equal(got))
			assert.Equal(t, wantStats, gotStats)
			assert.Equal(t, before, string(raw))
		}
	}
}

// BenchmarkQuantizeMatrix: a tile of block FP8 to what it is converted to.
func BenchmarkQuantizeMatrix(b *testing.B) {
	const rows, cols = 128, 4096
	w := random(1, rows*cols, gaussian)
	for i, v := range w {
		w[i] = RoundBF16(v)
	}
	m, _, err := Quantize(Spec{Code: E4M3, Rule: DeepSeekBlock, BlockRows: 128, BlockCols: 128}, w, rows, cols, nil)
	require.NoError(b, err)
	for name, spec := range map[string]Spec{
		"fp8":  {Code: E4M3, Rule: CompressedTensors},
		"int8": {Code: Int8, Rule: CompressedTensors},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(rows * cols)
			var scratch Scratch
			for b.Loop() {
				if _, _, err := QuantizeMatrix(spec, m, &scratch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
