package calib

import (
	"math"
	"slices"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// trial measures a projection under folds.
type trial struct {
	spec       numeric.Spec
	item       *quant.Item
	rows, cols int
	w, x, y    []float32
	workers    *kernel.Workers
}

// newTrial prepares the trials of a weight w [rows, columns] on inputs x [inputs, columns].
func newTrial(plan *quant.Plan, it *quant.Item, w, x []float32, workers *kernel.Workers) *trial {
	t := &trial{spec: plan.Spec(it), item: it, w: w, x: x, workers: workers}
	t.rows, t.cols = it.Weight.Dims()
	t.y = make([]float32, len(x)/t.cols*t.rows)
	t.each(func(lo, hi int) {
		kernel.Float(t.y[lo:], t.rows, x, len(x)/t.cols, kernel.F32, numeric.AppendF32(nil, w[lo*t.cols:hi*t.cols]), hi-lo, t.cols, nil)
	})
	return t
}

// trialRows is how many rows are quantised and multiplied at a time: whole blocks of
// block scales.
const trialRows = 128

// each calls fn for all rows, trialRows at a time, on several goroutines.
func (t *trial) each(fn func(lo, hi int)) {
	bands := (t.rows + trialRows - 1) / trialRows
	t.workers.Each(bands, 1, trialRows*len(t.x), func(from, to int) {
		for b := from; b < to; b++ {
			fn(b*trialRows, min((b+1)*trialRows, t.rows))
		}
	})
}

// error is the square error of the outputs; infinite where the weight cannot be
// quantised. Its bits do not depend on the number of goroutines.
func (t *trial) error(e fold.Exponents, channel func(int) int) (sum float64) {
	x, by, h := slices.Clone(t.x), make([]float32, t.cols), make([]float32, t.cols)
	for c := range by {
		by[c] = float32(math.Ldexp(1, int(e[channel(c)])))
	}
	for i := range x {
		x[i] /= by[i%t.cols]
		h[i%t.cols] += x[i] * x[i]
	}
	spec := t.spec
	if spec.Rule == numeric.NVFP4 {
		most := float32(0)
		for i, v := range t.w {
			v *= by[i%t.cols]
			most = max(most, v, -v)
		}
		if spec.Global = numeric.GlobalNVFP4(most, numeric.Best, false); spec.Times {
			spec.Global = numeric.TimesNVFP4(most)
		}
	}
	x = rounded(x, t.cols, &t.item.Weight, t.workers)
	sums := make([]float64, (t.rows+trialRows-1)/trialRows)
	t.each(func(lo, hi int) { sums[lo/trialRows] = t.band(spec, x, by, h, lo, hi) })
	for _, s := range sums {
		sum += s
	}
	return sum
}

// band is the square error of rows lo … hi, whose columns are multiplied by by, with
// inputs x; h are the inputs' sums of squares.
func (t *trial) band(spec numeric.Spec, x, by, h []float32, lo, hi int) (sum float64) {
	w := slices.Clone(t.w[lo*t.cols : hi*t.cols])
	for i := range w {
		w[i] *= by[i%t.cols]
	}
	var m *numeric.Matrix
	var err error
	if spec.Code.Bits() == 4 {
		m, err = learn.Weighted(spec, w, hi-lo, t.cols, h)
	} else {
		m, _, err = numeric.Quantize(spec, w, hi-lo, t.cols, nil)
	}
	if err != nil {
		return math.Inf(1)
	}
	m.Dequant(w, 0, hi-lo)
	rows, n := hi-lo, len(x)/t.cols
	y := make([]float32, n*rows)
	kernel.Float(y, rows, x, n, kernel.F32, numeric.AppendF32(nil, w), rows, t.cols, nil)
	for i, v := range y {
		d := float64(v) - float64(t.y[i/rows*t.rows+lo+i%rows])
		sum += d * d
	}
	return sum
}
