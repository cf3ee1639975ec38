package learn

import (
	"sync"

	"github.com/glmconv/glmconv/runtime/kernel"
)

// Matrices of moments are as wide as weights, often a power of two, and larger than
// caches: columns of a panel lie so far apart that they push each other out. What a
// product reads again and again is copied to a place where they do not.
const (
	copyRows = 256
	copyCols = 256
	copyLine = copyCols + 16 // what a row of a copy takes: no power of two
	// direct is up to how many rows a product reads its factor in place.
	direct = 6
)

var copies = sync.Pool{New: func() any { return new([copyRows * copyLine]float32) }}

// multiply is kernel.PanelF32, to the same bits.
func multiply(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int, add bool) {
	if m <= direct {
		kernel.PanelF32(y, ldy, x, ldx, w, ldw, m, n, k, add)
		return
	}
	buf := copies.Get().(*[copyRows * copyLine]float32)
	defer copies.Put(buf)
	for t := 0; t < k; t += copyRows {
		deep := min(copyRows, k-t)
		for j := 0; j < n; j += copyCols {
			wide := min(copyCols, n-j)
			for r := range deep {
				copy(buf[r*copyLine:][:wide], w[(t+r)*ldw+j:])
			}
			kernel.PanelF32(y[j:], ldy, x[t:], ldx, buf[:], copyLine, m, wide, deep, add || t > 0)
		}
	}
}

// some rows of a product that others do without are gathered, so that they are
// computed together: y += x·w for rows of y [rows, n] and x [rows, k].
func multiplySome(on []bool, y []float32, x []float32, w []float32, n, k int) {
	var rows []int
	for i, v := range on {
		if v {
			rows = append(rows, i)
		}
	}
	if len(rows) == 0 {
		return
	}
	a, b := make([]float32, len(rows)*n), make([]float32, len(rows)*k)
	for i, r := range rows {
		copy(a[i*n:][:n], y[r*n:])
		copy(b[i*k:][:k], x[r*k:])
	}
	multiply(a, n, b, k, w, n, len(rows), n, k, true)
	for i, r := range rows {
		copy(y[r*n:][:n], a[i*n:])
	}
}
