//go:build !purego

package kernel

import (
	"github.com/glmconv/glmconv/quant/numeric"
)

// tilesInt8 computes Int8 on matrix tiles, if they suit: exact, so that it may
// depend on the number of tokens.
func tilesInt8(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, workers *Workers) bool {
	if !tiled || a.M < panelRows || a.K == 0 || !wholeGroups(w, 64) {
		return false
	}
	p := matrixProduct(amxInt8, a.int8Tiles(workers), w, 64, fillInt8(w))
	tokens := tokenScales(a.M, a.Scale, 1)
	p.scale = func(acc *float32, sums *byte, ld, j, r, i, cols, g int) {
		var s [amxPanel]float32
		matrixScales(s[:r], w, j, g)
		amxScaledInt8(acc, sums, amxPanel, cols, ld, &s[0], nil, tokens.last(i, g, w.ScaleCols()), min(g, 1))
	}
	p.product(y, ldy, workers)
	return true
}

// wholeGroups reports whether the scale groups of a weight are whole steps of
// some columns, which unpacks int4 by whole bytes.
func wholeGroups(w *numeric.Matrix, step int) bool {
	return (w.ScaleCols() == 1 || w.BlockCols%step == 0) && (w.Code != numeric.Int4 || w.Cols%2 == 0)
}

// matrixProduct is a product with a quantised weight, of whose rows a step has
// so many columns.
func matrixProduct(run [2]amxKernel, x *tokenTiles, w *numeric.Matrix, step int, fill func(dst []byte, j, lo, hi int)) *amxProduct {
	p := &amxProduct{run: run, x: x, rows: w.Rows, group: x.steps, data: w.Codes, rowBytes: w.RowBytes()}
	if w.ScaleCols() > 1 {
		p.group = w.BlockCols / step
	}
	p.fill = func(dst []byte, ld, j, r, lo, hi int) {
		end := min(hi*step, w.Cols)
		for i := range r {
			row := dst[i*ld:][:64*(hi-lo)]
			fill(row, j+i, lo*step, end)
			clear(row[64/step*(end-lo*step):])
		}
	}
	return p
}

// fillInt8 writes codes, a byte each.
func fillInt8(w *numeric.Matrix) func(dst []byte, j, lo, hi int) {
	rb := w.RowBytes()
	if w.Code == numeric.Int4 {
		return func(dst []byte, j, lo, hi int) { numeric.UnpackInt4(dst, w.Codes[j*rb+lo/2:j*rb+hi/2]) }
	}
	return func(dst []byte, j, lo, hi int) { copy(dst, w.Codes[j*rb+lo:j*rb+hi]) }
}

// matrixScales writes the scales of rows from j on in a group.
func matrixScales(dst []float32, w *numeric.Matrix, j, g int) {
	groups := w.ScaleCols()
	for n := range dst {
		dst[n] = w.Scales[(j+n)/w.BlockRows*groups+g]
	}
}

// tokenFactors are factors of tokens, those of a group side by side and filled
// up to whole tiles.
type tokenFactors struct {
	m       int // filled up
	v, ones []float32
}

// tokenScales turns scale[m][groups].
func tokenScales(m int, scale []float32, groups int) *tokenFactors {
	t := &tokenFactors{m: (m + 15) / 16 * 16}
	t.v, t.ones = make([]float32, groups*t.m), make([]float32, t.m)
	for i := range m {
		for g := range groups {
			t.v[g*t.m+i] = scale[i*groups+g]
		}
	}
	for i := range t.ones {
		t.ones[i] = 1
	}
	return t
}

// last returns the tokens' factors from token i on for the last group, ones for
// the others.
func (t *tokenFactors) last(i, g, groups int) *float32 {
	if g == groups-1 {
		return &t.v[i]
	}
	return &t.ones[i]
}
