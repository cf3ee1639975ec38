package kernel

// PanelF32 computes y[i·ldy+j] = Σ x[i·ldx+·]·w[·ldw+j] over k > 0 for i < m and
// j < n, and with add adds to what y holds. An element is one chain over k,
// begun with 0 or with y: k may be cut anywhere and the rest computed with add
// without a difference in any bit. The vector twins fuse the multiplication
// with the addition, the plain kernel rounds both.
func PanelF32(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int, add bool) {
	if m <= 0 || n <= 0 || k <= 0 {
		return
	}
	if (m-1)*ldy+n > len(y) || (m-1)*ldx+k > len(x) || (k-1)*ldw+n > len(w) {
		panic("kernel: a panel leaves its slices")
	}
	if panels == nil {
		panelF32Go(y, ldy, x, ldx, w, ldw, m, n, k, add)
		return
	}
	panels.f32(y, ldy, x, ldx, w, ldw, m, n, k, add)
}

func panelF32Go(y []float32, ldy int, x []float32, ldx int, w []float32, ldw, m, n, k int, add bool) {
	for i := range m {
		row := y[i*ldy:][:n]
		if !add {
			clear(row)
		}
		for t := range k {
			p := x[i*ldx+t]
			for j, v := range w[t*ldw:][:n] {
				row[j] += float32(p * v)
			}
		}
	}
}

// SubF64 computes y[i·ldy+j] −= Σ x[i·ldx+·]·w[·ldw+j] over k > 0 for i < m and
// j < n, an element one chain over k that begins with y, as PanelF32 does.
func SubF64(y []float64, ldy int, x []float64, ldx int, w []float64, ldw, m, n, k int) {
	if m <= 0 || n <= 0 || k <= 0 {
		return
	}
	if (m-1)*ldy+n > len(y) || (m-1)*ldx+k > len(x) || (k-1)*ldw+n > len(w) {
		panic("kernel: a panel leaves its slices")
	}
	if panels != nil {
		panels.subF64(y, ldy, x, ldx, w, ldw, m, n, k)
		return
	}
	for i := range m {
		row := y[i*ldy:][:n]
		for t := range k {
			p := x[i*ldx+t]
			for j, v := range w[t*ldw:][:n] {
				row[j] -= float64(p * v)
			}
		}
	}
}

// Transpose writes dst[c·ldd+r] = src[r·lds+c] for r < rows and c < cols.
func Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	lo := 0
	if panels != nil {
		lo = panels.transposeF32(dst, ldd, src, lds, rows, cols)
	}
	for r := range rows {
		from := lo
		if r >= rows/8*8 {
			from = 0 // rows that fill no vector
		}
		for c := from; c < cols; c++ {
			dst[c*ldd+r] = src[r*lds+c]
		}
	}
}

// fair cuts n rows into as few blocks of at most limit as there can be, as even
// as can be, and calls fn for each.
func fair(n, limit int, fn func(i, rows int)) {
	blocks := (n + limit - 1) / limit
	for b := range blocks {
		lo, hi := b*n/blocks, (b+1)*n/blocks
		fn(lo, hi-lo)
	}
}
