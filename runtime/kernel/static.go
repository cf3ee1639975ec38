package kernel

import "github.com/glmconv/glmconv/quant/numeric"

// QuantizeStatic quantises rows of x [M,K] with one multiplier and one zero
// point for all of them: code = round-half-even(x·times + offset) within
// −128 … 127 (vllm-ascend w8a8_static.py, npu_quantize without division). The
// scale of every row is 1: [Int8Static] has it in its multipliers.
func QuantizeStatic(x []float32, m, k int, times, offset float32, workers *Workers) *Int8Rows {
	a := &Int8Rows{M: m, K: k, Q: make([]int8, m*k), Scale: make([]float32, m)}
	workers.Each(m, 1, 2*k, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			a.Scale[i] = 1
			q := a.Q[i*k:][:k]
			for j, v := range x[i*k:][:k] {
				v = float32(v*times) + offset
				q[j] = int8(roundEven(min(max(v, -128), 127)))
			}
		}
	})
	return a
}

// Int8Static computes y[M,N] = (Σ a·w + bias)·deq of int8 activations and codes:
// the sum and the bias are integers, one product in F32 follows. The scales of
// activations and weight are not used.
func Int8Static(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, bias []int32, deq []float32, workers *Workers) {
	k := w.Cols
	workers.Each(w.Rows, rowBlock, a.M*k+k, func(lo, hi int) {
		block := 4 * rowBlock
		acc := ints(a.M * block)
		defer acc.free()
		for j := lo; j < hi; j += block {
			r := min(block, hi-j)
			tileInt8(acc.s, block, a.Q, k, w.Codes[j*k:(j+r)*k], k, a.M, r, k)
			for i := range a.M {
				out, sums := y[i*ldy+j:][:r], acc.s[i*block:][:r]
				for n, s := range sums {
					out[n] = float32(s+bias[j+n]) * deq[j+n]
				}
			}
		}
	})
}
