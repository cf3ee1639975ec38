//go:build !purego

package kernel

import "github.com/glmconv/glmconv/quant/numeric"

// tilesFP4 computes WeightOnly on matrix tiles for FP4 weights with scales of a
// byte: a code times its E4M3 or E8M0 scale is a BF16, so that these products are
// those of BF16 weights with float32 activations (tilesFloat). What local scales
// are divided or multiplied by comes to the whole sum.
func tilesFP4(y []float32, ldy int, x []float32, m int, w *numeric.Matrix, workers *Workers) bool {
	if !tiled || m == 0 || w.Code != numeric.E2M1 || w.ScaleCodes == nil || w.BlockRows != 1 || w.BlockCols%16 != 0 || w.Cols%2 != 0 || w.Cols == 0 {
		return false
	}
	p := &amxProduct{run: amxFloat, x: floatTiles(x, m, w.Cols, 3, workers), rows: w.Rows, data: w.Codes, rowBytes: w.RowBytes()}
	p.group = p.x.steps
	p.fill = func(dst []byte, ld, j, r, lo, hi int) {
		for i := range r {
			fillFP4(dst[i*ld:][:64*(hi-lo)], w, j+i, 32*lo)
		}
	}
	p.product(y, ldy, workers)
	if w.Global != 0 {
		for i := range m {
			byGlobal(y[i*ldy:][:w.Rows], w)
		}
	}
	return true
}

// fillFP4 writes the BF16 of codes times their scales without the global one, from
// column lo on, to whole steps of 32 columns: 0 beyond the last.
func fillFP4(dst []byte, w *numeric.Matrix, row, lo int) {
	end := min(lo+len(dst)/2, w.Cols)
	src := w.Codes[row*w.RowBytes()+lo/2 : row*w.RowBytes()+end/2]
	scales := floats(len(dst) / 32)
	defer scales.free()
	localScales(scales.s, w, row, lo)
	whole := len(src) / 16 * 16
	if whole > 0 {
		amxFP4(&dst[0], &src[0], 2*whole, &scales.s[0])
	}
	if whole < len(src) {
		var last [16]byte
		copy(last[:], src[whole:])
		amxFP4(&dst[4*whole], &last[0], 32, &scales.s[whole/8])
		clear(dst[4*len(src):])
	}
}

// localScales writes the scales of sixteen columns each, 0 beyond the last group.
func localScales(dst []float32, w *numeric.Matrix, row, lo int) {
	n := w.ScaleCols()
	floats, bytes := w.Scales[row*n:][:n], w.ScaleCodes[row*n:][:n]
	for i := range dst {
		g := (lo + 16*i) / w.BlockCols
		switch {
		case g >= n:
			dst[i] = 0
		case w.Global != 0:
			dst[i] = numeric.E4M3ToF32(bytes[g])
		default:
			dst[i] = floats[g]
		}
	}
}

// byGlobal gives sums the global scale.
func byGlobal(y []float32, w *numeric.Matrix) {
	if w.Times {
		Scale(y, w.Global)
		return
	}
	for i := range y {
		y[i] /= w.Global
	}
}
