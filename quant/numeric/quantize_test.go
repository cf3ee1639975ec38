package numeric

import (
	"errors"
	"fmt"
	"math"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var kinds = []struct {
	name string
	spec Spec
}{
	{"fp8-channel", Spec{Code: E4M3, Rule: CompressedTensors, BlockRows: 1}},
	{"fp8-block-ct", Spec{Code: E4M3, Rule: CompressedTensors, BlockRows: 128, BlockCols: 128}},
	{"fp8-block", Spec{Code: E4M3, Rule: DeepSeekBlock, BlockRows: 128, BlockCols: 128}},
	{"int8-ct", Spec{Code: Int8, Rule: CompressedTensors, BlockRows: 1}},
	{"int8-ascend", Spec{Code: Int8, Rule: Ascend, BlockRows: 1}},
	{"int4-g32", Spec{Code: Int4, Rule: CompressedTensors, BlockRows: 1, BlockCols: 32}},
	{"int4-g128", Spec{Code: Int4, Rule: CompressedTensors, BlockRows: 1, BlockCols: 128}},
	{"int4-g128-signed", Spec{Code: Int4, Rule: CompressedTensors, BlockRows: 1, BlockCols: 128, Signed: true}},
	{"int4-g128-fp8", Spec{Code: Int4, Rule: CompressedTensors, BlockRows: 1, BlockCols: 128, FP8Scales: true}},
	{"int4-channel-signed", Spec{Code: Int4, Rule: CompressedTensors, BlockRows: 1, Signed: true}},
	{"int4-ascend", Spec{Code: Int4, Rule: Ascend, BlockRows: 1}},
}

func gaussian(rng *rand.Rand) float64 { return rng.NormFloat64() }

func student(df int) func(*rand.Rand) float64 {
	return func(rng *rand.Rand) float64 {
		var chi float64
		for range df {
			z := rng.NormFloat64()
			chi += z * z
		}
		return rng.NormFloat64() / math.Sqrt(chi/float64(df))
	}
}

func random(seed int64, n int, draw func(*rand.Rand) float64) []float32 {
	rng := rand.New(rand.NewSource(seed))
	w := make([]float32, n)
	for i := range w {
		w[i] = RoundBF16(float32(0.02 * draw(rng)))
	}
	return w
}

func rms(st Stats) float64 { return math.Sqrt(st.SumErrSq / st.SumSq) }

// Stats recomputed from the codes; every element within half a step, or at the
// end of the code range; scales of the dtype that is stored.
func TestQuantizeAgainstDequant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]
		spec := kind.spec
		spec.Arith = Arith(rapid.IntRange(0, 1).Draw(t, "arith"))
		rows := rapid.IntRange(1, 140).Draw(t, "rows")
		cols := rapid.SampledFrom([]int{1, 3, 48, 130, 300}).Draw(t, "cols")
		if spec.BlockCols > 0 && spec.BlockRows == 1 {
			cols = spec.BlockCols * rapid.IntRange(1, 3).Draw(t, "groups")
		}
		draw := []func(*rand.Rand) float64{gaussian, student(3)}[rapid.IntRange(0, 1).Draw(t, "shape")]
		w := random(rapid.Int64().Draw(t, "seed"), rows*cols, draw)
		for range rapid.IntRange(0, 3).Draw(t, "zero rows") {
			r := rapid.IntRange(0, rows-1).Draw(t, "row")
			clear(w[r*cols : (r+1)*cols])
		}
		m, st, err := Quantize(spec, w, rows, cols, nil)
		require.NoError(t, err)
		deq := make([]float32, rows*cols)
		m.Dequant(deq, 0, rows)
		var sq, errSq, worst float64
		for i, v := range w {
			r, c := i/cols, i%cols
			s := float64(m.Scale(r, c))
			if float32(float64(m.Value(r, c))*s) != deq[i] {
				t.Fatalf("value at %d, %d is %g", r, c, deq[i])
			}
			d := float64(deq[i]) - float64(v)
			sq, errSq, worst = sq+float64(v)*float64(v), errSq+d*d, max(worst, math.Abs(d))
			if s == 0 || math.IsInf(s, 0) || s < 0 && !spec.Signed || spec.storesBF16() && !IsBF16(float32(s)) {
				t.Fatalf("scale %g at %d, %d", s, r, c)
			}
			// compat rounds the quotient to 8 bits first: up to 2^-8 of it more
			slack := 1e-6
			if spec.Arith == Compat {
				slack = 1.0 / 256
			}
			q, got := float64(v)/s, float64(m.Value(r, c))
			lo, hi, step := -448.0, 448.0, math.Abs(q)/16+1.0/1024
			if spec.Code != E4M3 {
				hi, step = float64(int(1)<<(spec.Code.Bits()-1)-1), 0.5
				lo = -hi - 1
			}
			if math.Abs(min(max(q, lo), hi)-got) > step+slack*math.Abs(q) {
				t.Fatalf("quotient %g at %d, %d became %g", q, r, c, got)
			}
		}
		require.InEpsilon(t, 1+sq, 1+st.SumSq, 1e-5)
		require.InDelta(t, sq, st.SumSq, 1e-5*sq)
		require.InDelta(t, errSq, st.SumErrSq, 1e-5*errSq)
		require.InDelta(t, worst, st.MaxErr, 1e-6*worst)
		require.EqualValues(t, rows*cols, st.Elements)
		if spec.Arith == Best && !spec.FP8Scales {
			require.LessOrEqual(t, st.SumErrSq, st.PlainSq)
		}
	})
}

