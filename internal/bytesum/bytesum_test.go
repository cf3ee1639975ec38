package bytesum

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

// TestKnown: one row is XXH3 with its seed, and the sum of two is a sum.
func TestKnown(t *testing.T) {
	p := []byte("abcdefgh")
	seed := xxh3.HashString("w")
	assert.Equal(t, xxh3.HashSeed(p, seed), Rows("w", 0, 8, p))
	assert.Equal(t, xxh3.HashSeed(p, seed+16), Rows("w", 16, 8, p))
	assert.Equal(t, xxh3.HashSeed(p[:4], seed+8)+xxh3.HashSeed(p[4:], seed+12), Rows("w", 8, 4, p))
	assert.Equal(t, xxh3.HashSeed(p, seed+3), Rows("w", 3, 4, p), "no whole rows: one piece")
	assert.Equal(t, xxh3.HashSeed(p, seed), Rows("w", 0, 0, p), "no rows: one piece")
	assert.Zero(t, Rows("w", 0, 4, nil))
}

// TestPieces: rows in any pieces and any order have the same sum, and a changed
// byte, a changed place and another tensor another one.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := rapid.IntRange(1, 300).Draw(t, "row")
		n := rapid.IntRange(1, 20).Draw(t, "rows")
		p := rapid.SliceOfN(rapid.Byte(), row*n, row*n).Draw(t, "p")
		whole := Rows("w", 0, int64(row), p)
		var sum uint64
		for at := 0; at < n; {
			k := rapid.IntRange(1, n-at).Draw(t, "k")
			sum += Rows("w", int64(at*row), int64(row), p[at*row:(at+k)*row])
			at += k
		}
		assert.Equal(t, whole, sum)
		other := append([]byte(nil), p...)
		other[rapid.IntRange(0, len(p)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		assert.NotEqual(t, whole, Rows("w", 0, int64(row), other))
		assert.NotEqual(t, whole, Rows("v", 0, int64(row), p))
		assert.NotEqual(t, whole, Rows("w", int64(row), int64(row), p))
	})
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want uint64
		ok   bool
	}{
		{"0000000000000000", 0, true},
		{"0123456789abcdef", 0x0123456789abcdef, true},
		{"0123456789ABCDEF", 0, false},
		{"0123456789abcde", 0, false},
		{"0123456789abcdef0", 0, false},
		{"", 0, false},
		{"gggggggggggggggg", 0, false},
	} {
		got, ok := Parse(c.in)
		assert.Equal(t, c.ok, ok, c.in)
		if ok {
			assert.Equal(t, c.want, got, c.in)
		}
	}
}

func BenchmarkRows(b *testing.B) {
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		Rows("w", 0, 8<<10, p)
	}
}
