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
	const (
		six  = 0x40c00000
		one  = 0x3f800000
		base = 1 << 22 // float32 has steps of a half from here on
	)
	u := math.Float32bits(f)
	mag := min(u&0x7fffffff, six)
	code := (mag+0x1fffff+mag>>22&1)>>22 - 126<<1
	if mag < one { // subnormal
		code = math.Float32bits(math.Float32frombits(mag)+base) - math.Float32bits(base)
	}
	return byte(u>>28)&8 | byte(code)
}
