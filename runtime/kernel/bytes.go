package kernel

func sumInt8(x []int8) int32 {
	sum, n := sumInt8Vector(x)
	for _, v := range x[n:] {
		sum += int32(v)
	}
	return sum
}
