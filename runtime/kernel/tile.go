package kernel

// The tile kernels are what a twin with vector instructions replaces: they
// compute an M × N block of products from weights that are ready for
// arithmetic, one goroutine each. Everything above them (decoding, scales,
// threads) is shared. The variables are set once at start-up.
var (
	// tileF32 computes y[i·ldy+j] = Dot(x[i·k:][:k], w[j·k:][:k]).
	tileF32 = tileF32Go
	// tileInt8 computes acc[i·lda+j] = DotInt8(x[i·ldx:][:k], w[j·ldw:][:k]).
	tileInt8 = tileInt8Go
)

// TileF32 computes y[i·ldy+j] = Σ x[i·ldx+·]·w[j·ldw+·] over k elements, for
// i < m and j < n, in the order of the package comment.
func TileF32(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int) {
	tileF32(y, ldy, x, ldx, w, ldw, m, n, k)
}

// TileInt8 computes acc[i·lda+j] = Σ x[i·ldx+·]·w[j·ldw+·] over k <= 131,071
// codes, for i < m and j < n, exactly.
func TileInt8(acc []int32, lda int, x []int8, ldx int, w []byte, ldw, m, n, k int) {
	tileInt8(acc, lda, x, ldx, w, ldw, m, n, k)
}

func tileF32Go(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int) {
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
