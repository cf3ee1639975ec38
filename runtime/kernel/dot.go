package kernel

// Dot returns Σ a[k]·b[k] over k < len(a) in the order of the package comment;
// len(b) >= len(a).
func Dot(a, b []float32) float32 {
	n := len(a)
	b = b[:n]
	var l [8]float32
	i := dotVector(a, b, &l)
	if i == 0 && n >= 8 {
		i = dotGo(a, b, &l)
	}
	for j := 0; i+j < n; j++ {
		l[j] += float32(a[i+j] * b[i+j])
	}
	return fold(&l)
}

// dotGo writes the lanes of the elements that come in eights.
func dotGo(a, b []float32, lanes *[8]float32) (i int) {
	var l0, l1, l2, l3, l4, l5, l6, l7 float32
	for ; i+8 <= len(a); i += 8 {
		x, w := a[i:i+8:i+8], b[i:i+8:i+8]
		// The conversions forbid fusing: the same bits on every machine.
		l0 += float32(x[0] * w[0])
		l1 += float32(x[1] * w[1])
		l2 += float32(x[2] * w[2])
		l3 += float32(x[3] * w[3])
		l4 += float32(x[4] * w[4])
		l5 += float32(x[5] * w[5])
		l6 += float32(x[6] * w[6])
		l7 += float32(x[7] * w[7])
	}
	*lanes = [8]float32{l0, l1, l2, l3, l4, l5, l6, l7}
	return i
}

// Sum returns Σ a[k] in the order of the package comment.
func Sum(a []float32) float32 {
	var lanes [8]float32
	for i := sumVector(a, &lanes); i < len(a); i++ {
		lanes[i&7] += a[i]
	}
	return fold(&lanes)
}

func fold(l *[8]float32) float32 {
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

// DotInt8 returns the exact Σ a[k]·b[k] of int8 codes over k < len(a), which is
// at most 131,071; b holds the codes as two's complement bytes.
func DotInt8(a []int8, b []byte) int32 {
	n := len(a)
	b = b[:n]
	var s0, s1, s2, s3 int32
	i := 0
	for ; i+4 <= n; i += 4 {
		x, w := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += int32(x[0]) * int32(int8(w[0]))
		s1 += int32(x[1]) * int32(int8(w[1]))
		s2 += int32(x[2]) * int32(int8(w[2]))
		s3 += int32(x[3]) * int32(int8(w[3]))
	}
	for ; i < n; i++ {
		s0 += int32(a[i]) * int32(int8(b[i]))
	}
	return s0 + s1 + s2 + s3
}

// Axpy adds p·v to dst, each element rounded after the product and after the
// sum.
func Axpy(dst []float32, p float32, v []float32) {
	v = v[:len(dst)]
	for i := axpyVector(dst, p, v); i < len(dst); i++ {
		dst[i] += float32(p * v[i])
	}
}

// Add adds v to dst.
func Add(dst, v []float32) {
	v = v[:len(dst)]
	for i := addVector(dst, v); i < len(dst); i++ {
		dst[i] += v[i]
	}
}

// AddWide adds v, as float64, to dst.
func AddWide(dst []float64, v []float32) {
	v = v[:len(dst)]
	for i := addWideVector(dst, v); i < len(dst); i++ {
		dst[i] += float64(v[i])
	}
}

// Beyond returns the number of the first x whose magnitude is not below p·limit,
// len(x) if there is none.
func Beyond(x, limit []float32, p float32) int {
	limit = limit[:len(x)]
	for i := beyondVector(x, limit, p); i < len(x); i++ {
		if !(max(x[i], -x[i]) < p*limit[i]) {
			return i
		}
	}
	return len(x)
}
