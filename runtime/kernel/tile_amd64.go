//go:build !purego

package kernel

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// blockInt8 computes a block of sums, see internal/asm/tile.
type blockInt8 = func(y *int32, ldy int, x *int8, ldx int, w *int8, ldw, k, add int)

// shape is a block kernel with its rows and columns.
type shape struct {
	m, n int
	run  blockInt8
}

// The shapes of each path, largest first; 1 × 1 fits everywhere.
var (
	int8AVX2 = []shape{{3, 4, tileInt8x3x4AVX2}, {2, 4, tileInt8x2x4AVX2}, {1, 4, tileInt8x1x4AVX2},
		{3, 1, tileInt8x3x1AVX2}, {2, 1, tileInt8x2x1AVX2}, {1, 1, tileInt8x1x1AVX2}}
	int8VNNI = []shape{{4, 4, tileInt8x4x4VNNI}, {2, 4, tileInt8x2x4VNNI}, {1, 4, tileInt8x1x4VNNI},
		{4, 1, tileInt8x4x1VNNI}, {2, 1, tileInt8x2x1VNNI}, {1, 1, tileInt8x1x1VNNI}}
)

// int8Run is how many elements of k are summed before the sums go to memory, so
// that the rows of a block stay in the first-level cache.
const int8Run = 4096

func init() {
	switch cpu.Current() {
	case cpu.AVX2:
		tileInt8 = vectorInt8(int8AVX2, 16)
	case cpu.AVX512, cpu.AMX:
		tileInt8 = vectorInt8(int8VNNI, 1)
	}
}

// vectorInt8 makes a tile kernel of block kernels that take multiples of step
// elements; the rest is added in plain Go.
func vectorInt8(shapes []shape, step int) func(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
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
func blocks(shapes []shape, m, n int, fn func(i, j int, run blockInt8)) {
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
