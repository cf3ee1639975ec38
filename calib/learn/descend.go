package learn

import (
	"slices"

	"github.com/glmconv/glmconv/runtime/kernel"
)

const (
	// renewed is after how many passes the error is computed anew, so that
	// roundings do not add up.
	renewed = 16
	// swept is how many columns are swept before what they move by is added to the
	// others, and some up to how many codes of a row among them are taken one by one.
	swept = 128
	some  = 8
	// near is the share of a step by which a value may be off with its code the
	// nearest whatever is rounded.
	near = 0.499
)

// descend goes round the columns of every row while a code of it changes, and fits
// the scales to the codes in between: the loss never grows. r is (W* − Ŵ)H.
func (j *job) descend(r []float32) {
	b, n := j.b, j.b.n
	j.slab = b.buffer(swept)
	j.moving = make([]bool, j.rows)
	for i := range j.moving {
		j.moving[i] = true
	}
	j.bent, j.stale = make([]float32, len(j.scales)), make([]bool, len(j.scales))
	for i := range j.stale {
		j.stale[i] = true
	}
	j.limits = make([]float32, n)
	for c := range n {
		if j.hi > 0 { // integers: codes of other kinds are not as far from each other everywhere
			j.limits[c] = near * b.diag[c]
		}
	}
	for pass := range b.passes {
		if pass > 0 && pass%renewed == 0 {
			j.renew(r)
		}
		if !j.sweep(r) || pass+1 == b.passes {
			return
		}
		if free(j.spec) || j.local != nil {
			j.refit(r)
		}
	}
}

// renew computes r anew of the rows that still move.
func (j *job) renew(r []float32) {
	n := j.b.n
	runs(j.moving, func(lo, hi int) {
		d := make([]float32, (hi-lo)*n)
		for i := lo; i < hi; i++ {
			for c := range n {
				d[(i-lo)*n+c] = j.target[i*n+c] - j.value(i, c)
			}
		}
		clear(r[lo*n : hi*n])
		j.moments(0, n, 0, n, func(at, k int, h []float32, ld int) {
			multiplyRows(r[lo*n:], n, d[at:], n, h, ld, hi-lo, n, k)
		})
	})
}

// moments calls fn for rows lo … hi and some columns of H, with how many rows come
// before: once where H is in memory, else for a few rows at a time.
func (j *job) moments(lo, hi, col, cols int, fn func(at, k int, h []float32, ld int)) {
	b := j.b
	if b.disk == nil {
		fn(0, hi-lo, b.h.mem[lo*b.n+col:], b.n)
		return
	}
	for at := lo; at < hi; at += swept {
		k := min(swept, hi-at)
		b.h.load(j.slab, cols, at, k, col, cols)
		fn(at-lo, k, j.slab[:k*cols], cols)
	}
}

// runs calls fn for each run of true.
func runs(on []bool, fn func(lo, hi int)) {
	for lo := 0; lo < len(on); lo++ {
		hi := lo
		for hi < len(on) && on[hi] {
			hi++
		}
		if hi > lo {
			fn(lo, hi)
			lo = hi
		}
	}
}

// sweep lets every column of the rows that still move take its best code given the
// others; r is (W* − Ŵ)H and follows. It reports whether a code changed.
func (j *job) sweep(r []float32) (changed bool) {
	b, n := j.b, j.b.n
	moved := make([]float32, j.rows*swept)
	many, again := make([]bool, j.rows), make([]bool, j.rows)
	for lo := 0; lo < n && slices.Contains(j.moving, true); lo += swept {
		hi := min(lo+swept, n)
		h := b.h.view(lo, hi-lo, j.slab)
		for i := range j.rows {
			count := 0
			if j.moving[i] {
				count = j.columns(i, lo, hi, h, r[i*n:][:n], moved[i*swept:][:swept])
			}
			again[i] = again[i] || count > 0
			changed = changed || again[i]
			if many[i] = count > some; count == 0 || many[i] {
				continue
			}
			for c, e := range moved[i*swept:][:hi-lo] {
				if e != 0 {
					h := h[c*n:][:n]
					kernel.Axpy(r[i*n:][:lo], e, h[:lo])
					kernel.Axpy(r[i*n+hi:][:n-hi], e, h[hi:])
				}
			}
		}
		runs(many, func(from, to int) {
			kernel.PanelF32(r[from*n:], n, moved[from*swept:], swept, h, n, to-from, lo, hi-lo, true)
			if hi < n {
				kernel.PanelF32(r[from*n+hi:], n, moved[from*swept:], swept, h[hi:], n, to-from, n-hi, hi-lo, true)
			}
		})
	}
	copy(j.moving, again)
	return changed
}

