//go:build !purego

package kernel

import (
	"encoding/binary"
	"unsafe"

	"github.com/glmconv/glmconv/quant/numeric"
)

// panelRows is the number of tokens from which on a panel is worth its making.
const panelRows = 4

// suits reports whether the integer panels can compute the product: enough
// tokens, and scale groups of whole steps.
func (p *panelPath) suits(m int, w *numeric.Matrix) bool {
	return p != nil && m >= panelRows && w.Cols%p.per == 0 && (w.ScaleCols() == 1 || w.BlockCols%p.per == 0)
}

// panelCols is how many columns of weights make a panel: 16 or 32 KiB, so that it
// stays in the first-level cache with the activations that pass by.
const panelCols = 512

// part is a run of columns of one scale group.
type part struct {
	lo, n, group int
	first, last  bool // of the group
}

// parts cuts the columns of a weight into batches that make a panel each.
func parts(w *numeric.Matrix) (batches [][]part) {
	room := 0
	for g := range w.ScaleCols() {
		end := min((g+1)*w.BlockCols, w.Cols)
		for c := g * w.BlockCols; c < end; {
			p := part{lo: c, n: min(panelCols, end-c), group: g, first: c == g*w.BlockCols}
			p.last = c+p.n == end
			if p.n > room {
				batches, room = append(batches, nil), panelCols
			}
			b := &batches[len(batches)-1]
			*b, room, c = append(*b, p), room-p.n, c+p.n
		}
	}
	return batches
}

// int8 is Int8. A few columns of a few weight rows are turned into a panel;
// then all tokens pass by it. With AVX-512 the panel holds code+128, unsigned,
// and sums begin with −128·Σa, which makes them exact; with AVX2 codes and
// activations are widened to 16 bits.
func (p *panelPath) int8(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, workers *Workers) {
	k, groups := w.Cols, w.ScaleCols()
	x, ldx, done := p.activations(a)
	defer done()
	begin := p.begins(a, w.BlockCols, groups)
	defer begin.free()
	batches, most := parts(w), len(p.blockInt8)
	workers.Each(w.Rows, p.width, a.M*k+k, func(lo, hi int) {
		panel, rows := codes(p.width*panelCols*4/p.per), codes(p.width*panelCols*2)
		defer panel.free()
		defer rows.free()
		scale, out := floats(groups*p.width), floats(a.M*p.width)
		defer scale.free()
		defer out.free()
		sums := ints(a.M * p.width)
		defer sums.free()
		rb := w.RowBytes()
		for j := lo; j < hi; j += p.width {
			r := min(p.width, hi-j)
			p.scales(scale.s, w, j, r)
			dst, ld := y[j:], ldy
			if r < p.width { // the last columns do not fill a panel
				dst, ld = out.s, p.width
			}
			// The weights that come next are fetched meanwhile.
			next := w.Codes[min((j+r)*rb, len(w.Codes)-1):min((j+r+p.width)*rb, len(w.Codes))]
			turns := (a.M + most - 1) / most * (k / p.per / 4)
			hop := min(128, len(next)/max(turns, 1)+1)
			for _, batch := range batches {
				from := batch[0].lo
				p.pack(panel.s, rows.s, w, j, r, from, batch[len(batch)-1].lo+batch[len(batch)-1].n)
				fair(a.M, most, func(i, m int) {
					for _, b := range batch {
						var init *int32
						var factor, token *float32
						if b.first {
							init = &begin.s[b.group*a.M+i]
						}
						if b.last {
							factor = &scale.s[b.group*p.width]
							if b.group == groups-1 {
								token = &a.Scale[i]
							}
						}
						steps := b.n / p.per
						p.blockInt8[m-1](&dst[i*ld], ld, &x[i*ldx+b.lo*ldx/k], ldx, &panel.s[(b.lo-from)/p.per*p.width*4], steps,
							&sums.s[i*p.width], init, factor, token, min(b.group, 1), &next[0], hop)
						next = skip(next, steps/4*hop)
					}
				})
			}
			if r < p.width {
				for i := range a.M {
					copy(y[i*ldy+j:][:r], out.s[i*p.width:])
				}
			}
		}
	})
}

