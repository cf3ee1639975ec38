package numeric

import "math"

// E4M3Max is the largest finite E4M3FN value.
const E4M3Max = 448

// e4m3 is the table of all 256 codes: sign, 4 exponent bits of bias 7, 3
// mantissa bits, subnormals of step 2^-9, no infinities, NaN at 0x7f and 0xff
// (arXiv 2209.05433, "FN" variant).
var e4m3 = func() (t [256]float32) {
	for i := range t {
		exp, man := i>>3&15, float64(i&7)
		v := math.Ldexp(1+man/8, exp-7)
		if exp == 0 {
			v = math.Ldexp(man, -9)
		}
		if exp == 15 && man == 7 {
			v = math.NaN()
		}
		if i >= 128 {
			v = -v
		}
		t[i] = float32(v)
	}
	return t
}()

// E4M3ToF32 decodes one FP8 E4M3FN code; exact.
func E4M3ToF32(b byte) float32 { return e4m3[b] }

// DecodeE4M3 decodes codes; len(src) >= len(dst).
func DecodeE4M3(dst []float32, src []byte) {
	dequantE4M3(dst, src[:len(dst)], 1)
}

// dequantE4M3 writes codes times s, rounded once.
func dequantE4M3(dst []float32, codes []byte, s float32) {
	dst = dst[:len(codes)]
	for at := 0; at < len(codes); {
		if at += dequantE4M3Vector(dst[at:], codes[at:], s); at < len(codes) {
			for end := min(at+lanes, len(codes)); at < end; at++ { // one is NaN, or these are the last
				dst[at] = e4m3[codes[at]] * s
			}
		}
	}
}

// F32ToE4M3 rounds to the nearest E4M3FN code, ties to even, and saturates:
// magnitudes above 448 become ±448 (a plain cast would give NaN above 464).
// NaN becomes NaN of the same sign. Underflow gives a zero of the same sign.
func F32ToE4M3(f float32) byte {
	u := math.Float32bits(f)
	sign, mag := byte(u>>24)&0x80, u&0x7fffffff
	switch {
	case mag > 0x7f800000:
		return sign | 0x7f
	case mag >= 0x43e00000: // 448
		return sign | 0x7e
	case mag < 0x3c800000: // 2^-6: subnormal; 2^14 has steps of 2^-9
		const base = 1 << 14
		return sign | byte(math.Float32bits(math.Float32frombits(mag)+base)-math.Float32bits(base))
	}
	mag += 0x7ffff + mag>>20&1
	return sign | byte(mag>>20-(127-7)<<3)
}
