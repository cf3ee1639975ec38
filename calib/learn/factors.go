package learn

import "github.com/glmconv/glmconv/runtime/kernel"

// u is U, transposedU its transpose and inverseU its transposed inverse.
func (b *Basis) u() factor {
	f := whollyOf(b.root)
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		f.load(dst, t, deep, j, wide)
		if t == j {
			for r := 1; r < deep; r++ {
				clear(dst[r*copyLine:][:min(r, wide)])
			}
		}
	}, side: upper}
}

func (b *Basis) transposedU() factor {
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		if b.disk == nil {
			kernel.Transpose(dst, copyLine, b.root.mem[j*b.n+t:], b.n, wide, deep)
		} else {
			buf := copies.Get().(*[copyRows * copyLine]float32)
			b.root.load(buf[:], copyLine, j, wide, t, deep)
			kernel.Transpose(dst, copyLine, buf[:], copyLine, wide, deep)
			copies.Put(buf)
		}
		clearAbove(dst, t, deep, j, wide)
	}, side: lower}
}

func (b *Basis) inverseU() factor {
	f := whollyOf(b.root)
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		f.load(dst, t, deep, j, wide)
		if t == j {
			for r := range min(deep, wide) {
				dst[r*copyLine+r] = 1 / dst[r*copyLine+r]
			}
		}
		clearAbove(dst, t, deep, j, wide)
	}, side: lower}
}

// whollyOf is a factor of all of a matrix.
func whollyOf(t *table[float32]) factor {
	if t.disk == nil {
		return plainly(t.mem, t.n)
	}
	return factor{load: func(dst []float32, row, deep, col, wide int) { t.load(dst, copyLine, row, deep, col, wide) }}
}

// clearAbove clears what lies above the diagonal of a block on it.
func clearAbove(dst []float32, t, deep, j, wide int) {
	for r := 0; t == j && r < deep; r++ {
		clear(dst[r*copyLine+min(r+1, wide):][:max(0, wide-r-1)])
	}
}

// half is what H adds up to with its transpose: H above the diagonal, half of what
// is on it.
func (b *Basis) half() factor {
	f := whollyOf(b.h)
	return factor{load: func(dst []float32, t, deep, j, wide int) {
		f.load(dst, t, deep, j, wide)
		for r := 0; t == j && r < deep; r++ {
			clear(dst[r*copyLine:][:min(r, wide)])
			if r < wide {
				dst[r*copyLine+r] /= 2
			}
		}
	}, side: upper}
}