// scales writes the scales of r rows from row j on as [groups, width].
func (p *panelPath) scales(dst []float32, w *numeric.Matrix, j, r int) {
	clear(dst)
	groups := w.ScaleCols()
	for n := range r {
		for g, s := range w.Scales[(j+n)*groups:][:groups] {
			dst[g*p.width+n] = s
		}
	}
}

// activations returns the codes as the kernels read them and the bytes of a
// row.
func (p *panelPath) activations(a *Int8Rows) (x []byte, ldx int, done func()) {
	if p.per == 4 {
		return unsafe.Slice((*byte)(unsafe.Pointer(&a.Q[0])), len(a.Q)), a.K, func() {}
	}
	buf := take[int16](&wordPool, len(a.Q))
	widen(buf.s, a.Q)
	return unsafe.Slice((*byte)(unsafe.Pointer(&buf.s[0])), 2*len(buf.s)), 2 * a.K, buf.free
}

// begins returns where the sums of each group and token begin, [groups, M].
func (p *panelPath) begins(a *Int8Rows, block, groups int) *scratch[int32] {
	b := ints(groups * a.M)
	clear(b.s)
	if p.per == 4 {
		for i := range a.M {
			row := a.Q[i*a.K:][:a.K]
			for g := range groups {
				b.s[g*a.M+i] = -128 * sumInt8(row[g*block:min((g+1)*block, a.K)])
			}
		}
	}
	return b
}

// pack makes the panel of columns lo … hi−1 of rows j … j+r−1; rows that are
// missing leave what was there: nobody reads their sums.
func (p *panelPath) pack(panel, rows []byte, w *numeric.Matrix, j, r, lo, hi int) {
	n, rb := hi-lo, w.RowBytes()
	src, ld := w.Codes[j*rb:], rb
	if w.Code == numeric.Int4 { // lo and hi are even, or there would be no panel
		for i := range r {
			numeric.UnpackInt4(rows[i*n:], src[i*rb+lo/2:i*rb+hi/2])
		}
		src, ld = rows, n
	} else {
		src = src[lo:]
	}
	if p.per == 4 {
		packWords(panel, p.width, src, ld, n/4, r, 0x80808080)
		return
	}
	packPairs(panel, p.width, src, ld, n, r)
}

// packPairs transposes r rows, ld bytes apart, of n codes, an even number, as
// pairs of int16 to panel[n/2][width].
func packPairs(panel []byte, width int, src []byte, ld, n, r int) {
	_, _ = panel[2*n*width-1], src[(r-1)*ld+n-1]
	dst := unsafe.Slice((*uint32)(unsafe.Pointer(&panel[0])), n/2*width)
	whole, lo := r/8*8, n/16*16
	for i := 0; i < whole && lo > 0; i += 8 {
		transposePairsAVX2(&dst[i], width, &src[i*ld], ld, lo/4, &idle, 0)
	}
	for i := range r {
		c := lo
		if i >= whole {
			c = 0
		}
		for ; c < n; c += 2 {
			first, second := int16(int8(src[i*ld+c])), int16(int8(src[i*ld+c+1]))
			dst[c/2*width+i] = uint32(uint16(first)) | uint32(uint16(second))<<16
		}
	}
}

// packWords transposes r rows, ld bytes apart, of n 4-byte words to
// panel[n][width], xor flip.
func packWords(panel []byte, width int, src []byte, ld, n, r int, flip uint32) {
	_, _ = panel[4*n*width-1], src[(r-1)*ld+4*n-1]
	dst := unsafe.Slice((*uint32)(unsafe.Pointer(&panel[0])), n*width)
	whole, lo := r/16*16, n/16*16
	for i := 0; i < whole && lo > 0; i += 16 {
		transposeWordsAVX512(&dst[i], width, &src[i*ld], ld, lo, flip)
	}
	for i := range r {
		c := lo
		if i >= whole {
			c = 0
		}
		for ; c < n; c++ {
			dst[c*width+i] = binary.LittleEndian.Uint32(src[i*ld+4*c:]) ^ flip
		}
	}
}
