package kernel

// widen copies codes to 16 bits.
func widen(dst []int16, src []int8) {
	for i := widenVector(dst, src); i < len(src); i++ {
		dst[i] = int16(src[i])
	}
}

// unpackNibbles writes the 2·len(src) int4 codes of src, the first in the low
// half of a byte, as signed bytes.
func unpackNibbles(dst, src []byte) {
	for i := nibblesVector(dst, src); i < len(src); i++ {
		dst[2*i], dst[2*i+1] = byte(int8(src[i]<<4)>>4), byte(int8(src[i])>>4)
	}
}

func sumInt8(x []int8) int32 {
	sum, n := sumInt8Vector(x)
	for _, v := range x[n:] {
		sum += int32(v)
	}
	return sum
}
