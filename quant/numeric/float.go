package numeric

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"

	"github.com/x448/float16"
)

// BF16ToF32 widens a bfloat16; exact.
func BF16ToF32(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// F32ToBF16 rounds to the nearest bfloat16, ties to even. NaN stays a quiet
// NaN of the same sign; values beyond the largest bfloat16 become infinite.
func F32ToBF16(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 {
		return uint16(u>>16) | 0x0040
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// F16ToF32 widens an IEEE half; exact.
func F16ToF32(b uint16) float32 { return float16.Frombits(b).Float32() }

// F32ToF16 rounds to the nearest IEEE half, ties to even.
func F32ToF16(f float32) uint16 { return float16.Fromfloat32(f).Bits() }

// RoundBF16 rounds to the nearest bfloat16 value.
func RoundBF16(f float32) float32 { return BF16ToF32(F32ToBF16(f)) }

// IsBF16 reports whether f is exactly a bfloat16 value.
func IsBF16(f float32) bool { return math.Float32bits(f)&0xffff == 0 }

// DecodeBF16 widens little-endian bfloat16 data; len(src) = 2·len(dst).
func DecodeBF16(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := decodeBF16Vector(dst, src); i < len(dst); i++ {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

// half is the table of all 65,536 half-precision values.
var half = sync.OnceValue(func() *[1 << 16]float32 {
	var t [1 << 16]float32
	for i := range t {
		t[i] = float16.Frombits(uint16(i)).Float32()
	}
	return &t
})

// DecodeF16 widens little-endian IEEE half data; len(src) = 2·len(dst).
func DecodeF16(dst []float32, src []byte) {
	table := half()
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = table[binary.LittleEndian.Uint16(src[2*i:])]
	}
}

// DecodeF32 reads little-endian single-precision data; len(src) = 4·len(dst).
func DecodeF32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	if native {
		copy(bytesOf(dst), src)
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// AppendBF16 appends values rounded to bfloat16, little-endian.
func AppendBF16(dst []byte, src []float32) []byte {
	at := len(dst)
	dst = slices.Grow(dst, 2*len(src))[:at+2*len(src)]
	for out := dst[at:]; len(src) > 0; {
		n := narrowBF16Vector(out, src)
		for end := min(n+lanes, len(src)); n < end; n++ { // one is NaN, or these are the last
			binary.LittleEndian.PutUint16(out[2*n:], F32ToBF16(src[n]))
		}
		out, src = out[2*n:], src[n:]
	}
	return dst
}

// AppendF32 appends values as little-endian single precision.
func AppendF32(dst []byte, src []float32) []byte {
	if native {
		return append(dst, bytesOf(src)...)
	}
	at := len(dst)
	dst = slices.Grow(dst, 4*len(src))[:at+4*len(src)]
	for i, f := range src {
		binary.LittleEndian.PutUint32(dst[at+4*i:], math.Float32bits(f))
	}
	return dst
}

// FirstNonFinite returns the index of the first NaN or infinity, or -1.
func FirstNonFinite(src []float32) int {
	const piece = 1024
	for lo := 0; lo < len(src); lo += piece {
		part := src[lo:min(lo+piece, len(src))]
		if absMaxBits(part) < infBits {
			continue
		}
		for i, f := range part {
			if math.Float32bits(f)&absMask >= infBits {
				return lo + i
			}
		}
	}
	return -1
}

// RoundHalfEven rounds to the nearest integer, ties to even; NaN gives 0 and
// values outside int32 saturate.
func RoundHalfEven(f float32) int32 {
	switch {
	case f > -1<<22 && f < 1<<22:
		return roundSmall(f)
	case f != f:
		return 0
	case f >= math.MaxInt32:
		return math.MaxInt32
	case f <= math.MinInt32:
		return math.MinInt32
	}
	return int32(math.RoundToEven(float64(f)))
}
