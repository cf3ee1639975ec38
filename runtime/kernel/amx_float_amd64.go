//go:build !purego

package kernel

import "github.com/glmconv/glmconv/quant/numeric"

// tilesFloat computes Float on matrix tiles for a BF16 weight.
func tilesFloat(y []float32, ldy int, a *FloatRows, t FloatType, w []byte, n int, workers *Workers) bool {
	k := a.K
	if !tiled || t != BF16 || a.M == 0 || k == 0 {
		return false
	}
	x := a.turned.get(func() *tokenTiles { return floatTiles(a.X, a.M, k, 3, workers) })
	p := &amxProduct{run: amxFloat, x: x, rows: n, data: w, rowBytes: 2 * k}
	p.group = p.x.steps
	p.fill = func(dst []byte, ld, j, r, lo, hi int) {
		end := min(64*hi, 2*k)
		for i := range r {
			row := dst[i*ld:][:64*(hi-lo)]
			clear(row[copy(row, w[2*k*(j+i)+64*lo:2*k*(j+i)+end]):])
		}
	}
	p.product(y, ldy, workers)
	return true
}

// tilesE4M3 computes E4M3 on matrix tiles, if the weight suits.
func tilesE4M3(y []float32, ldy int, a *E4M3Rows, w *numeric.Matrix, workers *Workers) bool {
	if !tiled || a.M == 0 || a.K == 0 || !wholeGroups(w, 32) {
		return false
	}
	groups := w.ScaleCols()
	x := a.turned.get(func() *tokenTiles { return floatTiles(a.V, a.M, a.K, 1, workers) })
	p := matrixProduct(amxBF16, x, w, 32, fillTable(w))
	perGroup := a.Group < w.Cols
	per := 1
	if perGroup {
		per = groups
	}
	tokens := tokenScales(a.M, a.Scale, per)
	p.scale = func(acc *float32, sums *byte, ld, j, r, i, cols, g int) {
		var s [amxPanel]float32
		matrixScales(s[:r], w, j, g)
		token, last := &tokens.ones[i], tokens.last(i, g, groups)
		if perGroup {
			token, last = &tokens.v[g*tokens.m+i], token
		}
		amxScaledFloat(acc, sums, amxPanel, cols, ld, &s[0], token, last, min(g, 1))
	}
	p.product(y, ldy, workers)
	return true
}

// The tables of E4M3 and of integers, of which int4 has −8 … 7.
var (
	e4m3Table = bf16Table(numeric.E4M3ToF32)
	int4Table = bf16Table(func(code byte) float32 {
		if code >= 64 { // the low bits of a negative number
			return float32(128 - int(code))
		}
		return float32(code)
	})
)

// fillTable widens codes to BF16, which holds all of them.
func fillTable(w *numeric.Matrix) func(dst []byte, j, lo, hi int) {
	widen := func(dst, src []byte, table *[256]byte) {
		n := len(src) / 64 * 64
		if n > 0 {
			amxTable(&dst[0], &src[0], n, table)
		}
		if n < len(src) {
			var from [64]byte
			var to [128]byte
			copy(from[:], src[n:])
			amxTable(&to[0], &from[0], 64, table)
			copy(dst[2*n:], to[:2*(len(src)-n)])
		}
	}
	if w.Code == numeric.Int4 {
		rb := w.RowBytes()
		return func(dst []byte, j, lo, hi int) {
			bytes := codes(hi - lo)
			defer bytes.free()
			numeric.UnpackInt4(bytes.s, w.Codes[j*rb+lo/2:j*rb+hi/2])
			widen(dst, bytes.s, int4Table)
		}
	}
	return func(dst []byte, j, lo, hi int) { widen(dst, w.Codes[j*w.Cols+lo:j*w.Cols+hi], e4m3Table) }
}
