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
// share scales come together. Errors are those of numeric.Quantize, and of the files
// of the basis.
func (b *Basis) Solve(spec numeric.Spec, w []float32, rows int, workers *kernel.Workers) (*numeric.Matrix, Loss, error) {
	return b.SolveRows(spec, rows, func(lo, hi int) ([]float32, error) { return w[lo*b.n : hi*b.n], nil }, workers)
}

// SolveRows is Solve of a weight that is read some rows at a time: all of them unless
// the basis is in files.
func (b *Basis) SolveRows(spec numeric.Spec, rows int, read func(lo, hi int) ([]float32, error), workers *kernel.Workers) (*numeric.Matrix, Loss, error) {
	var m *numeric.Matrix
	losses := make([]Loss, (rows+judged-1)/judged)
	band := rows
	if b.disk != nil {
		workers = b.disk.workers(workers, (solveRow*least+4*swept)*int64(b.n)+WorkerBytes)
		if band = b.disk.rows(solveRow*int64(b.n), least, rows+least); band < rows {
			align := max(spec.BlockRows, 1) // rows that share scales, and are judged, as in one run
			for align%judged != 0 {
				align += max(spec.BlockRows, 1)
			}
			band = max(band/align, 1) * align
		}
	}
	for lo := 0; lo < rows; lo += band {
		hi := min(lo+band, rows)
		w, err := read(lo, hi)
		if err != nil {
			return nil, Loss{}, err
		}
		plain, _, err := numeric.Quantize(spec, w, hi-lo, b.n, nil)
		if err != nil {
			return nil, Loss{}, err
		}
		if m == nil {
			m = empty(plain, rows, micro(&spec))
		}
		if err := b.run(&spec, w, lo, m.Slice(lo, hi), plain, losses, workers); err != nil {
			return nil, Loss{}, err
		}
	}
	var loss Loss
	for _, l := range losses {
		loss.Add(l)
	}
	return m, loss, nil
}

// solveRow is what a row takes while it is solved, in bytes for each column: itself,
// its target, codes and errors, and blocks of two products.
const solveRow = 32

// SolveBytes is what a weight [rows, cols] takes while it is solved in memory, beside
// its basis, however many rows are solved at the same time.
func SolveBytes(rows, cols int) int64 { return solveRow * int64(rows) * int64(cols) }

// WorkerBytes is what each worker holds besides, whatever the size of a weight:
// blocks of two factors, and of a tile of one in a file.
const WorkerBytes = 2*4*copyRows*copyLine + 8*tileSide*tileSide

// empty is a matrix of some rows like one of fewer, without codes.
func empty(like *numeric.Matrix, rows int, micro bool) *numeric.Matrix {
	m := *like
	m.Rows = rows
	m.Codes, m.Scales = make([]byte, rows*m.RowBytes()), make([]float32, m.ScaleRows()*m.ScaleCols())
	if micro {
		m.ScaleCodes = make([]byte, len(m.Scales))
	}
	return &m
}

// run solves rows from first on.
func (b *Basis) run(spec *numeric.Spec, w []float32, first int, out, plain *numeric.Matrix, losses []Loss, workers *kernel.Workers) error {
	rows := plain.Rows
	step := chunk(rows, plain.BlockRows, workers)
	fail := make([]error, (rows+step-1)/step)
	workers.Each(len(fail), 1, step*b.n*b.n*4, func(lo, hi int) {
		for c := lo; c < hi; c++ {
			from, to := c*step, min((c+1)*step, rows)
			next := (first + from + judged - 1) / judged // of the rows that are judged
			fail[c] = b.rows(spec, w[from*b.n:to*b.n], out.Slice(from, to), plain.Slice(from, to), next*judged-first-from, losses[next:])
		}
	})
	return errors.Join(append(fail, b.disk.failed())...)
}

// least is how few rows are solved together.
const least = 48

// chunk is how many rows are solved together: blocks of moments are copied once for
// all of them, so the more the better, as long as all workers have as many. No bit
// depends on it.
func chunk(rows, blockRows int, w *kernel.Workers) int {
	const most = 384
	workers := 1
	if w != nil {
		workers = max(w.N, 1)
	}
	turns := (rows + workers*most - 1) / (workers * most)
	n := max((rows+workers*turns-1)/(workers*turns), least)
	return (n + blockRows - 1) / blockRows * blockRows
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
	moving []bool    // rows of which the last sweep changed a code
	limits []float32 // what columns times a scale can be off by before a code changes [n]
	bent   []float32 // cHcᵀ of the codes c of a group [rows, groups]
	stale  []bool    // groups of which it is not known [rows, groups]
	slab   []float32 // for some rows of H [swept, n], if that is in files
}