func TestTilingInvariance(t *testing.T) {
	for _, kind := range kinds {
		for _, arith := range []Arith{Best, Compat} {
			t.Run(fmt.Sprint(kind.name, arith), func(t *testing.T) {
				spec := kind.spec
				spec.Arith, spec.SSZSteps = arith, 50
				const rows, cols = 300, 384
				w := random(5, rows*cols, student(5))
				whole, sum, err := Quantize(spec, w, rows, cols, nil)
				require.NoError(t, err)
				for _, tile := range []int{128, 256} {
					var scratch Scratch
					var codes []byte
					var scales []float32
					var st Stats
					for r := 0; r < rows; r += tile {
						n := min(tile, rows-r)
						m, s, err := Quantize(spec, w[r*cols:(r+n)*cols], n, cols, &scratch)
						require.NoError(t, err)
						codes, scales = append(codes, m.Codes...), append(scales, m.Scales...)
						st.Add(s)
					}
					assert.Equal(t, whole.Codes, codes)
					assert.Equal(t, whole.Scales, scales)
					assert.InEpsilon(t, sum.SumErrSq, st.SumErrSq, 1e-12)
					assert.InEpsilon(t, sum.SumSq, st.SumSq, 1e-12)
					assert.Equal(t, sum.MaxErr, st.MaxErr)
					assert.Equal(t, sum.SSZ, st.SSZ)
				}
			})
		}
	}
}

// Scratch reuse allocates nothing after the first tile and leaves no trace.
func TestScratchReuse(t *testing.T) {
	var scratch Scratch
	for _, kind := range kinds {
		w := random(8, 128*256, gaussian)
		fresh, _, err := Quantize(kind.spec, w, 128, 256, nil)
		require.NoError(t, err)
		again, _, err := Quantize(kind.spec, w, 128, 256, &scratch)
		require.NoError(t, err)
		assert.Equal(t, fresh.Codes, again.Codes, kind.name)
		assert.Equal(t, fresh.Scales, again.Scales, kind.name)
		assert.Zero(t, testing.AllocsPerRun(2, func() {
			if _, _, err := Quantize(kind.spec, w, 128, 256, &scratch); err != nil {
				panic(err)
			}
		}), kind.name)
	}
}

// The error of the int4 searches, against docs/facts/layouts.md 1.5.
func TestInt4SearchError(t *testing.T) {
	const rows, cols = 192, 2048
	for _, c := range []struct {
		name   string
		draw   func(*rand.Rand) float64
		group  int
		signed bool
		most   float64
	}{
		{"gaussian g128", gaussian, 128, false, .1016},
		{"gaussian g128 signed", gaussian, 128, true, .0972},
		{"gaussian g32", gaussian, 32, false, .0868},
		{"gaussian g32 signed", gaussian, 32, true, .0818},
		{"t5 g128", student(5), 128, false, .150},
		{"t5 g128 signed", student(5), 128, true, .1425},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := Spec{Code: Int4, Rule: CompressedTensors, BlockRows: 1, BlockCols: c.group, Signed: c.signed}
			_, st, err := Quantize(spec, random(2, rows*cols, c.draw), rows, cols, nil)
			require.NoError(t, err)
			assert.Less(t, rms(st), c.most)
			t.Logf("relative RMS %.4f (absmax %.4f)", rms(st), math.Sqrt(st.PlainSq/st.SumSq))
		})
	}
}

