package numeric

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// decodeE4M3 is the definition, written out apart from the table.
func decodeE4M3(b byte) float64 {
	sign, exp, man := 1.0, int(b>>3&15), float64(b&7)
	if b&0x80 != 0 {
		sign = -1
	}
	switch {
	case b&0x7f == 0x7f:
		return math.NaN()
	case exp == 0:
		return sign * man / 8 * math.Pow(2, -6)
	}
	return sign * (1 + man/8) * math.Pow(2, float64(exp-7))
}

func TestE4M3Decode(t *testing.T) {
	for b := range 256 {
		want, got := decodeE4M3(byte(b)), float64(E4M3ToF32(byte(b)))
		if math.IsNaN(want) {
			assert.True(t, math.IsNaN(got), "code %#x", b)
			continue
		}
		assert.Equal(t, want, got, "code %#x", b)
		assert.Equal(t, byte(b), F32ToE4M3(float32(got)), "code %#x back", b)
	}
}

// nearestE4M3 searches all codes of the right sign; of two equally near ones the
// even code is the nearest-even one.
func nearestE4M3(f float64) byte {
	sign := byte(0)
	if math.Signbit(f) {
		sign = 0x80
	}
	a := math.Min(math.Abs(f), E4M3Max)
	best, dist := byte(0), math.Inf(1)
	for c := byte(0); c <= 0x7e; c++ {
		d := math.Abs(decodeE4M3(c) - a)
		if d < dist || d == dist && c%2 == 0 {
			best, dist = c, d
		}
	}
	return sign | best
}

func TestE4M3EncodeAllBF16(t *testing.T) {
	for u := range 1 << 16 {
		f := BF16ToF32(uint16(u))
		got := F32ToE4M3(f)
		if f != f {
			require.Equal(t, byte(0x7f), got&0x7f, "%#x", u)
			continue
		}
		if want := nearestE4M3(float64(f)); got != want {
			t.Fatalf("BF16 %#x = %g: code %#x, want %#x", u, f, got, want)
		}
	}
}

// Midpoints and their float32 neighbours are where rounding goes wrong.
func TestE4M3EncodeTies(t *testing.T) {
	for c := byte(0); c < 0x7e; c++ {
		mid := float32((decodeE4M3(c) + decodeE4M3(c+1)) / 2)
		for _, f := range []float32{mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, 1000)} {
			require.Equal(t, nearestE4M3(float64(f)), F32ToE4M3(f), "%g", f)
			require.Equal(t, nearestE4M3(float64(-f)), F32ToE4M3(-f), "%g", -f)
		}
	}
}

func TestBF16(t *testing.T) {
	for u := range 1 << 16 {
		f := BF16ToF32(uint16(u))
		if f != f {
			got := F32ToBF16(f)
			require.True(t, got&0x7fff > 0x7f80 && got&0x40 != 0 && got>>15 == uint16(u)>>15, "%#x gives %#x", u, got)
			continue
		}
		if got := F32ToBF16(f); got != uint16(u) {
			t.Fatalf("%#x comes back as %#x", u, got)
		}
		if u&0x7fff >= 0x7f7f {
			continue
		}
		// the point halfway to the next larger magnitude goes to the even one
		bits := uint32(u)<<16 | 0x8000
		even := uint16(u) + uint16(u)&1
		for bits, want := range map[uint32]uint16{bits: even, bits - 1: uint16(u), bits + 1: uint16(u) + 1} {
			f := math.Float32frombits(bits)
			if got := F32ToBF16(f); got != want || RoundBF16(f) != BF16ToF32(want) || roundFinite(f) != BF16ToF32(want) {
				t.Fatalf("%#x rounds to %#x, want %#x", bits, got, want)
			}
		}
	}
	assert.Equal(t, uint16(0x7f80), F32ToBF16(math.MaxFloat32), "past the largest finite value")
}

