//go:build !purego

package kernel

import (
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

// int8 is Int8. Weight rows are turned into a panel, a few at a time; then all
// tokens pass by it. With AVX-512 the panel holds code+128, unsigned, and sums
// begin with −128·Σa, which makes them exact; with AVX2 codes and activations
// are widened to 16 bits.
func (p *panelPath) int8(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, workers *Workers) {
	k, groups := w.Cols, w.ScaleCols()
	x, ldx, done := p.activations(a)
	defer done()
	begin := p.begins(a, w.BlockCols, groups)
	defer begin.free()
	workers.Each(w.Rows, p.width, a.M*k+k, func(lo, hi int) {
		panel := codes(p.width * k * 4 / p.per)
		defer panel.free()
		rows := codes(p.width * k * 2)
		defer rows.free()
		scale := floats(groups * p.width)
		defer scale.free()
		out := floats(len(p.blockInt8) * p.width)
		defer out.free()
		rb := w.RowBytes()
		for j := lo; j < hi; j += p.width {
			r := min(p.width, hi-j)
			p.pack(panel.s, rows.s, w, j, r)
			clear(scale.s)
			for n := range r {
				for g := range groups {
					scale.s[g*p.width+n] = w.Scales[(j+n)*groups+g]
				}
			}
			// What comes next is fetched while this is computed.
			next := w.Codes[min((j+r)*rb, len(w.Codes)-1):min((j+r+p.width)*rb, len(w.Codes))]
			fair(a.M, len(p.blockInt8), func(i, m int) {
				dst, ld := y[i*ldy+j:], ldy
				if r < p.width {
					dst, ld = out.s, p.width
				}
				for g := range groups {
					c := g * w.BlockCols
					steps := min(w.BlockCols, k-c) / p.per
					var token *float32
					if g == groups-1 {
						token = &a.Scale[i]
					}
					p.blockInt8[m-1](&dst[0], ld, &x[i*ldx+c*ldx/k], ldx, &panel.s[c/p.per*p.width*4], steps,
						&begin.s[g*a.M+i], &scale.s[g*p.width], token, min(g, 1), &next[0])
					next = next[min(steps/2*64, len(next)-1):]
				}
				if r < p.width {
					for n := range m {
						copy(y[(i+n)*ldy+j:][:r], out.s[n*p.width:])
					}
				}
			})
		}
	})
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

// pack makes the panel of rows j … j+r−1; columns that are missing hold code 0
// or, unsigned, anything: nobody reads their sums.
func (p *panelPath) pack(panel, rows []byte, w *numeric.Matrix, j, r int) {
	k, rb := w.Cols, w.RowBytes()
	src := w.Codes[j*rb : (j+r)*rb]
	if w.Code == numeric.Int4 {
		for n := range r { // odd columns have no steps
			unpackNibbles(rows[n*k:], src[n*rb:(n+1)*rb])
		}
		src = rows[:r*k]
	}
	if p.per == 4 {
		packWords(panel, p.width, src, k/4, r, 0x80808080)
		return
	}
	wide := take[int16](&wordPool, r*k)
	defer wide.free()
	widen(wide.s, unsafe.Slice((*int8)(unsafe.Pointer(&src[0])), r*k))
	packWords(panel, p.width, unsafe.Slice((*byte)(unsafe.Pointer(&wide.s[0])), 2*r*k), k/2, r, 0)
}

// packWords transposes r rows of n 4-byte words to panel[n][width], xor flip, a
// part of the panel that stays in the first-level cache at a time.
func packWords(panel []byte, width int, src []byte, n, r int, flip uint32) {
	const part = 64
	dst := unsafe.Slice((*uint32)(unsafe.Pointer(&panel[0])), n*width)
	from := unsafe.Slice((*uint32)(unsafe.Pointer(&src[0])), n*r)
	whole, lo := r/8*8, n/4*4
	for c := 0; c < lo; c += part {
		for i := 0; i < whole; i += 8 {
			transpose8AVX2(&dst[c*width+i], width, &from[i*n+c], n, min(part, lo-c), flip)
		}
	}
	for i := range r {
		c := lo
		if i >= whole {
			c = 0
		}
		for ; c < n; c++ {
			dst[c*width+i] = from[i*n+c] ^ flip
		}
	}
}
