package kernel

// tileInt8 is what a twin with vector instructions replaces: it computes a block
// of products from codes that are ready for arithmetic, on one goroutine. It is
// set once at start-up.
var tileInt8 = tileInt8Go

// TileInt8 computes acc[i·lda+j] = Σ x[i·ldx+·]·w[j·ldw+·] over k <= 131,071
// codes, for i < m and j < n, exactly.
func TileInt8(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
	tileInt8(acc, lda, x, ldx, w, ldw, m, n, k)
}

// tileF32 computes y[i·ldy+j] = Dot(x[i·ldx:][:k], w[j·ldw:][:k]): where there are
// no panels, and for int4 codes whose rows end in the middle of a byte.
func tileF32(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int) {
	for j := range n {
		row := w[j*ldw:][:k]
		for i := range m {
			y[i*ldy+j] = Dot(x[i*ldx:][:k], row)
		}
	}
}

func tileInt8Go(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
	for j := range n {
		row := w[j*ldw:][:k]
		for i := range m {
			acc[i*lda+j] = DotInt8(x[i*ldx:][:k], row)
		}
	}
}
