package learn

import (
	"errors"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// Loss is tr((W − Ŵ)H(W − Ŵ)ᵀ) per token, over an eighth of the rows: of what was
// found, of plain rounding and of the weight itself, whose output that is measured
// against.
type Loss struct{ Found, Plain, Size float64 }

// Add adds up losses.
func (l *Loss) Add(o Loss) { l.Found += o.Found; l.Plain += o.Plain; l.Size += o.Size }

// Solve finds codes and scales of w [rows, n], which is not changed. rows that
// share scales come together. Errors are those of numeric.Quantize.
func (b *Basis) Solve(spec numeric.Spec, w []float32, rows int, workers *kernel.Workers) (*numeric.Matrix, Loss, error) {
	plain, _, err := numeric.Quantize(spec, w, rows, b.n, nil)
	if err != nil {
		return nil, Loss{}, err
	}
	m := *plain
	m.Codes, m.Scales = make([]byte, len(plain.Codes)), make([]float32, len(plain.Scales))
	if micro(&spec) {
		m.ScaleCodes = make([]byte, len(plain.ScaleCodes))
	}
	var loss Loss
	step := 96
	if m.BlockRows > 1 {
		step = m.BlockRows
	}
	chunks := (rows + step - 1) / step
	losses, fail := make([]Loss, chunks), make([]error, chunks)
	workers.Each(chunks, 1, step*b.n*b.n*4, func(lo, hi int) {
		for c := lo; c < hi; c++ {
			from, to := c*step, min((c+1)*step, rows)
			losses[c], fail[c] = b.rows(&spec, w[from*b.n:to*b.n], m.Slice(from, to), plain.Slice(from, to))
		}
	})
	for _, l := range losses {
		loss.Add(l)
	}
	return &m, loss, errors.Join(fail...)
}

// job is a run of rows in the making, in the order of the columns.
type job struct {
	b      *Basis
	spec   *numeric.Spec
	rows   int
	target []float32 // W* [rows, n]
	codes  []float32 // values of the codes [rows, n]
	scales []float32 // as stored [rows, groups]; blocks of rows have a copy each
	local  []byte    // of the scales that are stored in a byte [rows, groups]; nil elsewhere
	used   []float32 // as engines use them
	group  int
	lo, hi float32
	moving []bool // rows of which the last sweep changed a code
}

// rows solves a run of rows of the weight.
func (b *Basis) rows(spec *numeric.Spec, w []float32, out, plain *numeric.Matrix) (Loss, error) {
	j := &job{b: b, spec: spec, rows: out.Rows, target: b.correct(w, out.Rows), codes: make([]float32, len(w)), group: out.BlockCols}
	if spec.Code != numeric.E4M3 && spec.Code != numeric.E2M1 {
		j.lo, j.hi = codeRange(spec.Code)
	}
	if err := j.chooseScales(); err != nil {
		return Loss{}, err
	}
	j.gptq()
	j.descend()
	j.store(out)
	return j.compare(w, plain), nil
}

// judged is of how many rows one is looked at for the loss, which is a report.
const judged = 8

// compare returns the loss of some rows of the weight.
func (j *job) compare(w []float32, plain *numeric.Matrix) Loss {
	n, rows := j.b.n, (j.rows+judged-1)/judged
	own, found, rounded := make([]float32, rows*n), make([]float32, rows*n), make([]float32, rows*n)
	for i := range rows {
		r := i * judged
		copy(own[i*n:][:n], w[r*n:])
		plain.Dequant(rounded[i*n:][:n], r, r+1)
		for c, v := range own[i*n:][:n] {
			found[i*n+c], rounded[i*n+c] = v-j.value(r, c), v-rounded[i*n+c]
		}
	}
	return Loss{Found: j.b.loss(found, rows), Plain: j.b.loss(rounded, rows), Size: j.b.loss(own, rows)}
}

// loss is Σ dHdᵀ over rows of d.
func (b *Basis) loss(d []float32, rows int) (sum float64) {
	n := b.n
	hd := make([]float32, rows*n)
	multiply(hd, n, d, n, b.h, n, rows, n, n, false)
	for i, v := range hd {
		sum += float64(v) * float64(d[i])
	}
	return sum
}

// chooseScales fixes the scales on the target.
func (j *job) chooseScales() error {
	n, groups := j.b.n, (j.b.n+j.group-1)/j.group
	j.scales = make([]float32, j.rows*groups)
	if !free(j.spec) && !micro(j.spec) {
		m, _, err := numeric.Quantize(*j.spec, j.target, j.rows, n, nil)
		if err != nil {
			return err
		}
		for r := range j.rows {
			copy(j.scales[r*groups:][:groups], m.Scales[r/m.BlockRows*groups:])
		}
		j.used = j.scales
		if j.spec.FP8Scales {
			j.used = make([]float32, len(j.scales))
			for r := range j.rows {
				copy(j.used[r*groups:][:groups], numeric.VLLMGroupScales(j.scales[r*groups:][:groups]))
			}
		}
		return nil
	}
	h := make([]float32, n)
	for i := range h {
		h[i] = j.b.h[i*n+i]
	}
	j.used = j.scales
	if micro(j.spec) {
		j.local = make([]byte, len(j.scales))
	}
	for r := range j.rows {
		for g := range groups {
			lo, hi, at := g*j.group, min((g+1)*j.group, n), r*groups+g
			if run := j.target[r*n+lo : r*n+hi]; j.local != nil {
				j.local[at] = searchLocal(j.spec, run, h[lo:hi])
				j.scales[at] = j.spec.LocalScale(j.local[at])
			} else {
				j.scales[at] = searchScale(j.spec, run, h[lo:hi])
			}
		}
	}
	return nil
}

// scale is that of an element.
func (j *job) scale(r, c int) float32 {
	return j.used[r*((j.b.n+j.group-1)/j.group)+c/j.group]
}

// value is what an element's code stands for.
func (j *job) value(r, c int) float32 { return j.codes[r*j.b.n+c] * j.scale(r, c) }

// round returns the value of the code nearest to w/s.
func (j *job) round(w, s float32) float32 {
	q := float32(w / s)
	if j.spec.Code == numeric.E4M3 || j.spec.Code == numeric.E2M1 {
		return nearest(j.spec.Code, q)
	}
	q = min(max(q, j.lo), j.hi)
	return float32(q+magic) - magic
}

// gptq rounds column by column in the order of the basis, each error spread over
// the columns to come.
func (j *job) gptq() {
	b, n := j.b, j.b.n
	w := make([]float32, j.rows*n) // in the order
	for r := range j.rows {
		for i, c := range b.order {
			w[r*n+i] = j.target[r*n+c]
		}
	}
	left := make([]float32, j.rows*panel)
	for lo := 0; lo < n; lo += panel {
		hi := min(lo+panel, n)
		for i := lo; i < hi; i++ {
			u, c := b.upper[i*n:][:n], b.order[i]
			for r := range j.rows {
				s := j.scale(r, c)
				q := j.round(w[r*n+i], s)
				j.codes[r*n+c] = q
				e := -(w[r*n+i] - float32(q*s)) / u[i]
				left[r*panel+i-lo] = e
				kernel.Axpy(w[r*n+i+1:r*n+hi], e, u[i+1:hi])
			}
		}
		if hi < n {
			multiply(w[hi:], n, left, panel, b.upper[lo*n+hi:], n, j.rows, n-hi, hi-lo, true)
		}
	}
}

const (
	// renewed is after how many passes the error is computed anew, so that
	// roundings do not add up.
	renewed = 16
	// some is up to how many codes of a row in a panel are taken one by one.
	some = 8
)

// descend goes round the columns of every row while a code of it changes, and fits
// the scales to the codes in between: the loss never grows.
func (j *job) descend() {
	b, n := j.b, j.b.n
	d, r := make([]float32, j.rows*n), make([]float32, j.rows*n)
	j.moving = make([]bool, j.rows)
	for i := range j.moving {
		j.moving[i] = true
	}
	for pass := range max(b.passes, 0) {
		if pass%renewed == 0 {
			runs(j.moving, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					for c := range n {
						d[i*n+c] = j.target[i*n+c] - j.value(i, c)
					}
				}
				multiply(r[lo*n:], n, d[lo*n:], n, b.h, n, hi-lo, n, n, false)
			})
		}
		if !j.sweep(r) || pass+1 == b.passes {
			return
		}
		if free(j.spec) || j.local != nil {
			j.refit(r)
		}
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
	moved := make([]float32, j.rows*panel)

	count, many, again := make([]int, j.rows), make([]bool, j.rows), make([]bool, j.rows)
	for lo := 0; lo < n; lo += panel {
		hi := min(lo+panel, n)
		for i := range j.rows {
			if count[i] = 0; j.moving[i] {
				count[i] = j.columns(i, lo, hi, r[i*n:][:n], moved[i*panel:][:panel])
			}
			again[i] = again[i] || count[i] > 0
			changed = changed || again[i]
			if many[i] = count[i] > some; count[i] == 0 || many[i] {
				continue
			}
			for c, e := range moved[i*panel:][:hi-lo] {
				if e != 0 {
					h := b.h[(lo+c)*n:][:n]
					kernel.Axpy(r[i*n:][:lo], e, h[:lo])
					kernel.Axpy(r[i*n+hi:][:n-hi], e, h[hi:])
				}
			}
		}
		runs(many, func(from, to int) {
			kernel.PanelF32(r[from*n:], n, moved[from*panel:], panel, b.h[lo*n:], n, to-from, lo, hi-lo, true)
			if hi < n {
				kernel.PanelF32(r[from*n+hi:], n, moved[from*panel:], panel, b.h[lo*n+hi:], n, to-from, n-hi, hi-lo, true)
			}
		})
	}
	copy(j.moving, again)
	return changed
}

