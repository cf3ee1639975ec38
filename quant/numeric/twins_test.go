//go:build (amd64 || arm64) && !purego

package numeric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/cpu"
)

// same checks that f returns with every set of vector kernels what it returns
// with the plain ones.
func same(t testing.TB, what string, f func() any) {
	t.Helper()
	if cpu.Current() == cpu.PureGo {
		t.Skip("SKIPPED: this build, processor or GLMCONV_CPU has no vector kernels to compare")
	}
	defer use(cpu.Current())
	use(cpu.PureGo)
	plain := f()
	for _, l := range cpu.Levels()[1:] {
		if l <= cpu.Current() {
			use(l)
			require.Equal(t, plain, f(), "%s: %s", l, what)
		}
	}
}

// awkward are weights of every kind: ordinary, ties, huge, tiny, subnormal,
// zeros of both signs.
func awkward(r *rand.Rand, n int) []float32 {
	w := make([]float32, n)
	for i := range w {
		switch r.IntN(8) {
		case 0:
			w[i] = float32(r.IntN(2000)-1000) / 16 // ties of the scales below
		case 1:
			w[i] = math.Float32frombits(r.Uint32() &^ 0x40000000) // magnitude below 2
		case 2:
			w[i] = float32(math.Copysign(0, r.Float64()-0.5))
		case 3:
			w[i] = float32(r.NormFloat64() * 1e30)
		case 4:
			w[i] = math.Float32frombits(r.Uint32() & 0x807fffff) // subnormal
		default:
			w[i] = float32(r.NormFloat64())
		}
	}
	return w
}

func checkTwins(t testing.TB, w []float32, s float32) {
	for _, code := range []Code{E4M3, Int8, Int4} {
		for _, by := range []divide{byReciprocal, exactQuotient, bf16Quotient} {
			factor := s
			if by == byReciprocal {
				factor = 1 / s
			}
			type result struct {
				codes []byte
				bits  [3]uint64
			}
			same(t, fmt.Sprintf("code %d by %d scale %g: %v", code, by, s, w), func() any {
				dst := make([]byte, len(w))
				e := encode(dst, w, code, by, factor, s)
				return result{dst, [3]uint64{math.Float64bits(e.sumSq), math.Float64bits(e.errSq), uint64(math.Float32bits(e.maxErr))}}
			})
		}
	}
	same(t, fmt.Sprintf("errors and quotients of scale %g: %v", s, w), func() any {
		x := Scratch{spec: Spec{Code: E4M3, Rule: CompressedTensors}}
		k := x.spec.against(s)
		e := x.errorBelow(w, k, math.Inf(1))
		bits := []uint64{math.Float64bits(e)}
		for _, limit := range []float64{e * 1.1, e, e / 2, 0} {
			if x.errorBelow(w, k, limit) < limit {
				bits = append(bits, 1)
			} else {
				bits = append(bits, 0)
			}
		}
		for _, code := range []Code{E4M3, Int8} {
			bits = append(bits, 0)
			if x.spec.Code = code; x.harmless(w, k) {
				bits[len(bits)-1] = 1
			}
		}
		return bits
	})
	same(t, "absmax", func() any { return absMaxBits(w) })
	same(t, "largest", func() any { return math.Float32bits(largest(w)) })
	same(t, fmt.Sprintf("correlate by %g: %v", s, w), func() any {
		var wq, qq [maxCandidates]float64
		correlate(w, []float32{1 / s, 2 / s, -3 / s, 0.7 / s, 1, -1, 100}, &wq, &qq)
		var bits [2 * maxCandidates]uint64
		for i := range wq {
			bits[i], bits[maxCandidates+i] = math.Float64bits(wq[i]), math.Float64bits(qq[i])
		}
		return bits
	})
	raw := AppendF32(nil, w)
	same(t, "BF16", func() any {
		out := make([]float32, len(raw)/2)
		DecodeBF16(out, raw)
		bits := []uint32{math.Float32bits(AbsMax(out))} // NaN are equal here
		for _, v := range out {
			bits = append(bits, math.Float32bits(v))
		}
		return bits
	})
	if n := len(raw) / 64 * 64; n > 0 && takesBF16(n/2) { // the same through BF16
		floats := make([]float32, n/2)
		DecodeBF16(floats, raw)
		if FirstNonFinite(floats) < 0 {
			for _, code := range []Code{E4M3, Int8} {
				a, b := make([]byte, n/2), make([]byte, n/2)
				x := encode(a, floats, code, byReciprocal, 1/s, s)
				require.Equal(t, x, encodeBF16(b, raw[:n], code, 1/s, s))
				require.Equal(t, a, b)
			}
		}
		require.Equal(t, absMaxBits(floats), absMaxBF16(raw[:n]))
	}
	same(t, "unpacked", func() any { return UnpackNibbles([]byte{9}, raw, len(w)%37+1) })
	same(t, "nibbles", func() any { return PackNibbles([]byte{9}, raw, max(1, len(w))) })
}

