//go:build !purego

package rotation

import "github.com/glmconv/glmconv/internal/cpu"

// vectors says whether transforms run on vector instructions
// (internal/asm/walsh); tests turn it off to see the same bits.
var vectors = cpu.Current() >= cpu.AVX2

// walshVector does the stages of runs of 64.
func walshVector(x []float32) bool {
	if !vectors || len(x) < 64 {
		return false
	}
	walsh64AVX2(&x[0], len(x))
	return true
}

// butterflyVector does the whole vectors of a butterfly and returns how many
// columns that is.
func butterflyVector(order int, dst, src []float32, to, from, n int) int {
	if n &^= 7; !vectors || n == 0 {
		return 0
	}
	_, _ = dst[(order-1)*to+n-1], src[(order-1)*from+n-1]
	switch order {
	case 2:
		butterfly2AVX2(&dst[0], &src[0], to, from, n)
	case 4:
		butterfly4AVX2(&dst[0], &src[0], to, from, n)
	default:
		butterfly8AVX2(&dst[0], &src[0], to, from, n)
	}
	return n
}

// mixVector does the whole pairs of vectors of mix.
func (h *Hadamard) mixVector(x []float32, n int) int {
	const most = 64 // parts
	whole := n &^ 15
	if !vectors || whole == 0 || h.k > most || h.k%4 != 0 {
		return 0
	}
	_ = x[(h.k-1)*n+whole-1]
	var pairs [most / 2 * 64]float32
	mixAVX2(&x[0], n, whole, h.k, &h.places[0], &pairs[0])
	return whole
}

func multiplyVector(x, f []float32) int {
	n := len(x) &^ 7
	if !vectors || n == 0 {
		return 0
	}
	_ = f[n-1]
	multiplyAVX2(&x[0], &f[0], n)
	return n
}

func scaleVector(x []float32, s float32) int {
	n := len(x) &^ 7
	if !vectors || n == 0 {
		return 0
	}
	scaleAVX2(&x[0], s, n)
	return n
}
