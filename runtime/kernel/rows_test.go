//go:build amd64 && !purego

package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainly runs fn without vector instructions.
func plainly(fn func()) {
	was := vectors
	vectors = false
	defer func() { vectors = was }()
	fn()
}

// odd returns n numbers among which are those that break loops.
func odd(r *rand.Rand, n int) []float32 {
	special := []float32{0, float32(math.Copysign(0, -1)), 1e-45, -1e-39, 88.7228, 88.8, -87.3, -87.4, -104, 1e30, float32(math.Inf(1)),
		float32(math.Inf(-1)), float32(math.NaN())}
	x := normals(r, n)
	for i := range x {
		switch r.IntN(12) {
		case 0:
			x[i] = special[r.IntN(len(special))]
		case 1:
			x[i] *= 100
		}
	}
	return x
}

// sameBits compares bit patterns; every NaN is equal to every other.
func sameBits(t testing.TB, want, got []float32, what string) {
	t.Helper()
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) && (want[i] == want[i] || got[i] == got[i]) {
			require.Failf(t, "not the same bits", "%s, element %d of %d: want %v (%#x), got %v (%#x)", what, i, len(want),
				want[i], math.Float32bits(want[i]), got[i], math.Float32bits(got[i]))
		}
	}
}

// rowLoops are the loops over rows, each from copies of the same inputs to
// whatever it computes.
var rowLoops = map[string]func(a, b, c []float32) []float32{
	"dot": func(a, b, _ []float32) []float32 { return []float32{Dot(a, b)} },
	"sum": func(a, _, _ []float32) []float32 { return []float32{Sum(a)} },
	"add": func(a, b, _ []float32) []float32 { Add(a, b); return a },
	"addwide": func(a, b, c []float32) []float32 {
		sum := make([]float64, len(a))
		for i, v := range a {
			sum[i] = float64(v) * 1.1
		}
		AddWide(sum, b)
		for i, v := range sum {
			c[i] = float32(v)
		}
		return c
	},
	"beyond": func(a, b, _ []float32) []float32 {
		for i := range b {
			b[i] = max(b[i], -b[i])
		}
		out := []float32{float32(Beyond(a, b, 1.5))}
		for at := 0; at < len(a); at++ {
			at += Beyond(a[at:], b[at:], 2)
			out = append(out, float32(at))
		}
		return out
	},
	"axpy":    func(a, b, _ []float32) []float32 { Axpy(a, 0.37, b); return a },
	"norm":    func(a, b, c []float32) []float32 { RMSNorm(c, a, b, 1e-5); return c },
	"swiglu":  func(a, b, c []float32) []float32 { SwiGLU(c, a, b); return c },
	"softmax": func(a, _, _ []float32) []float32 { Softmax(a); return a },
	"int8": func(a, _, c []float32) []float32 {
		q := make([]int8, len(a))
		s := quantizeInt8(q, a, 127)
		for i := range q {
			c[i] = float32(q[i])
		}
		return append(c, s)
	},
}

func checkRowLoops(t testing.TB, a, b []float32) {
	for name, fn := range rowLoops {
		clone := func(x []float32) []float32 { return append([]float32(nil), x...) }
		var want []float32
		plainly(func() { want = fn(clone(a), clone(b), make([]float32, len(a))) })
		sameBits(t, want, fn(clone(a), clone(b), make([]float32, len(a))), name)
	}
}

// TestRowLoops: with and without vector instructions the bits are the same.
func TestRowLoops(t *testing.T) {
	if !vectors {
		t.Skip("SKIPPED: this build, processor or GLMCONV_CPU has no vector kernels to compare")
	}
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 150 {
		checkRowLoops(t, normals(r, n), normals(r, n))
		checkRowLoops(t, odd(r, n), odd(r, n))
	}
	x := make([]float32, 0, 1<<16)
	for v := float32(-90); v < 90; v += 0.00391 {
		x = append(x, v)
	}
	checkRowLoops(t, x, x)
}

func TestByteLoops(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for n := range 150 {
		q := make([]int8, n)
		var sum int32
		for i := range q {
			q[i] = int8(r.Uint32())
			sum += int32(q[i])
		}
		require.Equal(t, sum, sumInt8(q))
	}
}

func FuzzRowLoops(f *testing.F) {
	f.Add([]byte{0, 0, 0x80, 0x7f, 1, 2, 3, 4, 0, 0, 0xc0, 0x7f})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var x []float32
		for i := 0; i+4 <= len(raw) && len(x) < 300; i += 4 {
			x = append(x, math.Float32frombits(uint32(raw[i])|uint32(raw[i+1])<<8|uint32(raw[i+2])<<16|uint32(raw[i+3])<<24))
		}
		h := len(x) / 2
		checkRowLoops(t, x[:h], x[h:2*h])
	})
}
