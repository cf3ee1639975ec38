package calib

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// MeasureOptions say what sensitivities are measured on.
type MeasureOptions struct {
	Sequences [][]int // token ids, other ones than codes are learnt from
	Workers   int
	MaxMemory int64 // bytes (0: 1 GiB)
	// Scratch is a folder for codes of a layer where MaxMemory has no room for them;
	// "": they stay in memory.
	Scratch  string
	FS       fsx.FS
	Progress func(done, total int64, detail string)
	// Known and Keep read and store a measurement under an identity of all that it
	// depends on; nil: nothing is kept.
	Known func(id string) (kl float64, ok bool)
	Keep  func(map[string]float64) error
}

// meter measures models of which some weights are quantized against the float
// one: all of them run over the same tokens, layer by layer.
type meter struct {
	o       MeasureOptions
	st      *Statistics
	plan    *quant.Plan
	files   *floats
	float   *runtime.Model
	served  *runtime.Model
	over    *overlay
	workers *kernel.Workers
	codes   map[*quant.Plan]quant.Codes
	room    int64 // bytes of memory for codes of a layer
	shelf   shelf
}

// trialModel is the model with the weights of some units, or of all, quantized.
type trialModel struct {
	plan  *quant.Plan
	unit  string // "": all
	layer int    // of the unit; -1: all
	codes quant.Codes

	states []float32 // nil: those of the float model
	spans  []runtime.Span
}

// measuredPrefix is that of the files of codes that are measured.
const measuredPrefix = "measured-"

func newMeter(plan *quant.Plan, src *safetensors.Checkpoint, st *Statistics, o MeasureOptions) (m *meter, err error) {
	m = &meter{o: o, st: st, plan: plan, workers: kernel.NewWorkers(o.Workers), codes: map[*quant.Plan]quant.Codes{}}
	// Parts of a conversion may measure at the same time, in the same folder.
	m.shelf = shelf{fs: fsx.Or(o.FS), file: filepath.Join(o.Scratch, fmt.Sprintf("%s%016x.bin", measuredPrefix, rand.Uint64())), room: &m.room, shared: true}
	if o.Scratch != "" {
		if err := sweepShelves(m.shelf.fs, o.Scratch, measuredPrefix); err != nil {
			return nil, err
		}
	}
	if m.files, err = newFloats(plan.Config, src, plan.Folds); err != nil {
		return nil, err
	}
	model := func(over bool) (*runtime.Model, error) {
		p, err := m.files.provider(plan.Config)
		if err != nil {
			return nil, err
		}
		ro := runtime.Options{Threads: o.Workers, Block: 4096}
		if !over {
			return runtime.New(plan.Config, p, ro)
		}
		m.over = newOverlay(p)
		return runtime.New(plan.Config, m.over, ro)
	}
	if m.float, err = model(false); err != nil {
		return nil, err
	}
	m.served, err = model(true)
	return m, err
}

// Measure fills in the KL of every rung: of the model with that unit alone
// quantized, scales weighted by the statistics, on the mean of all tokens, in
// nats (docs/facts/accuracy.md 2.8). It runs as many models at a time as memory
// allows.
func (m *Mix) Measure(ctx context.Context, st *Statistics, o MeasureOptions) error {
	t, err := newMeter(m.Plan, m.src, st, o)
	if err != nil {
		return err
	}
	defer t.files.stop()
	var list []*trialModel
	var into []*float64
	for i := range m.Units {
		u := &m.Units[i]
		for k := range u.Rungs {
			r := &u.Rungs[k]
			if r.Lift == layout.LiftFloat {
				continue
			}
			p := m.Plan
			if r.Lift != "" {
				p = m.lifted[r.Lift]
			}
			list, into = append(list, &trialModel{plan: p, unit: u.Name, layer: u.Layer}), append(into, &r.KL)
		}
	}
	return t.measure(ctx, list, into)
}

// Whole measures a plan's model with all of its weights quantized: by codes that
// were learnt, or where the plan has none by scales weighted by the statistics.
func (m *Mix) Whole(ctx context.Context, p *quant.Plan, st *Statistics, o MeasureOptions) (kl float64, err error) {
	t, err := newMeter(p, m.src, st, o)
	if err != nil {
		return 0, err
	}
	defer t.files.stop()
	return kl, t.measure(ctx, []*trialModel{{plan: p, layer: -1, codes: p.Codes()}}, []*float64{&kl})
}

// identity is that of all that a measurement depends on.
func (m *meter) identity(t *trialModel) string {
	id := ""
	if t.codes != nil {
		id = t.codes.Method() + t.codes.ID()
	}
	return hashText(fmt.Sprintf("glmconv sensitivity 1\n%s\n%s\n%s\n%s\n%s", t.plan.Fingerprint, t.unit, m.st.ID(), idsHash(m.o.Sequences), id))
}

