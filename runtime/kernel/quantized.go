package kernel

import "github.com/glmconv/glmconv/quant/numeric"

// Int8 computes y[M,N] from int8 activations and a weight of int8 or int4
// codes: exact integer sums over each scale block along K, then scales
// (package comment: W8A8, W4A8). w has BlockRows 1.
func Int8(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, workers *Workers) {
	if tilesInt8(y, ldy, a, w, workers) {
		return
	}
	if panels.suits(a.M, w) {
		panels.int8(y, ldy, a, w, workers)
		return
	}
	int8Tiles(y, ldy, a, w, workers)
}

// int8Tiles is Int8 by dot products: few tokens, and any widths.
func int8Tiles(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, workers *Workers) {
	k, groups := w.Cols, w.ScaleCols()
	block := rowBlock
	if w.Code != numeric.Int4 { // nothing to unpack: what is done once a call is done less often
		block *= 4
	}
	workers.Each(w.Rows, rowBlock, a.M*k+k, func(lo, hi int) {
		acc := ints(a.M * block)
		defer acc.free()
		var unpacked []byte
		if w.Code == numeric.Int4 {
			buf := codes(rowBlock * k)
			defer buf.free()
			unpacked = buf.s
		}
		for j := lo; j < hi; j += block {
			r := min(block, hi-j)
			rows := int8Rows(unpacked, w, j, r)
			if groups == 1 {
				tileInt8(acc.s, block, a.Q, k, rows, k, a.M, r, k)
				scales := w.Scales[j:][:r]
				for i := range a.M {
					out, sums, t := y[i*ldy+j:][:r], acc.s[i*block:][:r], a.Scale[i]
					for n, s := range scales {
						out[n] = float32(float32(sums[n])*s) * t
					}
				}
				continue
			}
			for g := range groups {
				c := g * w.BlockCols
				width := min(w.BlockCols, k-c)
				tileInt8(acc.s, block, a.Q[c:], k, rows[c:], k, a.M, r, width)
				for i := range a.M {
					for n := range r {
						v := float32(acc.s[i*block+n]) * w.Scales[(j+n)*groups+g]
						if o := &y[i*ldy+j+n]; g == 0 {
							*o = v
						} else {
							*o += v
						}
					}
				}
			}
			for i := range a.M {
				for n := range r {
					y[i*ldy+j+n] *= a.Scale[i]
				}
			}
		}
	})
}

// int8Rows returns r rows of codes from row j on, a byte each.
func int8Rows(buf []byte, w *numeric.Matrix, j, r int) []byte {
	rb := w.RowBytes()
	src := w.Codes[j*rb : (j+r)*rb]
	if w.Code != numeric.Int4 {
		return src
	}
	return numeric.UnpackNibbles(buf[:0], src, w.Cols)
}

// E4M3 computes y[M,N] from FP8 activations and a weight of E4M3 or int4 codes
// (package comment: FP8, FP8 128, W4A8-FP8). Activations have one scale per
// token, or per token and group of w.BlockCols columns.
func E4M3(y []float32, ldy int, a *E4M3Rows, w *numeric.Matrix, workers *Workers) {
	if tilesE4M3(y, ldy, a, w, workers) {
		return
	}
	if panels.widens(w) {
		panels.e4m3(y, ldy, a, w, workers)
		return
	}
	k, groups := w.Cols, w.ScaleCols()
	perGroup := a.Group < k
	workers.Each(w.Rows, rowBlock, a.M*k+k, func(lo, hi int) {
		part := floats(a.M * rowBlock)
		defer part.free()
		buf := floats(rowBlock * k)
		defer buf.free()
		raw := codes(rowBlock * k)
		defer raw.free()
		for j := lo; j < hi; j += rowBlock {
			r := min(rowBlock, hi-j)
			values(buf.s[:r*k], raw.s, w, j, r)
			for g := range groups {
				c := g * w.BlockCols
				width := min(w.BlockCols, k-c)
				tileF32(part.s, rowBlock, a.V[c:], k, buf.s[c:], k, a.M, r, width)
				for i := range a.M {
					for n := range r {
						s := w.Scales[(j+n)/w.BlockRows*groups+g]
						if perGroup {
							s *= a.Scale[i*groups+g]
						}
						v := float32(part.s[i*rowBlock+n] * s)
						if o := &y[i*ldy+j+n]; g == 0 {
							*o = v
						} else {
							*o += v
						}
					}
				}
			}
			if perGroup {
				continue
			}
			for i := range a.M {
				for n := range r {
					y[i*ldy+j+n] *= a.Scale[i]
				}
			}
		}
	})
}

// values widens r rows of codes from row j on, without scales.
func values(dst []float32, raw []byte, w *numeric.Matrix, j, r int) {
	if w.Code == numeric.E4M3 {
		numeric.DecodeE4M3(dst, w.Codes[j*w.Cols:])
		return
	}
	rows := int8Rows(raw, w, j, r)
	for i := range dst {
		dst[i] = float32(int8(rows[i]))
	}
}

// WeightOnly computes y[M,N] = x[M,K]·ŵᵀ with ŵ = code·scale rounded to
// float32 and unquantised activations (W4A16).
func WeightOnly(y []float32, ldy int, x []float32, m int, w *numeric.Matrix, workers *Workers) {
	if tilesFP4(y, ldy, x, m, w, workers) {
		return
	}
	if panels.widens(w) {
		panels.weightOnly(y, ldy, x, m, w, workers)
		return
	}
	k := w.Cols
	workers.Each(w.Rows, rowBlock, m*k+k, func(lo, hi int) {
		buf := floats(rowBlock * k)
		defer buf.free()
		for j := lo; j < hi; j += rowBlock {
			r := min(rowBlock, hi-j)
			w.Dequant(buf.s[:r*k], j, j+r)
			tileF32(y[j:], ldy, x, k, buf.s, k, m, r, k)
		}
	})
}
