package kernel

import (
	"sync"

	"github.com/glmconv/glmconv/quant/numeric"
)

// FloatType is the stored form of an unquantised weight.
type FloatType uint8

// The stored forms, little-endian.
const (
	BF16 FloatType = iota
	F16
	F32
)

// Size returns the bytes of an element.
func (t FloatType) Size() int {
	if t == F32 {
		return 4
	}
	return 2
}

// Decode widens len(dst) elements; exact.
func (t FloatType) Decode(dst []float32, src []byte) {
	switch t {
	case BF16:
		numeric.DecodeBF16(dst, src)
	case F16:
		numeric.DecodeF16(dst, src)
	default:
		numeric.DecodeF32(dst, src)
	}
}

// rowBlock is how many weight rows are decoded at a time: enough that the
// activations, which are read once for each block, are not what is waited for,
// few enough to stay in the second-level cache.
const rowBlock = 32

// FloatRows are unquantised activations x[M,K]; products with them keep the form
// that they compute with, so X must not change.
type FloatRows struct {
	M, K int
	X    []float32 // [M, K]

	turned once[tokenTiles] // of X
}

// Float computes y[M,N] = x[M,K]·w[N,K]ᵀ for an unquantised weight, in float32.
func Float(y []float32, ldy int, x []float32, m int, t FloatType, w []byte, n, k int, workers *Workers) {
	FloatProduct(y, ldy, &FloatRows{M: m, K: k, X: x}, t, w, n, workers)
}

// FloatProduct is Float for activations that go through several products.
func FloatProduct(y []float32, ldy int, a *FloatRows, t FloatType, w []byte, n int, workers *Workers) {
	x, m, k := a.X, a.M, a.K
	if tilesFloat(y, ldy, a, t, w, n, workers) {
		return
	}
	if panels != nil {
		panels.float(y, ldy, x, m, t, w, n, k, workers)
		return
	}
	size := t.Size()
	workers.Each(n, rowBlock, m*k+k, func(lo, hi int) {
		buf := floats(rowBlock * k)
		defer buf.free()
		for j := lo; j < hi; j += rowBlock {
			r := min(rowBlock, hi-j)
			t.Decode(buf.s[:r*k], w[j*k*size:])
			tileF32(y[j:], ldy, x, k, buf.s, k, m, r, k)
		}
	})
}

// scratch is a slice from a pool.
type scratch[T any] struct {
	s    []T
	pool *sync.Pool
}

func (b *scratch[T]) free() { b.pool.Put(b) }

var floatPool, intPool, signedPool, bytePool sync.Pool

func take[T any](p *sync.Pool, n int) *scratch[T] {
	b, _ := p.Get().(*scratch[T])
	if b == nil || cap(b.s) < n {
		b = &scratch[T]{s: make([]T, n), pool: p}
	}
	b.s = b.s[:n]
	return b
}

func floats(n int) *scratch[float32] { return take[float32](&floatPool, n) }
func ints(n int) *scratch[int32]     { return take[int32](&intPool, n) }
func codes(n int) *scratch[byte]     { return take[byte](&bytePool, n) }
