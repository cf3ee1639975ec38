package kernel

// widen copies codes to 16 bits.
func widen(dst []int16, src []int8) {
	for i := widenVector(dst, src); i < len(src); i++ {
		dst[i] = int16(src[i])
	}
}

func sumInt8(x []int8) int32 {
	sum, n := sumInt8Vector(x)
	for _, v := range x[n:] {
		sum += int32(v)
	}
	return sum
}
