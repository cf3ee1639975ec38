//go:build !purego

package kernel

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/glmconv/glmconv/quant/numeric"
)

// rowSource is a weight that is widened to float32 panels. The product with it
// is one chain over k for each element (PanelF32), or, with sums, one chain for
// each group of columns, whose ends are scaled and added in order.
type rowSource struct {
	rows, cols int
	rowBytes   int // stored
	data       []byte
	group      int // columns of a group: no panel crosses its end; cols for none

	// fill widens columns lo … hi−1 of rows j … j+r−1 to panel[hi−lo][width] and
	// prefetches as the transposing kernels do.
	fill func(panel []float32, width, j, r, lo, hi int, next []byte, hop int)

	sums   bool
	scale  func(dst []float32, j, g int) // of len(dst) rows from j on in group g
	token  func(i, g int) float32        // multiplies the scale
	finish func(i int) float32           // multiplies the result, nil for nothing
}

// product computes y[M,rows] = x[M,cols]·wᵀ.
func (p *panelPath) product(y []float32, ldy int, x []float32, m int, w *rowSource, workers *Workers) {
	k, most := w.cols, len(p.blockF32)
	wide := 8192 / p.width // columns of a panel of 32 KiB
	workers.Each(w.rows, p.width, m*k+k, func(lo, hi int) {
		panel := floats(8192)
		defer panel.free()
		rest := floats((2*m+1)*p.width + m)
		defer rest.free()
		out, part, scale, token := rest.s[:m*p.width], rest.s[m*p.width:2*m*p.width], rest.s[2*m*p.width:][:p.width], rest.s[(2*m+1)*p.width:]
		for j := lo; j < hi; j += p.width {
			r := min(p.width, hi-j)
			dst, ld := y[j:], ldy
			if r < p.width {
				dst, ld = out, p.width
			}
			// What comes next is fetched meanwhile: while panels are made if there
			// are few tokens, else while they pass.
			next := w.data[min((j+r)*w.rowBytes, len(w.data)-1):min((j+r+p.width)*w.rowBytes, len(w.data))]
			making, passing := 128, 0
			if m >= panelRows {
				making, passing = 0, min(64, 2*len(next)/((m+most-1)/most*k)+1)
			}
			for c := 0; c < k; {
				g := c / w.group
				end := min(c+wide, (g+1)*w.group, k)
				w.fill(panel.s, p.width, j, r, c, end, next, making)
				next = skip(next, w.rowBytes*(end-c)/k*p.width*making/128)
				ends := w.sums && (end == k || end%w.group == 0)
				whole := ends && c == g*w.group // the panel has all of the group
				if ends {
					clear(scale)
					w.scale(scale[:r], j, g)
					for i := range m {
						token[i] = w.token(i, g)
					}
				}
				fair(m, most, func(i, rows int) {
					to, ldt, add := dst[i*ld:], ld, min(c, 1)
					var factor, by *float32
					switch {
					case whole:
						add, factor, by = 0, &scale[0], &token[i]
					case w.sums:
						to, ldt, add = part[i*p.width:], p.width, min(c-g*w.group, 1)
					}
					p.blockF32[rows-1](&to[0], ldt, &x[i*k+c], k, &panel.s[0], p.width, end-c, add, &next[0], passing, factor, by, min(g, 1))
					next = skip(next, passing*(end-c)/2)
				})
				if c = end; ends && !whole {
					for i := range m {
						scaledAVX2(&dst[i*ld], &part[i*p.width], &scale[0], p.width, token[i], min(g, 1))
					}
				}
			}
			for i := range m {
				if w.finish != nil {
					Scale(dst[i*ld:][:r], w.finish(i))
				}
				if r < p.width {
					copy(y[i*ldy+j:][:r], out[i*p.width:])
				}
			}
		}
	})
}

