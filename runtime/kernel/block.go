package kernel

import "math"

// RMSNorm writes x·(1/√(mean(x²)+eps))·w to dst, which may be x.
func RMSNorm(dst, x, w []float32, eps float64) {
	inv := float32(1 / math.Sqrt(float64(Dot(x, x)/float32(len(x)))+eps))
	dst, w = dst[:len(x)], w[:len(x)]
	for i := normVector(dst, x, w, inv); i < len(x); i++ {
		dst[i] = float32(x[i]*inv) * w[i]
	}
}

// RMSNormRows applies RMSNorm to each row of x [M,K]; dst may be x.
func RMSNormRows(dst, x, w []float32, eps float64) {
	k := len(w)
	for i := 0; i+k <= len(x); i += k {
		RMSNorm(dst[i:i+k], x[i:i+k], w, eps)
	}
}

// SwiGLU writes silu(gate)·up to dst, which may be either; silu(z) = z·sigmoid(z).
func SwiGLU(dst, gate, up []float32) {
	up, dst = up[:len(gate)], dst[:len(gate)]
	for i := swigluVector(dst, gate, up); i < len(dst); i++ {
		z := gate[i]
		dst[i] = float32(z/(1+Exp(-z))) * up[i]
	}
}

// Softmax replaces scores by exp(s − max)/Σ. An empty slice stays empty.
func Softmax(s []float32) {
	if len(s) == 0 {
		return
	}
	top, n := maxVector(s, s[0])
	for _, v := range s[n:] {
		top = max(top, v)
	}
	var lanes [8]float32
	for i := expSumVector(s, top, &lanes); i < len(s); i++ {
		s[i] = Exp(s[i] - top)
		lanes[i&7] += s[i]
	}
	inv := 1 / fold(&lanes)
	for i := scaleVector(s, inv); i < len(s); i++ {
		s[i] *= inv
	}
}

// Exp is e^x in float32 arithmetic: argument reduction by multiples of ln 2 in
// two parts and a polynomial of degree 7 (Taylor coefficients on |r| ≤ 0.347,
// error below 2 ulp). Every step is one rounded operation, so that
// a vector twin can repeat it. Results below 2^-126 are 0; NaN stays NaN.
func Exp(x float32) float32 {
	const (
		log2e = 1.44269504088896341
		hi    = 0.693359375     // 9 bits: n·hi is exact
		lo    = -2.12194440e-4  // ln 2 − hi
		least = -87.33654       // ln of the smallest normal number
		most  = 88.722839355469 // ln of the largest number
	)
	if !(x >= least) {
		if x < least {
			return 0
		}
		return x // NaN
	}
	if x > most {
		return float32(math.Inf(1))
	}
	n := roundEven(float32(x * log2e))
	r := float32(x-float32(n*hi)) - float32(n*lo)
	p := float32(1.0 / 5040)
	p = float32(p*r) + 1.0/720
	p = float32(p*r) + 1.0/120
	p = float32(p*r) + 1.0/24
	p = float32(p*r) + 1.0/6
	p = float32(p*r) + 0.5
	y := float32(float32(p*r)*r) + r
	y++
	// 2^n in two factors: n may be 128, or −126 with y below 1.
	k := int32(n)
	h := k / 2
	return float32(y*pow2(h)) * pow2(k-h)
}

func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// Argmax returns the index of the largest value, the lowest among equals, and
// −1 if there is none. NaN is never the largest.
func Argmax(x []float32) int {
	best, top := -1, float32(math.Inf(-1))
	for i, v := range x {
		if v > top || best < 0 && v == top {
			best, top = i, v
		}
	}
	return best
}
