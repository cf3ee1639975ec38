package calib

import (
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// trial measures a projection under folds, some rows of its weight at a time.
type trial struct {
	spec       numeric.Spec
	item       *quant.Item
	rows, cols int
	x          []float32 // inputs [inputs, columns]
	workers    *kernel.Workers
	// interrupted is the error of the run's context.
	interrupted func() error

	part int                                 // rows that are read at a time
	read func(lo, hi int) ([]float32, error) // rows lo … hi of the weight
	held []float32                           // all of it, where that is one part
	most []float32                           // largest magnitude of each column, once it is known
}

// trialRows is how many rows are quantised and multiplied at a time: whole blocks of
// block scales.
const trialRows = 128

// trial prepares the trials of a weight on inputs x [inputs, columns].
func (f *folder) trial(ctx context.Context, it *quant.Item, x []float32) *trial {
	t := &trial{spec: f.plan.Spec(it), item: it, x: x, interrupted: ctx.Err, read: func(lo, hi int) ([]float32, error) { return readRows(f.src, it, lo, hi) }}
	t.rows, t.cols = it.Weight.Dims()
	n := 0
	t.part, n = shareTrial(f.room, t.rows, t.cols, len(x)/t.cols, f.workers.N)
	t.workers = &kernel.Workers{N: n}
	return t
}

// trialInputs is what inputs of a trial take in bytes: themselves, folded, their codes
// and as an engine rounds them.
func trialInputs(cols, inputs int) int64 { return 16 * int64(cols) * int64(inputs) }

// trialRow is what a row of a part takes in bytes, as it is stored and as float32, with
// its outputs.
func trialRow(cols, inputs int) int64 { return 8*int64(cols) + 4*int64(inputs) }

// trialWorker is what a worker takes in bytes: rows that are folded, their codes, those
// decoded, and their outputs.
func trialWorker(cols, inputs int) int64 { return trialRows * (12*int64(cols) + 4*int64(inputs)) }

// shareTrial divides room, bytes of memory, among as many of some workers as half of
// what inputs leave has room for, and a part of the rows of a weight: at least one and
// trialRows.
func shareTrial(room int64, rows, cols, inputs, workers int) (part, n int) {
	room = max(0, room-trialInputs(cols, inputs))
	n = int(max(1, min(int64(workers), room/2/trialWorker(cols, inputs))))
	room = max(0, room-int64(n)*trialWorker(cols, inputs))
	bands := max(1, min(room/trialRow(cols, inputs)/trialRows, int64(rows+trialRows-1)/trialRows))
	return int(bands) * trialRows, n
}

// parts calls fn for all rows of the weight, a part at a time.
func (t *trial) parts(fn func(w []float32) error) error {
	for lo := 0; lo < t.rows; lo += t.part {
		if err := t.interrupted(); err != nil {
			return err
		}
		w := t.held
		if w == nil {
			var err error
			if w, err = t.read(lo, min(lo+t.part, t.rows)); err != nil {
				return err
			}
			if t.part >= t.rows {
				t.held = w
			}
		}
		if err := fn(w); err != nil {
			return err
		}
	}
	return nil
}

// columns returns the largest magnitude of each column.
func (t *trial) columns() ([]float32, error) {
	if t.most != nil {
		return t.most, nil
	}
	most := make([]float32, t.cols)
	err := t.parts(func(w []float32) error {
		for i, v := range w {
			most[i%t.cols] = max(most[i%t.cols], v, -v)
		}
		return nil
	})
	if err == nil {
		t.most = most
	}
	return most, err
}

// errors are the square errors of the outputs under some folds; infinite where the
// weight cannot be quantised. Their bits depend neither on the number of goroutines
// nor on how many rows are read at a time.
func (t *trial) errors(list []fold.Exponents, channel func(int) int) ([]float64, error) {
	if t.spec.Rule == numeric.NVFP4 { // whose global scale is of all of the weight
		if _, err := t.columns(); err != nil {
			return nil, err
		}
	}
	sums := make([]float64, len(list))
	return sums, t.parts(func(w []float32) error {
		rows := len(w) / t.cols
		y := make([]float32, len(t.x)/t.cols*rows)
		t.bands(rows, func(lo, hi int) {
			kernel.Float(y[lo:], rows, t.x, len(t.x)/t.cols, kernel.F32, numeric.AppendF32(nil, w[lo*t.cols:hi*t.cols]), hi-lo, t.cols, nil)
		})
		bands := make([]float64, (rows+trialRows-1)/trialRows)
		for k, e := range list {
			if err := t.interrupted(); err != nil {
				return err
			}
			f := t.folded(e, channel)
			t.bands(rows, func(lo, hi int) { bands[lo/trialRows] = t.band(f, w, y, lo, hi) })
			for _, s := range bands {
				sums[k] += s
			}
		}
		return nil
	})
}

// bands calls fn for all of some rows, trialRows at a time, on several goroutines.
func (t *trial) bands(rows int, fn func(lo, hi int)) {
	t.workers.Each((rows+trialRows-1)/trialRows, 1, trialRows*len(t.x), func(from, to int) {
		for b := from; b < to; b++ {
			fn(b*trialRows, min((b+1)*trialRows, rows))
		}
	})
}

// folded are inputs under folds.
type folded struct {
	spec numeric.Spec
	by   []float32 // what columns of the weight are multiplied by
	x    []float32 // inputs, divided by it and rounded [inputs, columns]
	h    []float32 // sums of squares of the inputs' columns, not rounded
}

// folded folds the inputs.
func (t *trial) folded(e fold.Exponents, channel func(int) int) *folded {
	f := &folded{spec: t.spec, by: make([]float32, t.cols), x: slices.Clone(t.x), h: make([]float32, t.cols)}
	for c := range f.by {
		f.by[c] = float32(math.Ldexp(1, int(e[channel(c)])))
	}
	for i := range f.x {
		c := i % t.cols
		f.x[i] /= f.by[c]
		f.h[c] += f.x[i] * f.x[i]
	}
	if f.spec.Rule == numeric.NVFP4 {
		most := float32(0)
		for c, v := range t.most {
			most = max(most, v*f.by[c])
		}
		if f.spec.Global = numeric.GlobalNVFP4(most, numeric.Best, false); f.spec.Times {
			f.spec.Global = numeric.TimesNVFP4(most)
		}
	}
	f.x = rounded(f.x, t.cols, &t.item.Weight, t.workers)
	return f
}

// band is the square error of rows lo … hi of w [rows, columns] under folds, whose
// outputs are y [inputs, rows].
func (t *trial) band(f *folded, w, y []float32, lo, hi int) (sum float64) {
	all := len(w) / t.cols
	own := slices.Clone(w[lo*t.cols : hi*t.cols])
	for i := range own {
		own[i] *= f.by[i%t.cols]
	}
	var m *numeric.Matrix
	var err error
	if f.spec.Code.Bits() == 4 {
		m, err = learn.Weighted(f.spec, own, hi-lo, t.cols, f.h)
	} else {
		m, _, err = numeric.Quantize(f.spec, own, hi-lo, t.cols, nil)
	}
	if err != nil {
		return math.Inf(1)
	}
	m.Dequant(own, 0, hi-lo)
	rows, n := hi-lo, len(f.x)/t.cols
	out := make([]float32, n*rows)
	kernel.Float(out, rows, f.x, n, kernel.F32, numeric.AppendF32(nil, own), rows, t.cols, nil)
	for i, v := range out {
		d := float64(v) - float64(y[i/rows*all+lo+i%rows])
		sum += d * d
	}
	return sum
}
