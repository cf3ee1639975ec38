package kernel

import (
	"math"

	"github.com/glmconv/glmconv/quant/numeric"
)

// Inputs that are rounded to FP8 or FP4 and widened again, for products with
// weights that are widened too: the formats of small groups, and static scales
// (docs/facts/formats.md 10.3). Each row is a function of itself alone.

// eachGroup calls fn for every group of columns of x [m, k] and what becomes of it.
func eachGroup(x []float32, m, k, group int, workers *Workers, fn func(out, in []float32)) []float32 {
	y := make([]float32, len(x))
	workers.Each(m, 1, 8*k, func(from, to int) {
		for i := from; i < to; i++ {
			for lo := 0; lo < k; lo += group {
				hi := min(lo+group, k)
				fn(y[i*k+lo:i*k+hi], x[i*k+lo:i*k+hi])
			}
		}
	})
	return y
}

// RoundNVFP4 rounds x [m, k] to FP4 with local scales of FP8 for groups of 16,
// below the scale of the whole input (vLLM 0.32 ref_nvfp4_quant of
// nvfp4_emulation_utils.py).
func RoundNVFP4(x []float32, m, k int, scale float32, workers *Workers) []float32 {
	const sixth = float32(1.0 / 6)
	global := 1 / scale
	return eachGroup(x, m, k, 16, workers, func(out, in []float32) {
		top := numeric.AbsMax(in)
		local := numeric.E4M3ToF32(numeric.F32ToE4M3(global * (top * sixth)))
		by := reciprocal(local * reciprocal(global))
		back := local / global
		for i, v := range in {
			out[i] = numeric.E2M1ToF32(numeric.F32ToE2M1(v*by)) * back
		}
	})
}

func reciprocal(v float32) float32 {
	if v == 0 {
		return 0
	}
	return 1 / v
}

// RoundMX rounds x [m, k] to E2M1 or E4M3 in groups of 32 with powers of two
// for scales: of E4M3 the smallest that does not clip (vLLM 0.32
// _mxfp8_e4m3_quantize_torch), of E2M1 Quark's and compressed-tensors' rule,
// which rounds the largest magnitude to a power of two.
func RoundMX(x []float32, m, k int, code numeric.Code, workers *Workers) []float32 {
	return eachGroup(x, m, k, 32, workers, func(out, in []float32) {
		top := numeric.AbsMax(in)
		if !(top <= math.MaxFloat32) {
			for i := range out {
				out[i] = float32(math.NaN())
			}
			return
		}
		if code == numeric.E4M3 {
			s := numeric.E8M0ToF32(numeric.F32ToE8M0(max(top, 0x1p-126) / numeric.E4M3Max))
			for i, v := range in {
				out[i] = numeric.E4M3ToF32(numeric.F32ToE4M3(v/s)) * s
			}
			return
		}
		e := math.Float32bits(top)>>21 + 1 // up from a significand of 1.75 on
		s := numeric.E8M0ToF32(byte(max(int(e>>2)-2, 0)))
		for i, v := range in {
			out[i] = numeric.E2M1ToF32(numeric.F32ToE2M1(v/s)) * s
		}
	})
}

// RoundStaticE4M3 rounds x [m, k] to FP8 with a scale that the checkpoint gives;
// what is beyond ±448 of it saturates.
func RoundStaticE4M3(x []float32, m, k int, scale float32, workers *Workers) []float32 {
	return eachGroup(x, m, k, k, workers, func(out, in []float32) {
		for i, v := range in {
			out[i] = numeric.E4M3ToF32(numeric.F32ToE4M3(v/scale)) * scale
		}
	})
}
