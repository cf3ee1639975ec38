package calib

import (
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// SearchFolds chooses the folds of a plan: norms, value rows and up rows give the
// powers of two under which the quantised projections behind them are nearest to
// their float outputs on the statistics' samples (docs/facts/accuracy.md 2.6).
// plan is one without folds or by gamma; it says what each weight is quantised to.
func SearchFolds(ctx context.Context, plan *quant.Plan, src *safetensors.Checkpoint, st *Statistics, workers int) (*fold.Set, error) {
	set := fold.NewSet()
	f := folder{plan: plan, src: src, st: st, items: map[string]*quant.Item{}, workers: kernel.NewWorkers(workers)}
	for i := range plan.Items {
		f.items[plan.Items[i].Name()] = &plan.Items[i]
	}
	for _, site := range plan.FoldSites() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		search := f.rows
		if site.Kind == fold.Norm {
			search = f.norm
		}
		e, err := search(ctx, &site)
		if err != nil {
			return nil, err
		}
		if e != nil {
			set.Put(&site, e)
		}
	}
	return set, nil
}

// folder searches the folds of a plan.
type folder struct {
	plan    *quant.Plan
	src     *safetensors.Checkpoint
	st      *Statistics
	items   map[string]*quant.Item // by name
	workers *kernel.Workers
}

// rows returns the exponents of value or up rows; nil where nothing tells them.
func (f *folder) rows(_ context.Context, site *fold.Site) (fold.Exponents, error) {
	it := f.items[site.Consumers[0].Tensor.Name]
	if it == nil || it.Action != quant.Quantize || !f.plan.Learnable(it) {
		return nil, nil
	}
	m, err := f.st.Shown(f.plan.Config, site.Consumers[0].Tensor)
	if err != nil || m == nil || len(m.keys) == 0 {
		return nil, err
	}
	weight, err := readWeight(f.src, it)
	if err != nil {
		return nil, err
	}
	return searchSite(f.plan, site, it, m, weight, f.workers), nil
}

func gammaOf(src *safetensors.Checkpoint, it *quant.Item) (fold.Exponents, error) {
	gains, err := readWeight(src, it)
	return fold.Gamma(gains), err
}

// readWeight reads a tensor as float32; one of a quantized source is decoded.
func readWeight(src *safetensors.Checkpoint, it *quant.Item) ([]float32, error) {
	if it.Stored != nil {
		var buf layout.Buffer
		m, err := buf.ReadRows(src, *it.Stored, 0, it.Stored.Rows)
		if err != nil {
			return nil, err
		}
		w := make([]float32, m.Rows*m.Cols)
		m.Dequant(w, 0, m.Rows)
		return w, nil
	}
	raw := make([]byte, it.Bytes)
	if err := src.ReadAt(it.Source, it.Offset, raw); err != nil {
		return nil, err
	}
	n, k := it.Weight.Dims()
	w := make([]float32, n*k)
	return w, layout.DecodeFloats(w, raw, it.Source.DType)
}

// searchSite tries the candidates of a site and returns the best exponents.
func searchSite(plan *quant.Plan, site *fold.Site, it *quant.Item, m *Moments, w []float32, workers *kernel.Workers) fold.Exponents {
	_, cols := it.Weight.Dims()
	channel := site.Consumers[0].Channel
	tie := func(v []float64, floor float64) []float64 { // of channels: the largest of the columns that share one
		out := make([]float64, site.Channels)
		for c, x := range v {
			out[channel(c)] = max(out[channel(c)], x, floor)
		}
		return out
	}
	top, column := make([]float64, cols), make([]float64, cols)
	for c, v := range m.AbsMax {
		top[c] = float64(v)
	}
	for i, v := range w {
		column[i%cols] = max(column[i%cols], math.Abs(float64(v)))
	}
	rms := m.MeanSquare()
	for c, v := range rms {
		rms[c] = math.Sqrt(v)
	}
	t := newTrial(plan, it, w, m.Sample(), workers)
	best, found := math.Inf(1), make(fold.Exponents, site.Channels)
	for _, e := range candidates(tie(top, 1e-5), tie(rms, 1e-6), tie(column, 1e-5)) {
		if err := t.error(e, channel); err < best {
			best, found = err, e
		}
	}
	return found
}

// candidates are the different exponents that are tried, no fold first: shares of
// the largest and the mean input against the largest weight of a channel, each of
// geometric mean 1.
func candidates(top, rms, column []float64) []fold.Exponents {
	ones := make([]float64, len(top))
	for i := range ones {
		ones[i] = 1
	}
	out := []fold.Exponents{exponentsOf(ones, 0, ones, 0)}
	for i := range 11 {
		a := float64(i) / 10
		out = append(out, exponentsOf(top, a, column, 1-a))
	}
	for i := 1; i <= 10; i++ {
		a := float64(i) / 10
		out = append(out, exponentsOf(top, a, ones, 0), exponentsOf(rms, a, ones, 0))
	}
	return different(append(out, exponentsOf(ones, 0, column, 0.5), exponentsOf(ones, 0, column, 1)))
}

// different leaves out what is there already.
func different(list []fold.Exponents) (out []fold.Exponents) {
	for _, e := range list {
		if !slices.ContainsFunc(out, func(o fold.Exponents) bool { return slices.Equal(o, e) }) {
			out = append(out, e)
		}
	}
	return out
}

// exponentsOf returns the exponents nearest to stat^a / column^b, of geometric mean 1.
func exponentsOf(stat []float64, a float64, column []float64, b float64) fold.Exponents {
	logs, mean := make([]float64, len(stat)), 0.0
	for i := range stat {
		logs[i] = a*math.Log2(stat[i]) - b*math.Log2(column[i])
		mean += logs[i]
	}
	mean /= float64(len(logs))
	e := make(fold.Exponents, len(logs))
	for i, l := range logs {
		e[i] = int8(math.RoundToEven(min(max(l-mean, -fold.Most), fold.Most)))
	}
	return e
}

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

// scale2 multiplies by a power of two.
func scale2(v float32, e int) float32 { return float32(math.Ldexp(float64(v), e)) }