// columns sweeps columns lo..hi of row i with those rows of H: what each moves by,
// negated, goes to moved, and into r [n] as far as these columns. It counts those that
// move.
func (j *job) columns(i, lo, hi int, rows, r, moved []float32) (count int) {
	n := j.b.n
	groups := (n + j.group - 1) / j.group
	clear(moved)
	for c := lo; c < hi; c++ {
		g := c / j.group
		s, end := j.used[i*groups+g], min((g+1)*j.group, hi)
		if j.hi > 0 {
			if c += kernel.Beyond(r[c:end], j.limits[c:end], max(s, -s)); c == end {
				c--
				continue
			}
		}
		h, at := rows[(c-lo)*n:][:n], i*n+c
		q := j.round(float32(j.codes[at]*s)+r[c]/h[c], s)
		if q == j.codes[at] {
			continue
		}
		e := -float32((q - j.codes[at]) * s)
		j.codes[at], j.stale[i*groups+g] = q, true
		moved[c-lo] = e
		count++
		kernel.Axpy(r[lo:hi], e, h[lo:hi])
	}
	return count
}

// refit gives every group of the rows that still move the scale that fits its codes
// best, as stored.
func (j *job) refit(r []float32) {
	n := j.b.n
	groups := (n + j.group - 1) / j.group
	refitted := make([]bool, j.rows)
	d := make([]float32, j.rows*min(j.group, n))
	for g := range groups {
		lo, hi := g*j.group, min((g+1)*j.group, n)
		k, any := hi-lo, false
		j.bend(g, lo, hi)
		for i := range j.rows {
			at := i*groups + g
			refitted[i] = false
			den := float64(j.bent[at])
			if !j.moving[i] || !(den > 0) {
				continue
			}
			codes, old := j.codes[i*n+lo:i*n+hi], j.scales[at]
			s := j.moveScale(at, float64(old)+float64(kernel.Dot(codes, r[i*n+lo:]))/den)
			if s == old {
				continue
			}
			refitted[i], any = true, true
			for c, q := range codes {
				d[i*k+c] = -float32(q * (s - old))
			}
		}
		if any {
			multiplySome(refitted, r, d, n, k, func(fn func(at, k int, w []float32, ld int)) { j.moments(lo, hi, 0, n, fn) })
		}
	}
}

// bend computes what is not known of cHcᵀ of the codes of group g, columns lo … hi.
func (j *job) bend(g, lo, hi int) {
	n, k := j.b.n, hi-lo
	groups := (n + j.group - 1) / j.group
	rows, codes := make([]int, 0, j.rows), make([]float32, 0, j.rows*k)
	for i := range j.rows {
		if j.moving[i] && j.stale[i*groups+g] {
			rows, codes = append(rows, i), append(codes, j.codes[i*n+lo:i*n+hi]...)
		}
	}
	ch := make([]float32, len(codes))
	if len(rows) > 0 {
		j.moments(lo, hi, lo, k, func(at, some int, h []float32, ld int) {
			multiplyRows(ch, k, codes[at:], k, h, ld, len(rows), k, some)
		})
	}
	for x, i := range rows {
		j.bent[i*groups+g], j.stale[i*groups+g] = kernel.Dot(codes[x*k:][:k], ch[x*k:]), false
	}
}

// moveScale gives a group the scale that is stored for v, unless it has another
// sign or none is, and returns what it has.
func (j *job) moveScale(at int, v float64) float32 {
	old := j.scales[at]
	if j.local != nil {
		j.local[at] = nearestLocal(j.spec, v, j.local[at])
		j.scales[at] = j.spec.LocalScale(j.local[at])
	} else if s := storedScale(j.spec, v); usable(s) && (s > 0) == (old > 0) {
		j.scales[at] = s
	}
	return j.scales[at]
}
