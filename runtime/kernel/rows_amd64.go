//go:build !purego

package kernel

import "github.com/glmconv/glmconv/internal/cpu"

// vectors says whether the loops over rows run on vector instructions. They
// give the same bits; tests turn it off to see that.
var vectors = cpu.Current() >= cpu.AVX2

// The functions below do the first whole turns of a loop and return how many
// elements that was. The other slices are as long as the first.

func turns(n, step int) int {
	if !vectors {
		return 0
	}
	return n / step * step
}

func dotVector(a, b []float32, lanes *[8]float32) int {
	n := turns(len(a), 8)
	if n > 0 {
		dotAVX2(&a[0], &b[0], n, lanes)
	}
	return n
}

func sumVector(a []float32, lanes *[8]float32) int {
	n := turns(len(a), 8)
	if n > 0 {
		sumAVX2(&a[0], n, lanes)
	}
	return n
}

func addVector(dst, v []float32) int {
	n := turns(len(dst), 8)
	if n > 0 {
		addAVX2(&dst[0], &v[0], n)
	}
	return n
}

func addWideVector(dst []float64, v []float32) int {
	n := turns(len(dst), 8)
	if n > 0 {
		addWideAVX2(&dst[0], &v[0], n)
	}
	return n
}

func beyondVector(x, limit []float32, p float32) int {
	n := turns(len(x), 8)
	if n > 0 {
		n = beyondAVX2(&x[0], &limit[0], n, p)
	}
	return n
}

func axpyVector(dst []float32, p float32, v []float32) int {
	n := turns(len(dst), 8)
	if n > 0 {
		axpyAVX2(&dst[0], &v[0], n, p)
	}
	return n
}

func scaleVector(x []float32, p float32) int {
	n := turns(len(x), 8)
	if n > 0 {
		scaleAVX2(&x[0], n, p)
	}
	return n
}

func maxVector(x []float32, top float32) (float32, int) {
	n := turns(len(x), 8)
	if n > 0 {
		top = max(top, maxAVX2(&x[0], n))
	}
	return top, n
}

func normVector(dst, x, w []float32, inv float32) int {
	n := turns(len(x), 8)
	if n > 0 {
		normAVX2(&dst[0], &x[0], &w[0], n, inv)
	}
	return n
}

func swigluVector(dst, gate, up []float32) int {
	n := turns(len(dst), 8)
	if n > 0 {
		swigluAVX2(&dst[0], &gate[0], &up[0], n)
	}
	return n
}

func expSumVector(x []float32, top float32, lanes *[8]float32) int {
	n := turns(len(x), 8)
	if n > 0 {
		expSumAVX2(&x[0], n, top, lanes)
	}
	return n
}

func quantizeVector(q []int8, x []float32, s float32) int {
	n := turns(len(x), 32)
	if n > 0 {
		quantizeInt8AVX2(&q[0], &x[0], n, s)
	}
	return n
}

func sumInt8Vector(x []int8) (int32, int) {
	n := turns(len(x), 32)
	if n == 0 {
		return 0, 0
	}
	return sumInt8AVX2(&x[0], n), n
}

func codeSumsVector(wq, qq, inv *[8]float32, w, h []float32, lo, hi float32) bool {
	if !vectors || len(w) == 0 {
		return false
	}
	codeSumsAVX2(wq, qq, inv, &w[0], &h[0], len(w), lo, hi)
	return true
}