// At the true widths of GLM experts the search must beat msmodelslim's own
// search; rows that short test matrices have do not show the difference.
func TestChannelSearchBeatsSSZ(t *testing.T) {
	shapes := map[string]func(*rand.Rand) float64{"gaussian": gaussian, "t5": student(5), "t3": student(3),
		"outliers": func(rng *rand.Rand) float64 {
			v := rng.NormFloat64()
			if rng.Intn(1000) == 0 {
				v *= 20
			}
			return v
		}}
	for name, draw := range shapes {
		for _, cols := range []int{1408, 4096, 6144, 10944} {
			const rows = 6
			w := random(int64(cols), rows*cols, draw)
			spec := Spec{Code: Int4, Rule: Ascend, BlockRows: 1}
			_, best, err := Quantize(spec, w, rows, cols, nil)
			require.NoError(t, err)
			spec.Arith = Compat
			_, ssz, err := Quantize(spec, w, rows, cols, nil)
			require.NoError(t, err)
			assert.Less(t, best.SumErrSq, ssz.SumErrSq, "%s %d", name, cols)
			t.Logf("%-8s K=%-5d relative RMS best %.5f, SSZ %.5f, squared ratio %.4f", name, cols, rms(best), rms(ssz), best.SumErrSq/ssz.SumErrSq)
		}
	}
}

// DeepGEMM's codes under every BF16 mantissa of the largest weight: all BF16
// weights of ten octaves, and F32 weights next to the ties, where the last bit of
// 448/a decides (for BF16 weights it never does).
func TestDeepSeekReciprocal(t *testing.T) {
	spec := Spec{Code: E4M3, Rule: DeepSeekBlock, Arith: Compat, BlockRows: 128}
	for top := uint16(0x3f80); top < 0x4000; top++ {
		var w []float32
		for u := top - 10<<7; u <= top; u++ {
			w = append(w, BF16ToF32(u), -BF16ToF32(u))
		}
		a := BF16ToF32(top)
		for c := byte(0); c < 0x7d; c++ {
			tie := float32((decodeE4M3(c) + decodeE4M3(c+1)) / 2 * float64(a) / 448)
			w = append(w, tie, math.Nextafter32(tie, 0), math.Nextafter32(tie, a))
		}
		m, _, err := Quantize(spec, w, 1, len(w), nil)
		require.NoError(t, err)
		require.Equal(t, a/448, m.Scales[0])
		for i, v := range w {
			if want := F32ToE4M3(v * (448 / a)); m.Codes[i] != want {
				t.Fatalf("%g under %g: code %#x, want %#x", v, a, m.Codes[i], want)
			}
		}
	}
}

// What each rule stores for a row of zeros.
func TestZeroScale(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want float32
	}{
		{Spec{Code: E4M3, Rule: CompressedTensors}, 0x1p-7},
		{Spec{Code: Int8, Rule: CompressedTensors}, 0x1p-7},
		{Spec{Code: Int4, Rule: CompressedTensors, BlockCols: 32}, 0x1p-7},
		{Spec{Code: Int4, Rule: CompressedTensors, BlockCols: 32, Signed: true}, 0x1p-7},
		{Spec{Code: Int8, Rule: CompressedTensors, Arith: Compat, SourceF32: true}, 0x1p-23},
		{Spec{Code: Int8, Rule: Ascend}, 0x1p-23},
		{Spec{Code: Int4, Rule: Ascend}, 0x1p-23},
		{Spec{Code: E4M3, Rule: DeepSeekBlock, BlockRows: 128, BlockCols: 128}, float32(1e-4) / 448},
	} {
		for _, arith := range []Arith{Best, Compat} {
			spec := c.spec
			if !spec.SourceF32 {
				spec.Arith = arith
			}
			m, st, err := Quantize(spec, make([]float32, 64), 1, 64, nil)
			require.NoError(t, err)
			for _, s := range m.Scales {
				assert.Equal(t, c.want, s, "%+v", spec)
			}
			assert.Zero(t, st.SumErrSq)
			assert.Equal(t, make([]byte, len(m.Codes)), m.Codes)
		}
	}
}

