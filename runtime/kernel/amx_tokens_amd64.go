//go:build !purego

package kernel

import (
	"math"
	"unsafe"
)

// turnTiles makes tiles of m tokens of n bytes a term. row writes all terms of
// a token, each a row of whole steps, ld bytes apart; what it leaves is 0.
func turnTiles(m, n, terms int, workers *Workers, row func(dst []byte, ld, i int)) *tokenTiles {
	t := &tokenTiles{m: m, tiles: (m + 15) / 16, steps: (n + 63) / 64, terms: terms, step: 1024}
	if m == 1 {
		t.step = 64
	}
	size := t.steps * t.terms * t.step // of sixteen tokens
	raw := make([]byte, t.tiles*size+64)
	t.data = raw[-uintptr(unsafe.Pointer(&raw[0]))&63:][:t.tiles*size]
	ld := 64*t.steps + 64
	workers.Each(t.tiles, 1, 16*n*terms, func(lo, hi int) {
		for tile := lo; tile < hi; tile++ {
			rows := codes(16 * terms * ld)
			clear(rows.s)
			for i := range min(16, m-16*tile) {
				row(rows.s[i*ld:], 16*ld, 16*tile+i)
			}
			out := t.data[tile*size:][:size]
			for s := range t.steps {
				for term := range terms {
					from, to := rows.s[16*ld*term+64*s:], out[(s*terms+term)*t.step:]
					if m == 1 {
						copy(to[:64], from)
						continue
					}
					transposeWordsAVX512((*uint32)(unsafe.Pointer(&to[0])), 16, &from[0], ld, 16, 0)
				}
			}
			rows.free()
		}
	})
	return t
}

// int8Tiles returns the tiles of codes.
func (a *Int8Rows) int8Tiles(workers *Workers) *tokenTiles {
	return a.turned.get(func() *tokenTiles {
		return turnTiles(a.M, a.K, 1, workers, func(dst []byte, _, i int) {
			copy(dst, unsafe.Slice((*byte)(unsafe.Pointer(&a.Q[i*a.K])), a.K))
		})
	})
}

// floatTiles returns the tiles of the first BF16 terms of numbers.
func floatTiles(x []float32, m, k, terms int, workers *Workers) *tokenTiles {
	split := amxSplit3
	if terms == 1 {
		split = amxSplit1
	}
	return turnTiles(m, 2*k, terms, workers, func(dst []byte, next, i int) {
		whole := k / 32 * 32
		if whole > 0 {
			split(&dst[0], next, &x[i*k], whole)
		}
		if whole == k {
			return
		}
		var last [32]float32
		var terms3 [3 * 64]byte
		copy(last[:], x[i*k+whole:][:k-whole])
		split(&terms3[0], 64, &last[0], 32)
		for t := range terms {
			copy(dst[t*next+2*whole:], terms3[64*t:][:2*(k-whole)])
		}
	})
}

// bf16Table is the table of amxTable for codes of a byte: the BF16 of the
// magnitude of each where bit 7 is clear.
func bf16Table(value func(code byte) float32) *[256]byte {
	t := new([256]byte)
	for i := range 128 {
		h := math.Float32bits(value(byte(i))) >> 16
		t[i], t[128+i] = byte(h), byte(h>>8)
	}
	return t
}
