package numeric

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestAppendBF16: runs of any length have the rounding of one value, NaN and
// ties included, behind what is there already; and F32 goes out and comes back
// bit by bit.
func TestAppendBF16(t *testing.T) {
	bits := []uint32{0, 1 << 31, 0x7f800000, 0xff800000, 0x7f800001, 0xff812345, 0x7fffffff, 0xffffffff, 0x7f7fffff, 0x3f808000, 0x3f818000, 0x3f808001, 1, 0x8000}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		bits = append(bits, r.Uint32())
	}
	x := make([]float32, len(bits))
	for i, b := range bits {
		x[i] = math.Float32frombits(b)
	}
	for _, n := range []int{0, 1, 15, 16, 17, 32, 100, len(x)} {
		want := []byte{7}
		for _, f := range x[:n] {
			b := F32ToBF16(f)
			want = append(want, byte(b), byte(b>>8))
		}
		assert.Equal(t, want, AppendBF16([]byte{7}, x[:n]), "%d values", n)
		raw := AppendF32([]byte{7}, x[:n])
		back := make([]float32, n)
		DecodeF32(back, raw[1:])
		for i, f := range back {
			assert.Equal(t, bits[i], math.Float32bits(f))
		}
	}
}