// float is Float.
func (p *panelPath) float(y []float32, ldy int, x []float32, m int, t FloatType, w []byte, n, k int, workers *Workers) {
	if t == BF16 && p.few(y, ldy, x, m, w, n, k, workers) {
		return
	}
	src := &rowSource{rows: n, cols: k, rowBytes: k * t.Size(), data: w, group: k}
	src.fill = func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
		rows, ld := w[(j*k+lo)*t.Size():], k*t.Size()
		switch t {
		case BF16:
			widenRows(panel, width, rows, ld, r, hi-lo, 2, func(dst *uint32, src *byte, words, _ int) {
				transposeBF16AVX2(dst, width, src, ld, words, &next[0], hop)
				next = skip(next, words/4*hop)
			}, func(b []byte) float32 { return numeric.BF16ToF32(binary.LittleEndian.Uint16(b)) })
		default:
			buf := floats(r * (hi - lo))
			defer buf.free()
			for i := range r {
				t.Decode(buf.s[i*(hi-lo):][:hi-lo], rows[i*ld:])
			}
			Transpose(panel, width, buf.s, hi-lo, r, hi-lo)
		}
	}
	p.product(y, ldy, x, m, src, workers)
}

// skip drops n bytes of what is only prefetched, but keeps one.
func skip(p []byte, n int) []byte { return p[min(n, len(p)-1):] }

// widenRows turns r rows, ld bytes apart, of n elements, per of them in a word,
// to panel[n][width]: whole words of eight rows by vec, the rest by one.
func widenRows(panel []float32, width int, rows []byte, ld, r, n, per int, vec func(dst *uint32, src *byte, words, row int), one func(b []byte) float32) {
	_, _ = panel[(n-1)*width+r-1], rows[(r-1)*ld+(n*4-1)/per]
	whole, lo := r/8*8, n/(4*per)*(4*per)
	if lo > 0 {
		for i := 0; i < whole; i += 8 {
			vec((*uint32)(unsafe.Pointer(&panel[i])), &rows[i*ld], lo/per, i)
		}
	}
	for i := range r {
		c := lo
		if i >= whole {
			c = 0
		}
		for ; c < n; c++ {
			panel[c*width+i] = one(rows[i*ld+c*4/per:])
		}
	}
}

// widens reports whether codes can be widened in panels: int4 ones by whole
// bytes.
func (p *panelPath) widens(w *numeric.Matrix) bool {
	return p != nil && w.Plain() && (w.Code != numeric.Int4 || w.Cols%2 == 0 && (w.BlockCols%2 == 0 || w.ScaleCols() == 1))
}

// e4m3 is E4M3.
func (p *panelPath) e4m3(y []float32, ldy int, a *E4M3Rows, w *numeric.Matrix, workers *Workers) {
	groups := w.ScaleCols()
	src := &rowSource{rows: w.Rows, cols: w.Cols, rowBytes: w.RowBytes(), data: w.Codes, group: w.BlockCols, sums: true}
	src.scale = func(dst []float32, j, g int) {
		if b := j / w.BlockRows; b == (j+len(dst)-1)/w.BlockRows { // one block of rows
			for n := range dst {
				dst[n] = w.Scales[b*groups+g]
			}
			return
		}
		for n := range dst {
			dst[n] = w.Scales[(j+n)/w.BlockRows*groups+g]
		}
	}
	if a.Group < w.Cols {
		src.token = func(i, g int) float32 { return a.Scale[i*groups+g] }
	} else {
		src.token = func(int, int) float32 { return 1 }
		src.finish = func(i int) float32 { return a.Scale[i] }
	}
	src.fill = fillE4M3(w)
	if w.Code == numeric.Int4 {
		src.fill = fillInt4(w, func(scale *[8]float32, _, _ int) {
			for i := range scale {
				scale[i] = 1
			}
		})
	}
	p.product(y, ldy, a.V, a.M, src, workers)
}

// weightOnly is WeightOnly.
func (p *panelPath) weightOnly(y []float32, ldy int, x []float32, m int, w *numeric.Matrix, workers *Workers) {
	src := &rowSource{rows: w.Rows, cols: w.Cols, rowBytes: w.RowBytes(), data: w.Codes, group: w.Cols}
	src.fill = fillScaled(w)
	switch {
	case w.Code == numeric.E2M1 && w.BlockRows == 1 && w.BlockCols%16 == 0:
		src.fill = fillE2M1(w)
	case w.Code == numeric.Int4:
		src.group = w.BlockCols
		src.fill = fillInt4(w, func(scale *[8]float32, row, col int) {
			for i := range scale {
				if row+i < w.Rows {
					scale[i] = w.Scale(row+i, col)
				}
			}
		})
	}
	p.product(y, ldy, x, m, src, workers)
}

