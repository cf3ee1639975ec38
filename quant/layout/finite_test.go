package layout

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

// TestNonFinite looks at every float of 16 bits and at the edges of 32, at every
// place of short tensors, between full neighbours that must not spill over.
func TestNonFinite(t *testing.T) {
	odd := map[safetensors.DType]func(u uint32) bool{
		safetensors.BF16: func(u uint32) bool { return u&0x7f80 == 0x7f80 },
		safetensors.F16:  func(u uint32) bool { return u&0x7c00 == 0x7c00 },
		safetensors.F32:  func(u uint32) bool { v := float64(math.Float32frombits(u)); return math.IsNaN(v) || math.IsInf(v, 0) },
	}
	for d, want := range odd {
		size := d.Bits() / 8
		values := []uint32{0, 1, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff, 0x7f800001, 0x3f800000}
		if size == 2 {
			values = values[:0]
			for u := range uint32(1 << 16) {
				values = append(values, u)
			}
		}
		most := map[int]uint32{2: 0xfbff, 4: 0xff7fffff}[size]
		if d == safetensors.BF16 {
			most = 0xff7f
		}
		for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 37} {
			raw := make([]byte, n*size)
			put := func(i int, u uint32) {
				if size == 2 {
					binary.LittleEndian.PutUint16(raw[2*i:], uint16(u))
				} else {
					binary.LittleEndian.PutUint32(raw[4*i:], u)
				}
			}
			for i := range n {
				put(i, most)
			}
			require.False(t, NonFinite(raw, d))
			for i := range n {
				for _, u := range values {
					put(i, u)
					if NonFinite(raw, d) != want(u) {
						t.Fatalf("%s %#x at %d of %d", d, u, i, n)
					}
				}
				put(i, most)
			}
		}
	}
	require.False(t, NonFinite([]byte{0xff, 0xff}, safetensors.I8))
}
