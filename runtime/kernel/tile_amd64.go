//go:build !purego

package kernel

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// The kernels of each path for 1, 2, … tokens, see internal/asm/tile.
var (
	rowsAVX2 = [...]func(y *int32, ldy int, x *int8, ldx int, w *int8, ldw, n, k int, init *int32, rest *byte, counts *int64){
		rowsInt8x1AVX2, rowsInt8x2AVX2, rowsInt8x3AVX2, rowsInt8x4AVX2}
	rowsVNNI = [...]func(y *int32, ldy int, x *int8, ldx int, w *int8, ldw, n, k int, init *int32){
		rowsInt8x1VNNI, rowsInt8x2VNNI, rowsInt8x3VNNI, rowsInt8x4VNNI}
)

func init() {
	switch cpu.Current() {
	case cpu.AVX2:
		tileInt8 = tileInt8AVX2
	case cpu.AVX512, cpu.AMX:
		tileInt8 = tileInt8VNNI
	}
}

func tileInt8VNNI(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
	if !inside(m, n, k, len(acc), lda, len(x), ldx, len(w), ldw) {
		return
	}
	if k == 0 {
		tileInt8Go(acc, lda, x, ldx, w, ldw, m, n, k)
		return
	}
	for i := 0; i < m; {
		rows := min(m-i, len(rowsVNNI))
		var begin [len(rowsVNNI)]int32
		for r := range rows {
			begin[r] = -128 * sumInt8(x[(i+r)*ldx:][:k])
		}
		rowsVNNI[rows-1](&acc[i*lda], lda, &x[i*ldx], ldx, (*int8)(unsafe.Pointer(&w[0])), ldw, n, k, &begin[0])
		i += rows
	}
}

// tileInt8AVX2 leaves the last columns, fewer than a vector has, to plain Go.
func tileInt8AVX2(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
	if !inside(m, n, k, len(acc), lda, len(x), ldx, len(w), ldw) {
		return
	}
	whole := k / 32 * 32
	if whole == 0 {
		tileInt8Go(acc, lda, x, ldx, w, ldw, m, n, k)
		return
	}
	most := min(m, len(rowsAVX2))
	kept, rest := take[int8](&signedPool, most*whole), codes(most*whole/32*chunkBytes)
	defer kept.free()
	defer rest.free()
	for i := 0; i < m; {
		rows, at := min(m-i, most), 0
		var begin [len(rowsAVX2)]int32
		var counts [len(rowsAVX2)]int64
		for r := range rows {
			row := x[(i+r)*ldx:][:whole]
			begin[r] = -128 * sumInt8(row)
			chunks := splitAVX2(&kept.s[r*whole], &rest.s[at], &row[0], whole)
			counts[r], at = int64(chunks), at+chunks*chunkBytes
		}
		rowsAVX2[rows-1](&acc[i*lda], lda, &kept.s[0], whole, (*int8)(unsafe.Pointer(&w[0])), ldw, n, whole, &begin[0], &rest.s[0], &counts[0])
		i += rows
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
