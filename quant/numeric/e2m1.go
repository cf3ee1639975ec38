package numeric

import "math"

// E2M1Max is the largest E2M1 value.
const E2M1Max = 6

// e2m1 are the 16 codes of FP4: sign, 2 exponent bits, 1 mantissa bit, no
// infinity and no NaN (OCP Microscaling Formats 1.0). Code 8 is −0.
var e2m1 = [16]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6, float32(math.Copysign(0, -1)), -0.5, -1, -1.5, -2, -3, -4, -6}

// E2M1ToF32 decodes the low nibble of b; exact.
func E2M1ToF32(b byte) float32 { return e2m1[b&15] }

// F32ToE2M1 rounds to the nearest E2M1 code, ties to the even code, and
// saturates at ±6. A negative value that rounds to zero gets code 8, −0. NaN
// saturates like the infinity of its sign.
func F32ToE2M1(f float32) byte {
	u := math.Float32bits(f)
	sign, a := byte(u>>28)&8, math.Float32frombits(u&0x7fffffff)
	switch {
	case a <= 0.25:
		return sign
	case a < 0.75:
		return sign | 1
	case a <= 1.25:
		return sign | 2
	case a < 1.75:
		return sign | 3
	case a <= 2.5:
		return sign | 4
	case a < 3.5:
		return sign | 5
	case a <= 5:
		return sign | 6
	}
	return sign | 7
}