// rows solves a run of rows of the weight. Of every judged-th row from first on the
// loss goes to losses.
func (b *Basis) rows(spec *numeric.Spec, w []float32, out, plain *numeric.Matrix, first int, losses []Loss) error {
	j := &job{b: b, spec: spec, rows: out.Rows, target: b.correct(w, out.Rows), codes: make([]float32, len(w)), group: out.BlockCols}
	if spec.Code != numeric.E4M3 && spec.Code != numeric.E2M1 {
		j.lo, j.hi = codeRange(spec.Code)
	}
	if err := j.chooseScales(); err != nil {
		return err
	}
	if rest := j.rounded(); b.passes > 0 {
		j.descend(rest)
	}
	j.store(out)
	j.compare(w, plain, first, losses)
	return nil
}

// judged is of how many rows one is looked at for the loss, which is a report.
const judged = 8

// compare writes the losses of some rows of the weight.
func (j *job) compare(w []float32, plain *numeric.Matrix, first int, losses []Loss) {
	n := j.b.n
	rows := (j.rows - first + judged - 1) / judged
	d, e := newBlocks(3*rows, n), make([]float32, 2*n)
	found, rounded := e[:n], e[n:]
	for i := range rows {
		r := first + i*judged
		own := w[r*n:][:n]
		plain.Dequant(rounded, r, r+1)
		for c, v := range own {
			found[c], rounded[c] = v-j.value(r, c), v-rounded[c]
		}
		d.set(i, own)
		d.set(rows+i, found)
		d.set(2*rows+i, rounded)
	}
	sums := j.b.losses(d)
	for i := range rows {
		losses[i] = Loss{Found: sums[rows+i], Plain: sums[2*rows+i], Size: sums[i]}
	}
}

// losses are dHdᵀ of rows of d.
func (b *Basis) losses(d *blocks) []float64 {
	hd, sums := newBlocks(d.rows, d.cols), make([]float64, d.rows)
	multiply(hd, d, b.half())
	for at := 0; at < len(d.x); at += copyLine { // what is between rows is 0
		for i, v := range hd.x[at:][:copyCols] {
			sums[at/copyLine%d.rows] += 2 * float64(v) * float64(d.x[at+i])
		}
	}
	return sums
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
	h := j.b.diag
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
// the columns to come. The errors as they are spread go to left, E with W* − Ŵ =
// −E·U; w is overwritten.
func (j *job) gptq(w, left *blocks) {
	b, n := j.b, j.b.n
	row := make([]float32, n)
	for r := range j.rows {
		for i, c := range b.order {
			row[i] = j.target[r*n+c]
		}
		w.set(r, row)
	}
	square, root := make([]float32, copyCols*copyLine), whollyOf(b.root)
	for at := 0; at < n; at += copyCols {
		wide := min(copyCols, n-at)
		multiplyBlock(w, left, root, at, at)
		root.load(square, at, wide, at, wide)
		for lo := 0; lo < wide; lo += panel {
			hi := min(lo+panel, wide)
			x, e := w.block(at), left.block(at)
			kernel.PanelF32(x[lo:], copyLine, e, copyLine, square[lo:], copyLine, j.rows, hi-lo, lo, true)
			for r := range j.rows {
				j.panel(r, at+lo, x[r*copyLine+lo:][:hi-lo], e[r*copyLine+lo:], square[lo*copyLine+lo:])
			}
		}
	}
}

// panel rounds the columns of row r from the one with number lo on, whose values are
// w; u is the square of U that belongs to them.
func (j *job) panel(r, lo int, w, left, u []float32) {
	b := j.b
	for i := range w {
		c := b.order[lo+i]
		v, s := w[i], j.scale(r, c)
		q := j.round(v, s)
		e := -(v - float32(q*s)) / u[i*copyLine+i]
		j.codes[r*b.n+c], left[i] = q, e
		kernel.Axpy(w[i+1:], e, u[i*copyLine+i+1:])
	}
}

// rounded rounds with gptq and returns (W* − Ŵ)H, from the errors that were spread:
// −E·U·H with H = U⁻¹U⁻ᵀ. It is nil where nothing descends from there.
func (j *job) rounded() []float32 {
	n := j.b.n
	x, left := newBlocks(j.rows, n), newBlocks(j.rows, n)
	if j.gptq(x, left); j.b.passes <= 0 {
		return nil
	}
	clear(x.x)
	multiply(x, left, j.b.inverseU())
	out, row := make([]float32, j.rows*n), make([]float32, n)
	for r := range j.rows {
		x.get(r, row)
		for i, c := range j.b.order {
			out[r*n+c] = -row[i]
		}
	}
	return out
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
