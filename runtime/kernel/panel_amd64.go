//go:build !purego

package kernel

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// panelF32Block and panelInt8Block compute a block of sums, see
// internal/asm/panel.
type (
	panelF32Block  = func(y *float32, ldy int, x *float32, ldx int, w *float32, ldw, k, add int, next *byte, hop int, scale, token *float32, onto int)
	panelF64Block  = func(y *float64, ldy int, x *float64, ldx int, w *float64, ldw, k int)
	fewBF16Block   = func(y *float32, ldy int, x *float32, ldx int, w *byte, ldw, k int)
	panelInt8Block = func(y *float32, ldy int, x *byte, ldx int, w *byte, steps int, acc, init *int32, scale, token *float32, add int, next *byte, hop int,
		rest *byte, runs *int32, from int)
)

// panelPath is a set of panel kernels: those of m rows at index m−1.
type panelPath struct {
	width     int  // columns of a panel
	columns   int  // of int8 weights in a panel: 16 or 32 KiB, which stay in the first-level cache with the activations that pass by
	turn      int  // rows of codes that are turned at a time
	stored    int  // panelRows of int8 codes with one scale a row
	splits    bool // codes of activations, see split_amd64.go
	blockF32  []panelF32Block
	blockInt8 []panelInt8Block
	blockF64  []panelF64Block // half as wide
	fewBF16   []fewBF16Block  // few tokens, see few_amd64.go
}

// idle is what kernels prefetch that have nothing to prefetch.
var idle byte

// panels is the path in use, nil for none.
var panels *panelPath

var (
	panelsAVX2 = &panelPath{width: 16, columns: 1024, turn: 8, stored: 7, splits: true,
		blockF32:  []panelF32Block{panelF32x1AVX2, panelF32x2AVX2, panelF32x3AVX2, panelF32x4AVX2, panelF32x5AVX2, panelF32x6AVX2},
		blockInt8: []panelInt8Block{panelInt8x1AVX2, panelInt8x2AVX2, panelInt8x3AVX2, panelInt8x4AVX2, panelInt8x5AVX2, panelInt8x6AVX2},
		blockF64:  []panelF64Block{panelF64x1AVX2, panelF64x2AVX2, panelF64x3AVX2, panelF64x4AVX2, panelF64x5AVX2, panelF64x6AVX2},
		fewBF16:   []fewBF16Block{fewBF16x1AVX2, fewBF16x2AVX2, fewBF16x3AVX2}}
	panelsAVX512 = &panelPath{width: 64, columns: 512, turn: 16, stored: panelRows,
		blockF32:  []panelF32Block{panelF32x1AVX512, panelF32x2AVX512, panelF32x3AVX512, panelF32x4AVX512, panelF32x5AVX512, panelF32x6AVX512},
		blockInt8: []panelInt8Block{panelInt8x1AVX512, panelInt8x2AVX512, panelInt8x3AVX512, panelInt8x4AVX512, panelInt8x5AVX512, panelInt8x6AVX512},
		blockF64:  []panelF64Block{panelF64x1AVX512, panelF64x2AVX512, panelF64x3AVX512, panelF64x4AVX512, panelF64x5AVX512, panelF64x6AVX512},
		fewBF16:   []fewBF16Block{fewBF16x1AVX512, fewBF16x2AVX512, fewBF16x3AVX512}}
)

func init() {
	switch cpu.Current() {
	case cpu.AVX2:
		panels = panelsAVX2
	case cpu.AVX512, cpu.AMX:
		panels = panelsAVX512
	}
}

// f32 is PanelF32; the caller has checked the slices.
func (p *panelPath) f32(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int, add bool) {
	with := 0
	if add {
		with = 1
	}
	whole := n / p.width * p.width
	for j := 0; j < whole; j += p.width {
		fair(m, len(p.blockF32), func(i, rows int) {
			p.blockF32[rows-1](&y[i*ldy+j], ldy, &x[i*ldx], ldx, &w[j], ldw, k, with, &idle, 0, nil, nil, 0)
		})
	}
	if whole == n {
		return
	}
	// The last columns do not fill a panel: they are computed in one that is
	// filled up.
	buf := floats((k + len(p.blockF32)) * p.width)
	defer buf.free()
	last, out := buf.s[:k*p.width], buf.s[k*p.width:]
	clear(last)
	for t := range k {
		copy(last[t*p.width:], w[t*ldw+whole:t*ldw+n])
	}
	fair(m, len(p.blockF32), func(i, rows int) {
		for r := range rows {
			copy(out[r*p.width:], y[(i+r)*ldy+whole:(i+r)*ldy+n])
		}
		p.blockF32[rows-1](&out[0], p.width, &x[i*ldx], ldx, &last[0], p.width, k, with, &idle, 0, nil, nil, 0)
		for r := range rows {
			copy(y[(i+r)*ldy+whole:(i+r)*ldy+n], out[r*p.width:])
		}
	})
}

// subF64 is SubF64; the caller has checked the slices.
func (p *panelPath) subF64(y []float64, ldy int, x []float64, ldx int, w []float64, ldw, m, n, k int) {
	width := p.width / 2
	whole := n / width * width
	for j := 0; j < whole; j += width {
		fair(m, len(p.blockF64), func(i, rows int) { p.blockF64[rows-1](&y[i*ldy+j], ldy, &x[i*ldx], ldx, &w[j], ldw, k) })
	}
	if whole == n {
		return
	}
	last, out := make([]float64, k*width), make([]float64, len(p.blockF64)*width)
	for t := range k {
		copy(last[t*width:], w[t*ldw+whole:t*ldw+n])
	}
	fair(m, len(p.blockF64), func(i, rows int) {
		for r := range rows {
			copy(out[r*width:], y[(i+r)*ldy+whole:(i+r)*ldy+n])
		}
		p.blockF64[rows-1](&out[0], width, &x[i*ldx], ldx, &last[0], width, k)
		for r := range rows {
			copy(y[(i+r)*ldy+whole:(i+r)*ldy+n], out[r*width:])
		}
	})
}

// transposeF32 does the columns that come in sixteens of the rows that come in
// eights, and returns their number.
func (p *panelPath) transposeF32(dst []float32, ldd int, src []float32, lds, rows, cols int) int {
	cols = cols / 16 * 16
	if cols == 0 || rows < 8 {
		return 0
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	words := func(x []float32, at int) *uint32 { return (*uint32)(unsafe.Pointer(&x[at])) }
	for r := 0; r+8 <= rows; r += 8 {
		transposeWordsAVX2(words(dst, r), ldd, (*byte)(unsafe.Pointer(&src[r*lds])), 4*lds, cols, &idle, 0, 0)
	}
	return cols
}
