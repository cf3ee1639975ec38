package kernel

import (
	"math"

	"github.com/glmconv/glmconv/quant/numeric"
)

// Int8Rows are activations quantised for each token: x[i,k] ≈ Q[i·K+k]·Scale[i].
type Int8Rows struct {
	M, K  int
	Q     []int8    // [M, K]
	Scale []float32 // [M]

	turned once[tokenTiles] // of Q
	split  once[splitRows]
}

// E4M3Rows are activations rounded to FP8: x[i,k] ≈ V[i·K+k] times the scale of
// row i and group k/Group. V holds E4M3 values widened to float32. Group = K is
// one scale per token.
type E4M3Rows struct {
	M, K, Group int
	V           []float32 // [M, K]
	Scale       []float32 // [M, ceil(K/Group)]

	turned once[tokenTiles] // of V
}

// Divisors of absmax for int8 activations.
const (
	EngineDivisor     = 127   // vLLM, SGLang, CANN (docs/facts/ascend.md 2.2)
	CompressedDivisor = 127.5 // compressed-tensors' own arithmetic (docs/facts/layouts.md 1.4)
)

// QuantizeInt8 quantises rows of x [M,K]: scale = absmax/divisor, code =
// round-half-even(x/scale) within −128 … 127. A row of zeros has scale 1.
func QuantizeInt8(x []float32, m, k int, divisor float32, workers *Workers) *Int8Rows {
	a := &Int8Rows{M: m, K: k, Q: make([]int8, m*k), Scale: make([]float32, m)}
	workers.Each(m, 1, 2*k, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			a.Scale[i] = quantizeInt8(a.Q[i*k:][:k], x[i*k:][:k], divisor)
		}
	})
	return a
}

func quantizeInt8(q []int8, x []float32, divisor float32) float32 {
	top := numeric.AbsMax(x)
	if top == 0 {
		return 1
	}
	s := max(top/divisor, math.SmallestNonzeroFloat32)
	if !(s <= math.MaxFloat32) {
		return s // codes 0: the products become NaN and are not mistaken for numbers
	}
	q = q[:len(x)]
	for i := quantizeVector(q, x, s); i < len(x); i++ {
		q[i] = int8(min(max(roundEven(x[i]/s), -128), 127))
	}
	return s
}

// QuantizeE4M3 rounds rows of x [M,K] to FP8 with one scale for each group of
// columns: scale = absmax/448, value = e4m3(x/scale), saturating. group 0 means
// the whole row. A group of zeros has scale 1.
func QuantizeE4M3(x []float32, m, k, group int, workers *Workers) *E4M3Rows {
	if group == 0 {
		group = k
	}
	groups := (k + group - 1) / group
	a := &E4M3Rows{M: m, K: k, Group: group, V: make([]float32, m*k), Scale: make([]float32, m*groups)}
	workers.Each(m, 1, 4*k, func(from, to int) {
		for i := from; i < to; i++ {
			for g := range groups {
				lo, hi := i*k+g*group, i*k+min((g+1)*group, k)
				a.Scale[i*groups+g] = roundE4M3(a.V[lo:hi], x[lo:hi])
			}
		}
	})
	return a
}

func roundE4M3(v, x []float32) float32 {
	top := numeric.AbsMax(x)
	if top == 0 {
		return 1
	}
	s := max(top/numeric.E4M3Max, math.SmallestNonzeroFloat32)
	if !(s <= math.MaxFloat32) {
		return s
	}
	for i, f := range x {
		v[i] = numeric.E4M3ToF32(numeric.F32ToE4M3(f / s))
	}
	return s
}

// roundEven rounds to the nearest integer, ties to even, for |f| < 2^22.
func roundEven(f float32) float32 {
	const magic = 3 << 22
	return float32(f+magic) - magic
}

// Gather returns the given rows.
func (a *Int8Rows) Gather(rows []int32) *Int8Rows {
	out := &Int8Rows{M: len(rows), K: a.K, Q: make([]int8, len(rows)*a.K), Scale: make([]float32, len(rows))}
	for i, r := range rows {
		copy(out.Q[i*a.K:][:a.K], a.Q[int(r)*a.K:])
		out.Scale[i] = a.Scale[r]
	}
	return out
}

// Gather returns the given rows.
func (a *E4M3Rows) Gather(rows []int32) *E4M3Rows {
	g := (a.K + a.Group - 1) / a.Group
	out := &E4M3Rows{M: len(rows), K: a.K, Group: a.Group, V: make([]float32, len(rows)*a.K), Scale: make([]float32, len(rows)*g)}
	for i, r := range rows {
		copy(out.V[i*a.K:][:a.K], a.V[int(r)*a.K:])
		copy(out.Scale[i*g:][:g], a.Scale[int(r)*g:])
	}
	return out
}