// columns sweeps columns lo..hi of row i: what each moves by, negated, goes to
// moved, and into r [n] as far as these columns. It counts those that move.
func (j *job) columns(i, lo, hi int, r, moved []float32) (count int) {
	b, n := j.b, j.b.n
	clear(moved)
	for c := lo; c < hi; c++ {
		h := b.h[c*n:][:n]
		s, at := j.scale(i, c), i*n+c
		q := j.round(float32(j.codes[at]*s)+r[c]/h[c], s)
		if q == j.codes[at] {
			continue
		}
		e := -float32((q - j.codes[at]) * s)
		j.codes[at] = q
		moved[c-lo] = e
		count++
		kernel.Axpy(r[lo:hi], e, h[lo:hi])
	}
	return count
}

// refit gives every group of the rows that still move the scale that fits its codes
// best, as stored.
func (j *job) refit(r []float32) {
	b, n := j.b, j.b.n
	groups := (n + j.group - 1) / j.group
	refitted := make([]bool, j.rows)
	for g := range groups {
		lo, hi := g*j.group, min((g+1)*j.group, n)
		k := hi - lo
		ch, d := make([]float32, j.rows*k), make([]float32, j.rows*k)
		runs(j.moving, func(from, to int) {
			kernel.PanelF32(ch[from*k:], k, j.codes[from*n+lo:], n, b.h[lo*n+lo:], n, to-from, k, k, false)
		})
		for i := range j.rows {
			refitted[i] = false
			if !j.moving[i] {
				continue
			}
			var num, den float64
			for c, q := range j.codes[i*n+lo : i*n+hi] {
				num += float64(q) * float64(r[i*n+lo+c])
				den += float64(q) * float64(ch[i*k+c])
			}
			old := j.scales[i*groups+g]
			if !(den > 0) {
				continue
			}
			s := j.moveScale(i*groups+g, float64(old)+num/den)
			if s == old {
				continue
			}
			refitted[i] = true
			for c, q := range j.codes[i*n+lo : i*n+hi] {
				d[i*k+c] = -float32(q * (s - old))
			}
		}
		multiplySome(refitted, r, d, b.h[lo*n:], n, k)
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

// store writes codes and scales.
func (j *job) store(m *numeric.Matrix) {
	n, groups := j.b.n, m.ScaleCols()
	row := make([]byte, n)
	for r := range j.rows {
		for c, q := range j.codes[r*n:][:n] {
			row[c] = encode(m.Code, q)
		}
		if m.Code.Bits() == 4 {
			numeric.PackNibbles(m.Codes[r*m.RowBytes():][:0], row, n)
		} else {
			copy(m.Codes[r*n:], row)
		}
		copy(m.Scales[r/m.BlockRows*groups:][:groups], j.scales[r*groups:])
		if j.local != nil {
			copy(m.ScaleCodes[r*groups:][:groups], j.local[r*groups:])
		}
	}
}
