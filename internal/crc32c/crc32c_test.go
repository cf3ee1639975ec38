package crc32c

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

// TestKnown: the check value of the catalogue of CRC algorithms, and the
// examples of RFC 3720, B.4.
func TestKnown(t *testing.T) {
	ones, rising := make([]byte, 32), make([]byte, 32)
	for i := range ones {
		ones[i], rising[i] = 0xff, byte(i)
	}
	for _, c := range []struct {
		name string
		in   []byte
		want uint32
	}{
		{"123456789", []byte("123456789"), 0xe3069283},
		{"32 zeros", make([]byte, 32), 0x8a9136aa},
		{"32 ones", ones, 0x62a8ab43},
		{"rising", rising, 0x46dd794e},
		{"empty", nil, 0},
	} {
		assert.Equal(t, c.want, Sum(c.in), c.name)
	}
}

// TestCombine: any cuts into pieces give the checksum of the whole.
func TestCombine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "p")
		var crc, streamed uint32
		for rest := p; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			crc = Combine(crc, Sum(rest[:n]), int64(n))
			streamed = Update(streamed, rest[:n])
			rest = rest[n:]
		}
		if want := Sum(p); crc != want || streamed != want {
			t.Fatalf("combined %08x, streamed %08x, whole %08x", crc, streamed, want)
		}
	})
	r, long := rand.New(rand.NewPCG(1, 2)), make([]byte, 3<<20)
	for i := range long {
		long[i] = byte(r.Uint32())
	}
	cut := 1<<20 + 13
	assert.Equal(t, Sum(long), Combine(Sum(long[:cut]), Sum(long[cut:]), int64(len(long)-cut)))
	assert.Equal(t, Sum(long), Combine(Sum(long), 0, 0), "nothing behind it")
}
