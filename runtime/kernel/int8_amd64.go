//go:build !purego

package kernel

import (
	"encoding/binary"
	"unsafe"

	"github.com/glmconv/glmconv/quant/numeric"
)

// panelRows is the number of tokens from which on a panel is worth its making:
// of codes that dot products take as they are stored, more on some paths.
const panelRows = 4

// suits reports whether the integer panels can compute the product: enough
// tokens, and scale groups of whole steps.
func (p *panelPath) suits(m int, w *numeric.Matrix) bool {
	if p == nil || w.Cols%4 != 0 {
		return false
	}
	if w.Code == numeric.Int8 && w.ScaleCols() == 1 {
		return m >= p.stored
	}
	return m >= panelRows && (w.ScaleCols() == 1 || w.BlockCols%4 == 0)
}

// part is a run of columns of one scale group.
type part struct {
	lo, n, group int
	first, last  bool // of the group
	number       int  // of the part
}

// parts cuts the columns of a weight into batches that make a panel each, and
// returns where the parts end too.
func (p *panelPath) parts(w *numeric.Matrix) (batches [][]part, ends []int) {
	room := 0
	for g := range w.ScaleCols() {
		end := min((g+1)*w.BlockCols, w.Cols)
		for c := g * w.BlockCols; c < end; {
			x := part{lo: c, n: min(p.columns, end-c), group: g, first: c == g*w.BlockCols, number: len(ends)}
			x.last = c+x.n == end
			if x.n > room {
				batches, room = append(batches, nil), p.columns
			}
			b := &batches[len(batches)-1]
			*b, room, c = append(*b, x), room-x.n, c+x.n
			ends = append(ends, c)
		}
	}
	return batches, ends
}

// int8Panels is a product on integer panels.
type int8Panels struct {
	*panelPath
	a     *Int8Rows
	w     *numeric.Matrix
	x     *splitRows
	begin []int32 // where the sums of each group and token begin, [groups, M]

	batches [][]part
	runs    [][2]int32 // of the pieces of x, [parts, M]
}

// int8 is Int8. A few columns of a few weight rows are turned into a panel;
// then all tokens pass by it. The panel holds code+128, unsigned, and sums begin
// with −128·Σa, which makes them exact.
func (p *panelPath) int8(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, workers *Workers) {
	begin := begins(a, w.BlockCols, w.ScaleCols())
	defer begin.free()
	q := int8Panels{panelPath: p, a: a, w: w, x: p.whole(a), begin: begin.s}
	var ends []int
	q.batches, ends = p.parts(w)
	q.runs = q.x.cut(ends, 4*p.width)
	workers.Each(w.Rows, p.width, a.M*w.Cols+w.Cols, func(lo, hi int) { q.rows(y, ldy, lo, hi) })
}

// rows computes the outputs of rows lo … hi−1 of the weight.
func (q *int8Panels) rows(y []float32, ldy, lo, hi int) {
	p, w, m := q.panelPath, q.w, q.a.M
	panel, rows := codes(p.width*p.columns), codes(p.width*p.columns)
	defer panel.free()
	defer rows.free()
	scale, out, sums := floats(w.ScaleCols()*p.width), floats(m*p.width), ints(m*p.width)
	defer scale.free()
	defer out.free()
	defer sums.free()
	rb, most := w.RowBytes(), len(p.blockInt8)
	for j := lo; j < hi; j += p.width {
		r := min(p.width, hi-j)
		p.scales(scale.s, w, j, r)
		dst, ld := y[j:], ldy
		if r < p.width { // the last columns do not fill a panel
			dst, ld = out.s, p.width
		}
		// The weights that come next are fetched meanwhile.
		next := w.Codes[min((j+r)*rb, len(w.Codes)-1):min((j+r+p.width)*rb, len(w.Codes))]
		turns := (m + most - 1) / most * (w.Cols / 16)
		hop := min(128, len(next)/max(turns, 1)+1)
		for _, batch := range q.batches {
			from := batch[0].lo
			p.pack(panel.s, rows.s, w, j, r, from, batch[len(batch)-1].lo+batch[len(batch)-1].n)
			fair(m, most, func(i, rows int) {
				for _, b := range batch {
					q.block(&dst[i*ld], ld, i, rows, b, &panel.s[(b.lo-from)*p.width], &sums.s[i*p.width], scale.s, next, hop)
					next = skip(next, b.n/16*hop)
				}
			})
		}
		if r < p.width {
			for i := range m {
				copy(y[i*ldy+j:][:r], out.s[i*p.width:])
			}
		}
	}
}

// block computes a part of the sums of m tokens from token i on.
func (q *int8Panels) block(y *float32, ldy, i, m int, b part, panel *byte, sums *int32, scale []float32, next []byte, hop int) {
	var init *int32
	var factor, token *float32
	if b.first {
		init = &q.begin[b.group*q.a.M+i]
	}
	if b.last {
		factor = &scale[b.group*q.width]
		if b.group == q.w.ScaleCols()-1 {
			token = &q.a.Scale[i]
		}
	}
	var rest *byte
	var runs *int32
	if len(q.x.pieces) > 0 {
		rest, runs = (*byte)(unsafe.Pointer(&q.x.pieces[0])), &q.runs[b.number*q.a.M+i][0]
	}
	q.blockInt8[m-1](y, ldy, &q.x.codes[i*q.a.K+b.lo], q.a.K, panel, b.n/4, sums, init, factor, token, min(b.group, 1), &next[0], hop,
		rest, runs, b.lo*q.width)
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

// begins returns where the sums of each group and token begin, [groups, M].
func begins(a *Int8Rows, block, groups int) *scratch[int32] {
	b := ints(groups * a.M)
	for i := range a.M {
		row := a.Q[i*a.K:][:a.K]
		for g := range groups {
			b.s[g*a.M+i] = -128 * sumInt8(row[g*block:min((g+1)*block, a.K)])
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
	p.packWords(panel, src, ld, n/4, r)
}

// packWords transposes r rows, ld bytes apart, of n words, four codes each, to
// panel[n][width], unsigned.
func (p *panelPath) packWords(panel, src []byte, ld, n, r int) {
	const flip = 0x80808080
	_, _ = panel[4*n*p.width-1], src[(r-1)*ld+4*n-1]
	dst := unsafe.Slice((*uint32)(unsafe.Pointer(&panel[0])), n*p.width)
	whole, lo := r/p.turn*p.turn, n/16*16
	for i := 0; i < whole && lo > 0; i += p.turn {
		if p.turn == 16 {
			transposeWordsAVX512(&dst[i], p.width, &src[i*ld], ld, lo, flip)
		} else {
			transposeWordsAVX2(&dst[i], p.width, &src[i*ld], ld, lo, &idle, 0, flip)
		}
	}
	for i := range r {
		c := lo
		if i >= whole {
			c = 0
		}
		for ; c < n; c++ {
			dst[c*p.width+i] = binary.LittleEndian.Uint32(src[i*ld+4*c:]) ^ flip
		}
	}
}