// Small groups of few distinct values, where a search can easily go wrong, are
// never worse than absmax rounding.
func TestSearchNeverWorse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group := 2 * rapid.IntRange(1, 6).Draw(t, "half group")
		w := make([]float32, group*8)
		for i := range w {
			w[i] = float32(rapid.IntRange(-15, 15).Draw(t, "w")) / 8
		}
		for _, spec := range []Spec{
			{Code: Int4, Rule: CompressedTensors, BlockCols: group},
			{Code: Int4, Rule: CompressedTensors, BlockCols: group, Signed: true},
			{Code: Int4, Rule: Ascend},
		} {
			_, st, err := Quantize(spec, w, 1, len(w), nil)
			require.NoError(t, err)
			require.LessOrEqual(t, st.SumErrSq, st.PlainSq)
			spec.Arith = Compat
			if spec.Rule == CompressedTensors {
				_, compat, err := Quantize(spec, w, 1, len(w), nil)
				require.NoError(t, err)
				require.LessOrEqual(t, st.SumErrSq, compat.SumErrSq*(1+1e-6))
			}
		}
	})
}

// The engine's conversion changes the chosen group scales by no more than their
// own BF16 rounding, and costs less than converting freely chosen ones.
func TestFP8ScalesSurvive(t *testing.T) {
	const rows, cols, group = 64, 2048, 128
	for _, size := range []float32{1, 0.25, 1e-4} { // 0.25 and below: under the floor of the row scale
		for name, draw := range map[string]func(*rand.Rand) float64{"gaussian": gaussian, "t5": student(5)} {
			w := random(4, rows*cols, draw)
			for i := range w {
				w[i] = RoundBF16(w[i] * size)
			}
			clear(w[3*cols : 4*cols])               // a zero row
			clear(w[5*cols+group : 5*cols+2*group]) // a zero group
			spec := Spec{Code: Int4, Rule: CompressedTensors, BlockRows: 1, BlockCols: group}
			engine := func(m *Matrix) (errSq float64) {
				e := *m
				e.Scales = nil
				for r := range rows {
					e.Scales = append(e.Scales, VLLMGroupScales(m.Scales[r*cols/group:(r+1)*cols/group])...)
				}
				deq := make([]float32, rows*cols)
				e.Dequant(deq, 0, rows)
				for i, v := range w {
					errSq += float64(deq[i]-v) * float64(deq[i]-v)
				}
				return errSq
			}
			free, _, err := Quantize(spec, w, rows, cols, nil)
			require.NoError(t, err)
			freeErr := engine(free)
			spec.FP8Scales = true
			m, st, err := Quantize(spec, w, rows, cols, nil)
			require.NoError(t, err)
			got := engine(m)
			if size >= 0.25 {
				assert.InEpsilon(t, st.SumErrSq, got, 2e-3, "the file says what the engine computes")
				for r := range rows {
					row := m.Scales[r*cols/group : (r+1)*cols/group]
					for g, s := range VLLMGroupScales(row) {
						assert.InEpsilon(t, row[g], s, 1.0/256)
						assert.Positive(t, row[g])
					}
				}
			}
			assert.Less(t, got, freeErr)
			t.Logf("%-8s ×%g: engine error %.4f with chosen scales, %.4f without", name, size, math.Sqrt(got/st.SumSq), math.Sqrt(freeErr/st.SumSq))
		}
	}
}

// The conversion itself, by hand: max 0.875 gives c = 2^-9; 0.5/c = 256 passes,
// 0.3/c = 153.6 rounds to 160 (steps of 16), /8 = 20; 0.0001/c = 0.0512 is
// 0.05078 in E4M3 and 0.00635 after the division, nearest step 2^-9·3.
func TestVLLMGroupScales(t *testing.T) {
	got := VLLMGroupScales([]float32{0.875, 0.5, 0.3, 0.0001, -0.3})
	const c = 1.0 / 512
	assert.Equal(t, []float32{0.875, 0.5, 160 * c, 3 * 8 * c / 512, -160 * c}, got)
	// below the floor c is 1/(448·512) whatever the maximum
	low := VLLMGroupScales([]float32{1e-3})
	assert.InEpsilon(t, 224*minRowScale, low[0], 1e-6)
	assert.Equal(t, []float32{0, 0}, VLLMGroupScales([]float32{0, 0}))
}