// binary16 by its definition: 5 exponent bits of bias 15, 10 mantissa bits.
func TestF16(t *testing.T) {
	src := make([]byte, 0, 2<<16)
	for u := range 1 << 16 {
		src = append(src, byte(u), byte(u>>8))
	}
	got := make([]float32, 1<<16)
	DecodeF16(got, src)
	for u, f := range got {
		exp, man := u>>10&31, float64(u&1023)
		want := math.Ldexp(1+man/1024, exp-15)
		switch {
		case exp == 31 && man != 0:
			require.True(t, f != f, "%#x", u)
			continue
		case exp == 31:
			want = math.Inf(1)
		case exp == 0:
			want = math.Ldexp(man, -24)
		}
		if u>>15 == 1 {
			want = -want
		}
		if math.Float64bits(want) != math.Float64bits(float64(f)) || F16ToF32(uint16(u)) != f || F32ToF16(f) != uint16(u) {
			t.Fatalf("%#x decodes to %g, want %g; back to %#x", u, f, want, F32ToF16(f))
		}
	}
}

func TestE8M0(t *testing.T) {
	for b := range 255 {
		f := E8M0ToF32(byte(b))
		require.Equal(t, math.Ldexp(1, b-127), float64(f))
		require.Equal(t, byte(b), F32ToE8M0(f))
		if b < 254 {
			require.Equal(t, byte(b+1), F32ToE8M0(math.Nextafter32(f, math.MaxFloat32)), "just above 2^%d", b-127)
		}
	}
	assert.True(t, math.IsNaN(float64(E8M0ToF32(255))))
	assert.Equal(t, byte(255), F32ToE8M0(float32(math.NaN())))
	assert.Equal(t, byte(254), F32ToE8M0(float32(math.Inf(1))))
	assert.Zero(t, F32ToE8M0(0))
	assert.Zero(t, F32ToE8M0(-1))
}

func TestRoundHalfEven(t *testing.T) {
	for i := -2000; i <= 2000; i++ {
		f := float32(i) / 4
		require.Equal(t, int32(math.RoundToEven(float64(f))), RoundHalfEven(f), "%g", f)
	}
	inf := float32(math.Inf(1))
	for f, want := range map[float32]int32{
		4194303.5: 4194304, 4194304.5: 4194304, 8388609: 8388609, -1e20: math.MinInt32, inf: math.MaxInt32, -inf: math.MinInt32,
	} {
		assert.Equal(t, want, RoundHalfEven(f), "%g", f)
	}
	assert.Zero(t, RoundHalfEven(float32(math.NaN())))
}

// Int8 and int4 codes of every BF16 quotient against the definition.
func TestIntCodesAllBF16(t *testing.T) {
	var w []float32
	for u := range 1 << 16 {
		if f := BF16ToF32(uint16(u)); f-f == 0 {
			w = append(w, f)
		}
	}
	out := make([]byte, len(w))
	for _, c := range []struct {
		code   Code
		lo, hi float64
	}{{Int8, -128, 127}, {Int4, -8, 7}} {
		for _, by := range []divide{byReciprocal, exactQuotient, bf16Quotient} {
			encode(out, w, c.code, by, 1, 1)
			for i, f := range w {
				want := math.RoundToEven(min(max(float64(f), c.lo), c.hi))
				if int8(want) != int8(out[i]) {
					t.Fatalf("code %d of %g, want %g", int8(out[i]), f, want)
				}
			}
		}
	}
}

func TestFirstNonFinite(t *testing.T) {
	w := make([]float32, 5000)
	assert.Equal(t, -1, FirstNonFinite(w))
	assert.Equal(t, -1, FirstNonFinite(nil))
	w[17] = math.MaxFloat32
	assert.Equal(t, -1, FirstNonFinite(w))
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, at := range []int{0, 3, 1023, 1024, 4999} {
			old := w[at]
			w[at] = float32(bad)
			assert.Equal(t, at, FirstNonFinite(w))
			w[at] = old
		}
	}
}