// measure measures models in runs that fit into memory.
func (m *meter) measure(ctx context.Context, list []*trialModel, into []*float64) error {
	tokens := 0
	for _, s := range m.o.Sequences {
		tokens += len(s)
	}
	if tokens == 0 {
		return &quant.Error{Kind: quant.ErrSource, Reason: "there are no tokens to measure with"}
	}
	total := len(list)
	var todo []int
	for i, t := range list {
		if m.o.Known != nil {
			if kl, ok := m.o.Known(m.identity(t)); ok {
				*into[i] = kl
				continue
			}
		}
		todo = append(todo, i)
	}
	limit := (&CollectOptions{MaxMemory: m.o.MaxMemory}).limit()
	each := collectNeed(m.plan.Config, tokens) - collectNeed(m.plan.Config, 0)
	room := (limit-collectNeed(m.plan.Config, 0))/each - 1
	if room < 1 {
		return &quant.Error{Kind: quant.ErrMemory, Reason: fmt.Sprintf("measuring on %d tokens takes %d MiB of memory, %d are allowed", tokens,
			(collectNeed(m.plan.Config, 0)+2*each)>>20, limit>>20), Advice: "allow it more"}
	}
	for len(todo) > 0 {
		n := min(int(min(room, 1<<20)), len(todo))
		var batch []*trialModel
		for _, i := range todo[:n] {
			batch = append(batch, list[i])
		}
		if m.room = math.MaxInt64 / 2; m.o.Scratch != "" {
			m.room = limit - collectNeed(m.plan.Config, 0) - int64(n+1)*each
		}
		kl, err := m.run(ctx, batch, int64(total-len(todo)), int64(total))
		if err != nil {
			return err
		}
		found := map[string]float64{}
		for k, i := range todo[:n] {
			*into[i] = kl[k]
			found[m.identity(list[i])] = kl[k]
			list[i].states = nil
		}
		if m.o.Keep != nil {
			if err := m.o.Keep(found); err != nil {
				return err
			}
		}
		todo = todo[n:]
	}
	return nil
}

// run takes the float model and others through the layers together.
func (m *meter) run(ctx context.Context, list []*trialModel, done, total int64) ([]float64, error) {
	var ids []int
	var spans []runtime.Span
	for _, s := range m.o.Sequences {
		ids, spans = append(ids, s...), append(spans, runtime.Span{N: len(s)})
	}
	x, err := m.float.Embed(ids)
	if err != nil {
		return nil, err
	}
	for l := range m.plan.Config.Layers {
		if m.o.Progress != nil {
			m.o.Progress(done, total, fmt.Sprintf("sensitivity, layer %d", l))
		}
		for _, t := range list {
			if t.layer != l && t.layer != -1 {
				continue
			}
			if t.states == nil {
				t.states, t.spans = slices.Clone(x), slices.Clone(spans)
			}
			if err := m.quantized(ctx, l, t); err != nil {
				return nil, err
			}
		}
		if err := m.plain(ctx, l, x, spans, list); err != nil {
			return nil, err
		}
	}
	if x, err = m.float.FinalNorm(x); err != nil {
		return nil, err
	}
	others := make([][]float32, len(list))
	for i, t := range list {
		if others[i], err = m.float.FinalNorm(t.states); err != nil {
			return nil, err
		}
	}
	return meanKL(ctx, m.float, x, others, m.workers)
}

// plain takes the float model, and those whose weights here are its own, through
// a layer: the weights are read once.
func (m *meter) plain(ctx context.Context, l int, x []float32, spans []runtime.Span, list []*trialModel) error {
	all, places := slices.Clone(x), slices.Clone(spans)
	var with []*trialModel
	for _, t := range list {
		if t.states != nil && t.layer != l && t.layer != -1 {
			with, all, places = append(with, t), append(all, t.states...), append(places, t.spans...)
		}
	}
	fresh(places)
	if err := m.float.Layer(ctx, l, all, places, nil); err != nil {
		return err
	}
	n, k := len(x), len(spans)
	copy(x, all)
	keepKeys(spans, places)
	for i, t := range with {
		copy(t.states, all[(i+1)*n:])
		keepKeys(t.spans, places[(i+1)*k:])
	}
	return nil
}

// quantized takes a model through a layer in which it is quantized.
func (m *meter) quantized(ctx context.Context, l int, t *trialModel) (err error) {
	defer func() {
		m.over.drop()
		err = errors.Join(err, m.shelf.close())
	}()
	for i := range t.plan.Items {
		it := &t.plan.Items[i]
		w := &it.Weight
		if it.Action != quant.Quantize || w.Tensor.Layer != l || w.Tensor.MTP || t.unit != "" && layout.Unit(w.Tensor, t.plan.Scheme) != t.unit {
			continue
		}
		codes, err := m.quantize(t, it)
		if err != nil {
			return err
		}
		k, err := m.shelf.put(codes)
		if err != nil {
			return err
		}
		if err := m.over.putKept(w, k); err != nil {
			return err
		}
	}
	fresh(t.spans)
	return m.served.Layer(ctx, l, t.states, t.spans, nil)
}

// quantize finds codes of a weight.
func (m *meter) quantize(t *trialModel, it *quant.Item) (*numeric.Matrix, error) {
	rows, cols := it.Weight.Dims()
	w, err := m.files.weight(it)
	if err != nil {
		return nil, err
	}
	codes := t.codes
	if codes == nil {
		if codes = m.codes[t.plan]; codes == nil {
			if codes, err = Weighted(t.plan, m.st); err != nil {
				return nil, err
			}
			m.codes[t.plan] = codes
		}
	}
	q, err := codes.Rows(it.Name(), t.plan.Spec(it), w, 0, rows)
	if err == nil && q == nil {
		q, _, err = numeric.Quantize(t.plan.Spec(it), w, rows, cols, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.Name(), err)
	}
	return q, nil
}

// fresh gives spans empty caches.
func fresh(spans []runtime.Span) {
	for i := range spans {
		spans[i].Cache = new(runtime.LayerCache)
	}
}

// keepKeys takes over the keys that an indexer chose.
func keepKeys(to, from []runtime.Span) {
	for i := range to {
		to[i].Keys = from[i].Keys
	}
}
