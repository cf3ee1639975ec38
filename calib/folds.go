package calib

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// FoldOptions says how folds are searched.
type FoldOptions struct {
	Workers   int   // threads at most; 0: one for each CPU that Go may use
	MaxMemory int64 // bytes (0: 1 GiB); no fold depends on it
	// Part of Parts (from 1; 0: the whole) says where a search begins: parts that
	// run at the same time find the folds of different layers, and read the others'.
	Part, Parts int
	// Dir keeps the folds of each layer that is finished, for other commands and
	// parts with the same plan and statistics, which would find the same; "": none.
	Dir      string
	FS       fsx.FS                                 // nil: the operating system's
	Progress func(done, total int64, detail string) // layers
}

// SearchFolds chooses the folds of a plan: norms, value rows and up rows give the
// powers of two under which the quantised projections behind them are nearest to
// their float outputs on the statistics' samples (docs/facts/accuracy.md 2.6).
// plan is one without folds or by gamma; it says what each weight is quantised to.
func SearchFolds(ctx context.Context, plan *quant.Plan, src *safetensors.Checkpoint, st *Statistics, o FoldOptions) (*fold.Set, error) {
	set := fold.NewSet()
	limit := (&CollectOptions{MaxMemory: o.MaxMemory}).limit()
	defer limitHeap(limit)()
	f := folder{plan: plan, src: src, st: st, items: map[string]*quant.Item{}, workers: kernel.NewWorkers(o.Workers),
		room: limit - passBase - itemBytes*int64(len(plan.Items))}
	for i := range plan.Items {
		f.items[plan.Items[i].Name()] = &plan.Items[i]
	}
	layers := byLayer(plan.FoldSites())
	kept := newKeptFolds(plan, st, o)
	first := 0
	if o.Part > 0 && o.Parts > 0 {
		first = (o.Part - 1) * len(layers) / o.Parts
	}
	for i := range layers {
		sites := layers[(first+i)%len(layers)]
		if o.Progress != nil {
			o.Progress(int64(i), int64(len(layers)), fmt.Sprintf("folds, layer %d", sites[0].Layer))
		}
		if kept.read(set, sites) {
			continue
		}
		found := fold.NewSet()
		for j := range sites {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			e, err := f.search(ctx, &sites[j])
			if err != nil {
				return nil, err
			}
			found.Put(&sites[j], e)
			set.Put(&sites[j], e)
		}
		kept.write(found, sites)
	}
	return set, nil
}

// byLayer divides sites, which are in order of layers.
func byLayer(sites []fold.Site) (layers [][]fold.Site) {
	for i := range sites {
		if i == 0 || sites[i].Layer != sites[i-1].Layer {
			layers = append(layers, nil)
		}
		last := &layers[len(layers)-1]
		*last = append(*last, sites[i])
	}
	return layers
}

// folder searches the folds of a plan.
type folder struct {
	plan    *quant.Plan
	src     *safetensors.Checkpoint
	st      *Statistics
	items   map[string]*quant.Item // by name
	workers *kernel.Workers
	room    int64 // bytes of memory for inputs, parts of weights and what workers hold
}

// search returns the exponents of a site; nil where nothing tells them.
func (f *folder) search(ctx context.Context, site *fold.Site) (fold.Exponents, error) {
	if site.Kind == fold.Norm {
		return f.norm(ctx, site)
	}
	return f.rows(ctx, site)
}

// rows returns the exponents of value or up rows; nil where nothing tells them.
func (f *folder) rows(ctx context.Context, site *fold.Site) (fold.Exponents, error) {
	it := f.items[site.Consumers[0].Tensor.Name]
	if it == nil || it.Action != quant.Quantize || !f.plan.Learnable(it) {
		return nil, nil
	}
	m, err := f.st.Shown(f.plan.Config, site.Consumers[0].Tensor)
	if err != nil || m == nil || len(m.keys) == 0 {
		return nil, err
	}
	return searchSite(f.trial(ctx, it, m.Sample()), site, m)
}

func gammaOf(src *safetensors.Checkpoint, it *quant.Item) (fold.Exponents, error) {
	gains, err := readWeight(src, it)
	return fold.Gamma(gains), err
}

// readWeight reads a tensor as float32; one of a quantized source is decoded.
func readWeight(src *safetensors.Checkpoint, it *quant.Item) ([]float32, error) {
	rows, _ := it.Weight.Dims()
	return readRows(src, it, 0, rows)
}

// readRows reads rows lo … hi of a tensor as readWeight does.
func readRows(src *safetensors.Checkpoint, it *quant.Item, lo, hi int) ([]float32, error) {
	if it.Stored != nil {
		return decoded(src, it, lo, hi)
	}
	return widened(src.ReadAt, it, lo, hi)
}

// searchSite tries the candidates of a site and returns the best exponents.
func searchSite(t *trial, site *fold.Site, m *Moments) (fold.Exponents, error) {
	channel := site.Consumers[0].Channel
	tie := func(v []float64, floor float64) []float64 { // of channels: the largest of the columns that share one
		out := make([]float64, site.Channels)
		for c, x := range v {
			out[channel(c)] = max(out[channel(c)], x, floor)
		}
		return out
	}
	largest, err := t.columns()
	if err != nil {
		return nil, err
	}
	top, column := make([]float64, t.cols), make([]float64, t.cols)
	for c := range top {
		top[c], column[c] = float64(m.AbsMax[c]), float64(largest[c])
	}
	rms := m.MeanSquare()
	for c, v := range rms {
		rms[c] = math.Sqrt(v)
	}
	tried := candidates(tie(top, 1e-5), tie(rms, 1e-6), tie(column, 1e-5))
	sums, err := t.errors(tried, channel)
	if err != nil {
		return nil, err
	}
	best, found := math.Inf(1), make(fold.Exponents, site.Channels)
	for k, e := range tried {
		if sums[k] < best {
			best, found = sums[k], e
		}
	}
	return found, nil
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

// scale2 multiplies by a power of two.
func scale2(v float32, e int) float32 { return float32(math.Ldexp(float64(v), e)) }