// fillScaled widens codes times their scales.
func fillScaled(w *numeric.Matrix) func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
	const most = 128 // columns at a time: what is turned stays in the first cache
	return func(panel []float32, width, j, r, lo, hi int, _ []byte, _ int) {
		buf := floats(r * most)
		defer buf.free()
		for at := lo; at < hi; at += most {
			n := min(most, hi-at)
			for i := range r {
				w.DequantColumns(buf.s[i*n:], j+i, at, at+n)
			}
			Transpose(panel[(at-lo)*width:], width, buf.s, n, r, n)
		}
	}
}

// fillE2M1 is fillScaled for FP4 in groups of whole sixteens: thirty-two columns
// of eight rows at a time, what is left over as fillScaled does it.
func fillE2M1(w *numeric.Matrix) func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
	groups, rb := w.ScaleCols(), w.RowBytes()
	return func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
		whole, main := r/8*8, (hi-lo)/32*32
		scales, row := floats(main/2+8), floats(hi-lo)
		defer scales.free()
		defer row.free()
		for i := 0; i < whole && main > 0; i += 8 {
			for n := range 8 {
				from := w.Scales[(j+i+n)*groups:][:groups]
				for c := 0; c < main; c += 16 {
					scales.s[c/2+n] = from[(lo+c)/w.BlockCols]
				}
			}
			_, _ = panel[(main-1)*width+i+7], w.Codes[(j+i+7)*rb+(lo+main)/2-1]
			transposeE2M1AVX2((*uint32)(unsafe.Pointer(&panel[i])), width, &w.Codes[(j+i)*rb+lo/2], rb, main/8, &next[0], hop, &scales.s[0])
			next = skip(next, main/32*hop)
		}
		for i := range r {
			at := main
			if i >= whole {
				at = 0
			}
			if at < hi-lo {
				w.DequantColumns(row.s, j+i, lo+at, hi)
			}
			for c := at; c < hi-lo; c++ {
				panel[c*width+i] = row.s[c-at]
			}
		}
	}
}

func fillE4M3(w *numeric.Matrix) func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
	return func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
		rows, nan := w.Codes[j*w.Cols+lo:], uint32(0)
		one := func(b []byte) float32 { return numeric.E4M3ToF32(b[0]) }
		widenRows(panel, width, rows, w.Cols, r, hi-lo, 4, func(dst *uint32, src *byte, words, _ int) {
			transposeE4M3AVX2(dst, width, src, w.Cols, words, &next[0], hop, &nan)
			next = skip(next, words/4*hop)
		}, one)
		if nan != 0 {
			for i := range r {
				for c := range hi - lo {
					panel[c*width+i] = one(rows[i*w.Cols+c:])
				}
			}
		}
	}
}

// fillInt4 widens int4 codes times a scale, which factor writes for eight rows;
// the columns lie in one group.
func fillInt4(w *numeric.Matrix, factor func(scale *[8]float32, row, col int)) func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
	return func(panel []float32, width, j, r, lo, hi int, next []byte, hop int) {
		n, rb := hi-lo, w.RowBytes()
		rows := codes(r * n)
		defer rows.free()
		for i := range r {
			numeric.UnpackInt4(rows.s[i*n:], w.Codes[(j+i)*rb+lo/2:(j+i)*rb+hi/2])
		}
		var scale [8]float32
		widenRows(panel, width, rows.s, n, r, n, 4, func(dst *uint32, src *byte, words, row int) {
			factor(&scale, j+row, lo)
			transposeInt8AVX2(dst, width, src, n, words, &next[0], hop/2, &scale[0])
			next = skip(next, words/4*hop/2)
		}, func([]byte) float32 { return float32(math.NaN()) })
		// What is left over.
		whole, done := r/8*8, n/16*16
		for i := range r {
			c := done
			if i >= whole {
				c = 0
			}
			if c < n {
				factor(&scale, j+i, lo)
			}
			for ; c < n; c++ {
				panel[c*width+i] = float32(float32(int8(rows.s[i*n+c])) * scale[0])
			}
		}
	}
}
