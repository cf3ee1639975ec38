//go:build !purego

package kernel

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// blockF32 and blockInt8 compute a block of sums, see internal/asm/tile.
type (
	blockF32  = func(y *float32, ldy int, x *float32, ldx int, w *float32, ldw, k, add int)
	blockInt8 = func(y *int32, ldy int, x *int8, ldx int, w *int8, ldw, k, add int)
)

// shape is a block kernel with its rows and columns.
type shape[F any] struct {
	m, n int
	run  F
}

// The shapes of each path, largest first; 1 × 1 fits everywhere.
var (
	f32AVX2 = []shape[blockF32]{{3, 4, tileF32x3x4AVX2}, {2, 4, tileF32x2x4AVX2}, {1, 4, tileF32x1x4AVX2},
		{3, 1, tileF32x3x1AVX2}, {2, 1, tileF32x2x1AVX2}, {1, 1, tileF32x1x1AVX2}}
	f32AVX512 = []shape[blockF32]{{6, 4, tileF32x6x4AVX512}, {4, 4, tileF32x4x4AVX512}, {2, 4, tileF32x2x4AVX512}, {1, 4, tileF32x1x4AVX512},
		{6, 1, tileF32x6x1AVX512}, {4, 1, tileF32x4x1AVX512}, {2, 1, tileF32x2x1AVX512}, {1, 1, tileF32x1x1AVX512}}
	int8AVX2 = []shape[blockInt8]{{3, 4, tileInt8x3x4AVX2}, {2, 4, tileInt8x2x4AVX2}, {1, 4, tileInt8x1x4AVX2},
		{3, 1, tileInt8x3x1AVX2}, {2, 1, tileInt8x2x1AVX2}, {1, 1, tileInt8x1x1AVX2}}
	int8VNNI = []shape[blockInt8]{{4, 4, tileInt8x4x4VNNI}, {2, 4, tileInt8x2x4VNNI}, {1, 4, tileInt8x1x4VNNI},
		{4, 1, tileInt8x4x1VNNI}, {2, 1, tileInt8x2x1VNNI}, {1, 1, tileInt8x1x1VNNI}}
)

// Elements of k that are summed before they go to memory, so that the rows of a
// block stay in the first-level cache. floatRun is part of the order of a sum.
const (
	floatRun = 1024
	int8Run  = 4096
)

func init() {
	switch cpu.Current() {
	case cpu.AVX2:
		tileF32 = vectorF32(f32AVX2)
		tileInt8 = vectorInt8(int8AVX2, 16)
	case cpu.AVX512:
		tileF32 = vectorF32(f32AVX512)
		tileInt8 = vectorInt8(int8VNNI, 1)
	}
}

// vectorF32 makes a tile kernel of block kernels.
func vectorF32(shapes []shape[blockF32]) func(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int) {
	return func(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int) {
		if !inside(m, n, k, len(y), ldy, len(x), ldx, len(w), ldw) {
			return
		}
		if k == 0 {
			tileF32Go(y, ldy, x, ldx, w, ldw, m, n, k)
			return
		}
		for lo := 0; lo < k; lo += floatRun {
			width, add := min(floatRun, k-lo), min(lo, 1)
			blocks(shapes, m, n, func(i, j int, run blockF32) {
				run(&y[i*ldy+j], ldy, &x[i*ldx+lo], ldx, &w[j*ldw+lo], ldw, width, add)
			})
		}
	}
}

// vectorInt8 makes a tile kernel of block kernels that take multiples of step
// elements; the rest is added in plain Go.
func vectorInt8(shapes []shape[blockInt8], step int) func(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
	return func(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
		if !inside(m, n, k, len(acc), lda, len(x), ldx, len(w), ldw) {
			return
		}
		whole := k / step * step
		if whole == 0 {
			tileInt8Go(acc, lda, x, ldx, w, ldw, m, n, k)
			return
		}
		for lo := 0; lo < whole; lo += int8Run {
			width, add := min(int8Run, whole-lo), min(lo, 1)
			blocks(shapes, m, n, func(i, j int, run blockInt8) {
				run(&acc[i*lda+j], lda, &x[i*ldx+lo], ldx, (*int8)(unsafe.Pointer(&w[j*ldw+lo])), ldw, width, add)
			})
		}
		if whole == k {
			return
		}
		for i := range m {
			for j := range n {
				acc[i*lda+j] += DotInt8(x[i*ldx+whole:i*ldx+k], w[j*ldw+whole:j*ldw+k])
			}
		}
	}
}

// inside panics unless every element that a tile touches is in its slice: the
// block kernels do not look. It reports whether there is anything to do.
func inside(m, n, k, y, ldy, x, ldx, w, ldw int) bool {
	if m <= 0 || n <= 0 {
		return false
	}
	if k < 0 || (m-1)*ldy+n > y || (m-1)*ldx+k > x || (n-1)*ldw+k > w {
		panic("kernel: a tile leaves its slices")
	}
	return true
}

// blocks covers an m × n tile with the largest shapes that fit: all columns for
// some rows of x before the next, since it is x that is long.
func blocks[F any](shapes []shape[F], m, n int, fn func(i, j int, run F)) {
	for i := 0; i < m; {
		rows := 1
		for _, s := range shapes {
			if s.m <= m-i {
				rows = s.m
				break
			}
		}
		for j := 0; j < n; {
			cols := 1
			if n-j >= 4 {
				cols = 4
			}
			for _, s := range shapes {
				if s.n == cols && s.m == rows {
					fn(i, j, s.run)
					break
				}
			}
			j += cols
		}
		i += rows
	}
}