func TestZeroAndExtremeWeights(t *testing.T) {
	for _, kind := range kinds {
		for _, arith := range []Arith{Best, Compat} {
			for _, v := range []float32{0, math.SmallestNonzeroFloat32, 0x1p-133, 1e-30, 1e30, math.MaxFloat32 / 2} {
				spec := kind.spec
				spec.Arith = arith
				w := make([]float32, 128)
				w[3], w[64] = v, -v/3
				m, st, err := Quantize(spec, w, 1, 128, nil)
				require.NoError(t, err)
				deq := make([]float32, 128)
				m.Dequant(deq, 0, 1)
				for i, s := range m.Scales {
					assert.True(t, s != 0 && s-s == 0, "%s %d: scale %d of %g is %g", kind.name, arith, i, v, s)
				}
				assert.Equal(t, -1, FirstNonFinite(deq), "%s %d %g", kind.name, arith, v)
				assert.False(t, math.IsNaN(st.MaxErr), "%s %d %g", kind.name, arith, v)
				assert.Zero(t, deq[0])
				if v > 1e-20 {
					assert.InEpsilon(t, v, deq[3], 0.13, "%s %d", kind.name, arith)
				}
			}
		}
	}
}

func TestQuantizeRefuses(t *testing.T) {
	w := make([]float32, 256)
	for name, c := range map[string]struct {
		spec       Spec
		rows, cols int
		want       error
	}{
		"no code":          {Spec{Rule: CompressedTensors}, 1, 256, ErrSpec},
		"no rule":          {Spec{Code: Int8}, 1, 256, ErrSpec},
		"fp8 on ascend":    {Spec{Code: E4M3, Rule: Ascend}, 1, 256, ErrSpec},
		"int8 blocks":      {Spec{Code: Int8, Rule: CompressedTensors, BlockRows: 128, BlockCols: 128}, 1, 256, ErrSpec},
		"ascend groups":    {Spec{Code: Int4, Rule: Ascend, BlockCols: 128}, 1, 256, ErrSpec},
		"int4 deepseek":    {Spec{Code: Int4, Rule: DeepSeekBlock}, 1, 256, ErrSpec},
		"fp8 scales int8":  {Spec{Code: Int8, Rule: CompressedTensors, FP8Scales: true}, 1, 256, ErrSpec},
		"odd group":        {Spec{Code: Int4, Rule: CompressedTensors, BlockCols: 3}, 1, 255, ErrSpec},
		"unknown arith":    {Spec{Code: Int8, Rule: CompressedTensors, Arith: 2}, 1, 256, ErrSpec},
		"ragged group":     {Spec{Code: Int4, Rule: CompressedTensors, BlockCols: 128}, 1, 200, ErrShape},
		"too few values":   {Spec{Code: Int8, Rule: CompressedTensors}, 2, 256, ErrShape},
		"no columns":       {Spec{Code: Int8, Rule: CompressedTensors}, 1, 0, ErrShape},
		"negative rows":    {Spec{Code: Int8, Rule: CompressedTensors}, -1, 256, ErrShape},
		"overflowing size": {Spec{Code: Int8, Rule: CompressedTensors}, math.MaxInt, 256, ErrShape},
	} {
		_, _, err := Quantize(c.spec, w, c.rows, c.cols, nil)
		assert.ErrorIs(t, err, c.want, name)
	}
	for _, kind := range kinds {
		for _, bad := range []float64{math.NaN(), math.Inf(-1)} {
			w := random(1, 4*128, gaussian)
			w[2*128+17] = float32(bad)
			_, _, err := Quantize(kind.spec, w, 4, 128, nil)
			var nf *NonFiniteError
			require.True(t, errors.As(err, &nf), kind.name)
			assert.Equal(t, []int{2, 17}, []int{nf.Row, nf.Col})
		}
	}
}

func BenchmarkQuantize(b *testing.B) {
	const rows, cols = 128, 4096
	w := random(1, rows*cols, gaussian)
	for _, kind := range kinds {
		for arith, name := range []string{"best", "compat"} {
			spec := kind.spec
			spec.Arith = Arith(arith)
			b.Run(kind.name+"/"+name, func(b *testing.B) {
				b.SetBytes(2 * rows * cols) // BF16 source bytes
				var scratch Scratch
				for b.Loop() {
					if _, _, err := Quantize(spec, w, rows, cols, &scratch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
