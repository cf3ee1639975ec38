package learn

import "github.com/glmconv/glmconv/runtime/kernel"

// Moments in files: the same sums in the same order as in memory, a band of rows at a
// time.

// NewGramIn returns empty sums over inputs of n columns that are in files of a room.
// Close removes those, unless NewBasis has taken them.
func NewGramIn(n int, cross bool, room Room) *Gram {
	d := &disk{Room: room}
	g := &Gram{N: n, disk: d, served: newBlocks(tokens, n), h: newTable[float64](n, d)}
	if cross {
		g.c, g.float = newTable[float64](n, d), newBlocks(tokens, n)
	}
	return g
}

// InFiles reports whether the sums are in files, so that inputs are read several times.
func (g *Gram) InFiles() bool { return g.disk != nil }

// Close removes the files of sums that are not needed any more.
func (g *Gram) Close() error {
	if g == nil || g.disk == nil {
		return nil
	}
	g.h.close()
	g.c.close()
	g.H, g.C = nil, nil
	g.disk.Interrupted = nil // what matters is whether they are gone
	return g.disk.failed()
}

// bandRows is how many rows of both sums are held at a time.
func (g *Gram) bandRows() int { return min(g.disk.rows(24*int64(g.N), strip, g.N+strip), g.N) }

// band writes the rows that were summed and begins the next ones.
func (g *Gram) band(w *kernel.Workers) bool {
	n := g.N
	if g.begun {
		g.flush(w)
		g.h.store(g.H, n, g.from, g.to-g.from, 0, n)
		if g.c != nil {
			g.c.store(g.C, n, g.from, g.to-g.from, 0, n)
		}
		g.from = g.to
	}
	if g.begun = true; g.from == n || g.disk.failed() != nil {
		g.H, g.C, g.served, g.float = nil, nil, nil, nil
		return false
	}
	g.to = min(g.from+g.bandRows(), n)
	rows := g.to - g.from
	g.H = cleared(g.H, rows*n)
	if g.c != nil {
		g.C = cleared(g.C, rows*n)
	}
	return true
}

// cleared is n zeros, in x if they fit.
func cleared(x []float64, n int) []float64 {
	if cap(x) < n {
		return make([]float64, n)
	}
	x = x[:n]
	clear(x)
	return x
}

// each calls fn for the sums in files, a band of rows at a time, which it may change.
func (g *Gram) each(fn func(t *table[float64], row int, x []float64)) {
	rows := g.bandRows()
	buf := make([]float64, rows*g.N)
	for _, t := range []*table[float64]{g.h, g.c} {
		for row := 0; t != nil && row < g.N && g.disk.failed() == nil; row += rows {
			k := min(rows, g.N-row)
			x := t.view(row, k, buf)
			fn(t, row, x)
			t.keep(row, k, x)
		}
	}
}

func (g *Gram) finishFiles(w *kernel.Workers) {
	n := g.N
	if g.Count > 0 {
		g.each(func(_ *table[float64], _ int, x []float64) {
			w.Each(len(x)/n, 8, n, func(lo, hi int) { divide(x[lo*n:hi*n], g.Count) })
		})
	}
	g.mirror()
	g.Count = 1
}

// mirror copies what lies above the diagonal of H below it, and notes the diagonal.
func (g *Gram) mirror() {
	n, rows := g.N, g.bandRows()
	g.diag = make([]float64, n)
	buf, part := make([]float64, rows*n), make([]float64, rows*tileSide)
	for lo := 0; lo < n && g.disk.failed() == nil; lo += rows {
		k := min(rows, n-lo)
		x := g.h.view(lo, k, buf)
		for at := 0; at < lo+k; at += tileSide {
			m := min(tileSide, lo+k-at)
			g.h.load(part, k, at, m, lo, k)
			for i := range k {
				for j := at; j < min(at+m, lo+i); j++ {
					x[i*n+j] = part[(j-at)*k+i]
				}
			}
		}
		for i := range k {
			g.diag[lo+i] = x[i*n+lo+i]
		}
		g.h.keep(lo, k, x)
	}
}

// shrinkFiles is Shrink.
func (g *Gram) shrinkFiles(prior *Gram, weight float64) {
	buf := make([]float64, g.bandRows()*g.N)
	g.each(func(t *table[float64], row int, x []float64) {
		own, all := prior.H, prior.h
		if t == g.c {
			own, all = prior.C, prior.c
		}
		if all != nil {
			own = all.view(row, len(x)/g.N, buf)
			g.disk.fail(prior.disk.failed())
		} else {
			own = own[row*g.N:]
		}
		mix(x, own[:len(x)], weight)
	})
	g.Count += weight
}

// diagonal is that of finished moments.
func (g *Gram) diagonal() []float64 {
	if g.disk != nil {
		return g.diag
	}
	d := make([]float64, g.N)
	for i := range d {
		d[i] = g.H[i*g.N+i]
	}
	return d
}