func TestTwins(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		w := awkward(r, r.IntN(600))
		s := float32(math.Exp(r.NormFloat64() * 3))
		if r.IntN(3) == 0 {
			s = 1.0 / 16
		}
		checkTwins(t, w, s)
	}
}

// All 65,536 BF16 values, through every kernel, under several scales.
func TestTwinsExhaustively(t *testing.T) {
	var w []float32
	for i := range 1 << 16 {
		if v := BF16ToF32(uint16(i)); !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) {
			w = append(w, v)
		}
	}
	for _, s := range []float32{1, 1.0 / 512, 0.0123, 3e-38, 7e30} {
		checkTwins(t, w, s)
	}
}

func FuzzTwins(f *testing.F) {
	f.Add(uint64(1), uint32(0x3f800000), 40)
	f.Fuzz(func(t *testing.T, seed uint64, scale uint32, n int) {
		s := math.Float32frombits(scale & 0x7fffffff)
		if !(s >= minNormal && s <= 0x1p126) || n < 0 || n > 2000 {
			t.Skip("scales are normal numbers, runs at most 2000 long")
		}
		checkTwins(t, awkward(rand.New(rand.NewPCG(seed, 3)), n), s)
	})
}

// Whole quantisations are the same, in every format and arithmetic.
func TestTwinsQuantize(t *testing.T) {
	const rows, cols = 151, 384 // the last block has an odd number of rows
	w := random(3, rows*cols, gaussian)
	for _, kind := range kinds {
		for _, arith := range []Arith{Best, Compat} {
			spec := kind.spec
			spec.Arith = arith
			raw := AppendBF16(nil, w)
			same(t, fmt.Sprintf("%s %d, from BF16", kind.name, arith), func() any {
				m, st, err := QuantizeBytes(spec, raw, Decoder{Size: 2, Decode: DecodeBF16, BF16: true}, rows, cols, nil)
				require.NoError(t, err)
				return []any{m.Codes, m.Scales, st}
			})
			same(t, fmt.Sprintf("%s %d", kind.name, arith), func() any {
				m, st, err := Quantize(spec, w, rows, cols, nil)
				require.NoError(t, err)
				return []any{m.Codes, m.Scales, st}
			})
		}
	}
}

// TestDequantTwins: rows of any width and groups of any size.
func TestDequantTwins(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 4))
	for range 300 {
		m := Matrix{Code: []Code{Int8, Int4, E2M1}[r.IntN(3)], Rows: 1 + r.IntN(4), Cols: 1 + r.IntN(700), BlockRows: 1}
		m.BlockCols = []int{m.Cols, 1 + r.IntN(m.Cols), min(m.Cols, 128), min(m.Cols, 16), min(m.Cols, 32)}[r.IntN(5)]
		m.Codes = make([]byte, m.Rows*m.RowBytes())
		for i := range m.Codes {
			m.Codes[i] = byte(r.Uint32())
		}
		m.Scales = awkward(r, m.Rows*m.ScaleCols())
		cuts := []int{r.IntN(m.Cols), r.IntN(m.Cols), m.Cols / m.BlockCols / 2 * m.BlockCols}
		same(t, fmt.Sprintf("%+v", m), func() any {
			out := make([]float32, m.Rows*m.Cols)
			m.Dequant(out, 0, m.Rows)
			var bits []byte
			for _, lo := range cuts { // parts of a row
				part := make([]float32, m.Cols-lo)
				m.DequantColumns(part, m.Rows-1, lo, m.Cols)
				require.Equal(t, out[(m.Rows-1)*m.Cols+lo:], part)
				bits = AppendF32(bits, part)
			}
			return AppendF32(bits, out)
		})
	}
}
