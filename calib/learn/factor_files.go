package learn

import "github.com/glmconv/glmconv/runtime/kernel"

// Factors of matrices in files: the sums of package-level cholesky in the same order, a
// panel of columns at a time.

// filed is a Cholesky factor in a file.
type filed struct {
	n       int
	l       *table[float64]
	inverse []float64 // as that of cholesky
	disk    *disk
}

// factorFiles sets root and h of moments in files, which are removed.
func (b *Basis) factorFiles(h *table[float64], mean float64, w *kernel.Workers) error {
	n := b.n
	f := &filed{n: n, l: newTable[float64](n, b.disk), inverse: make([]float64, n*factorLine), disk: b.disk}
	defer f.l.close()
	rows := b.bandOf(8 * n)
	for try := 0; ; try++ {
		buf := make([]float64, rows*n)
		for at := 0; at < n && b.disk.failed() == nil; at += rows {
			k := min(rows, n-at)
			b.permute(buf, n, at, at+k, h, mean, w)
			f.l.keep(at, k, buf)
		}
		whole := f.factorise(w)
		if err := b.disk.failed(); err != nil {
			return err
		}
		if whole {
			break
		}
		if try == tries {
			return ErrSingular
		}
		b.Damp *= 10
	}
	b.moments(h, mean, w)
	b.root = newTable[float32](n, b.disk)
	f.invert(b.root, w)
	f.turn(b.root)
	return b.disk.failed()
}

// factorise replaces the lower half by its Cholesky factor, panel by panel, and reports
// whether there is one.
func (f *filed) factorise(w *kernel.Workers) bool {
	wide := min(f.disk.rows(12*int64(f.n), factorBlock, f.n+factorBlock), f.n)
	buf := make([]float64, f.n*(wide+8))
	for at := 0; at < f.n; at += wide {
		k, rows := min(wide, f.n-at), f.n-at
		p := &cholesky{n: rows, ld: k + 8, inverse: f.inverse[at*factorLine:]}
		p.a = buf[:rows*p.ld]
		f.l.load(p.a, p.ld, at, rows, at, k)
		for t := 0; t < at; t += tileSide {
			f.take(p, at, k, t, min(tileSide, at-t), w)
		}
		if f.disk.failed() != nil || !p.eliminate(k, w) {
			return false
		}
		f.l.store(p.a, p.ld, at, rows, at, k)
	}
	return true
}

// take takes from the panel of columns at … at+wide what columns t … t+deep, which are
// done, make of them.
func (f *filed) take(p *cholesky, at, wide, t, deep int, w *kernel.Workers) {
	own := make([]float64, wide*deep)
	f.l.load(own, deep, at, wide, t, deep)
	before := make([]float64, (wide+factorBlock-1)/factorBlock*deep*factorLine)
	for c := 0; c < wide; c += factorBlock {
		transposed(before[c/factorBlock*deep*factorLine:], own[c*deep:], deep, min(factorBlock, wide-c), deep)
	}
	w.Each(p.n, factorRows, wide*deep, func(from, to int) {
		rows := make([]float64, factorRows*deep)
		for r := from; r < to; r += factorRows {
			m := min(factorRows, to-r)
			f.l.load(rows, deep, at+r, m, t, deep)
			for c := 0; c < wide; c += factorBlock {
				if skip := max(0, c-r); skip < m { // above the diagonal nothing is wanted
					minus(p.a[(r+skip)*p.ld+c:], p.ld, rows[skip*deep:], deep, before[c/factorBlock*deep*factorLine:], m-skip, min(factorBlock, wide-c), deep)
				}
			}
		}
	})
}

// invert writes the inverse of the factor to root, read backwards: U on and above the
// diagonal. It takes some blocks of columns at a time, and rows from above.
func (f *filed) invert(root *table[float32], w *kernel.Workers) {
	n := f.n
	wide := min(f.disk.rows(12*int64(n), factorBlock, n+factorBlock), n)
	left, out := make([]float64, factorBlock*n), make([]float32, factorBlock*wide)
	for first := 0; first < n; first += wide {
		last := min(first+wide, n)
		inv := make([][]float64, (last-first+factorBlock-1)/factorBlock)
		for s := range inv {
			inv[s] = make([]float64, (n-first-s*factorBlock)*factorLine)
		}
		for at := first; at < n && f.disk.failed() == nil; at += factorBlock {
			end := min(at+factorBlock, n)
			deep := at - first
			f.l.load(left, deep, at, end-at, first, deep)
			clear(out)
			w.Each(min(len(inv), deep/factorBlock+1), 1, factorBlock*factorBlock*deep, func(from, to int) {
				sum := make([]float64, factorBlock*factorLine)
				for s := from; s < to; s++ {
					lo := first + s*factorBlock
					block := f.block(inv[s], sum, left, deep, lo, at, end, min(factorBlock, last-lo))
					for i := at; i < end; i++ {
						for k, v := range block[(i-at)*factorLine:][:min(factorBlock, last-lo, i-lo+1)] {
							out[(end-1-i)*wide+last-1-lo-k] = float32(v)
						}
					}
				}
			})
			root.store(out, wide, n-end, end-at, n-last, last-first)
		}
		inv = nil
	}
}

// block computes rows at … end of the inverse in columns lo … lo+width: inv are those
// columns from row lo on, left the rows of the factor from column lo−(at−lo−…) on.
func (f *filed) block(inv, sum, left []float64, deep, lo, at, end, width int) []float64 {
	block := inv[(at-lo)*factorLine : (end-lo)*factorLine]
	clear(block)
	if at == lo {
		for i := range end - at {
			for k, v := range f.inverse[(at+i)*factorLine:][:i+1] {
				block[i*factorLine+k] = -v
			}
		}
		return block
	}
	clear(sum)
	minus(sum, factorLine, left[deep-(at-lo):], deep, inv, end-at, width, at-lo)
	minus(block, factorLine, f.inverse[at*factorLine:], factorLine, sum, end-at, width, end-at)
	return block
}

// turn writes the factor to root, read backwards: the transposed inverse of U below the
// diagonal.
func (f *filed) turn(root *table[float32]) {
	n := f.n
	rows := min(f.disk.rows(8*int64(n), factorBlock, 1024), n)
	buf, part := make([]float32, rows*n), make([]float64, tileSide*rows)
	for lo := 0; lo < n && f.disk.failed() == nil; lo += rows {
		k := min(rows, n-lo)
		hi := lo + k
		root.load(buf, n, lo, k, 0, hi)
		for at := 0; at < hi; at += tileSide { // columns of root, rows of the factor from below
			m := min(tileSide, hi-at)
			f.l.load(part, k, n-at-m, m, n-hi, k)
			for r := lo; r < hi; r++ {
				for c := at; c < min(at+m, r); c++ {
					buf[(r-lo)*n+c] = float32(part[(at+m-1-c)*k+hi-1-r])
				}
			}
		}
		root.store(buf, n, lo, k, 0, hi)
	}
}
