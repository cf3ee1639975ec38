package numeric

import "math"

// E8M0ToF32 decodes a power-of-two scale byte: 2^(b-127), and NaN for 255.
func E8M0ToF32(b byte) float32 {
	if b == 255 {
		return float32(math.NaN())
	}
	return float32(math.Ldexp(1, int(b)-127))
}

// F32ToE8M0 returns the code of the smallest power of two that is not below f,
// the choice that never clips (DeepGEMM's UE8M0 scales). It saturates at
// 2^-127 and 2^127; NaN gives 255, zero and negative values 0.
func F32ToE8M0(f float32) byte {
	switch {
	case f != f:
		return 255
	case f <= 0:
		return 0
	}
	if f > math.MaxFloat32 {
		return 254
	}
	frac, exp := math.Frexp(float64(f)) // f = frac × 2^exp, frac in [0.5, 1)
	if frac == 0.5 {
		exp--
	}
	return byte(min(max(exp+127, 0), 254))
}
