package calib

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// CollectOptions say how statistics are gathered. The zero value is the default.
type CollectOptions struct {
	Workers   int
	MaxMemory int64 // bytes (0: 1 GiB)
	// First is the number of the first sequence in the whole text, of a part.
	First    int
	Progress func(done, total int64, detail string)
}

// Collect runs a checkpoint once over token sequences and gathers the moments of
// the inputs of every projection that a scheme can quantise or that shows the
// input of one, by tensor. Projections with one input have one entry, that of the
// first of them: see Shown. Weights are streamed; states of all tokens are held,
// and quant.ErrMemory says what they take where that is too much.
func Collect(ctx context.Context, cfg *glm.Config, src *safetensors.Checkpoint, seqs [][]int, o CollectOptions) (*Statistics, error) {
	c := &collector{cfg: cfg, o: o, seqs: seqs, out: &Statistics{Sequences: seqs, First: o.First, held: map[string]*Moments{}, Caches: map[string]*Limits{}}}
	if err := c.checkMemory(); err != nil {
		return nil, err
	}
	for i, s := range seqs {
		for p := range s {
			c.keys = append(c.keys, keyOf(o.First+i, p))
		}
		c.spans = append(c.spans, runtime.Span{N: len(s)})
	}
	p, err := runtime.NewStreaming(cfg, src, 0)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	defer limitHeap(o.limit())()
	if c.m, err = runtime.New(cfg, p, runtime.Options{Threads: o.Workers, Block: blockRows(cfg, o.limit(), longestOf(seqs)), Observe: c.see, ObserveCache: c.cache}); err != nil {
		return nil, err
	}
	return c.out, c.run(ctx)
}

// collector is one run of Collect.
type collector struct {
	cfg   *glm.Config
	o     CollectOptions
	seqs  [][]int
	m     *runtime.Model
	spans []runtime.Span
	keys  []uint64 // of the rows of the pass
	out   *Statistics

	at      map[string]int // rows of a tensor that were seen in this layer
	experts [][]int        // rows of each expert in this layer
}

// limit is how much memory may be used.
func (o *CollectOptions) limit() int64 {
	if o.MaxMemory <= 0 {
		return 1 << 30
	}
	return o.MaxMemory
}

func (c *collector) checkMemory() error {
	limit := c.o.limit()
	tokens := 0
	for _, s := range c.seqs {
		tokens += len(s)
	}
	if tokens == 0 {
		return &quant.Error{Kind: quant.ErrSource, Reason: "there are no tokens to calibrate with"}
	}
	if need := collectNeed(c.cfg, tokens); need > limit {
		return &quant.Error{Kind: quant.ErrMemory, Reason: fmt.Sprintf("the states of %d tokens take %d MiB of memory, %d are allowed", tokens, need>>20, limit>>20),
			Advice: "calibrate in parts, or allow it more"}
	}
	return nil
}

// Again gathers statistics of the same text on another checkpoint of the model, as
// one that is rotated, in a folder, and opens them: states and moments stay in files
// there, whatever the text, as those of Gather do, and what an earlier run left is
// gone on with. o.Source tells the checkpoint from others of the model; o.Dir is the
// folder.
func (s *Statistics) Again(ctx context.Context, cfg *glm.Config, src *safetensors.Checkpoint, o GatherOptions) (*Statistics, error) {
	o.First, o.Part, o.Parts, o.Scratch = s.First, 1, 1, filepath.Join(o.Dir, "states")
	if Holds(o.Dir, 1, 1, o.Source, s.Sequences) != nil {
		if err := fsx.Or(o.FS).MkdirAll(o.Dir); err != nil {
			return nil, err
		}
		if _, err := Gather(ctx, cfg, src, s.Sequences, o); err != nil {
			return nil, err
		}
	}
	return Read(o.Dir)
}

// run goes through the layers.
func (c *collector) run(ctx context.Context) error {
	var ids []int
	for _, s := range c.seqs {
		ids = append(ids, s...)
	}
	x, err := c.m.Embed(ids)
	if err != nil {
		return err
	}
	tr := c.routed()
	for l := range c.cfg.Layers {
		c.begin()
		c.progress(l)
		for i := range c.spans {
			c.spans[i].Cache = new(runtime.LayerCache)
		}
		if err := c.m.Layer(ctx, l, x, c.spans, tr); err != nil {
			return err
		}
	}
	mtp, err := c.m.MTP()
	if err != nil { // none, or not whole
		return nil //nolint:nilerr // the trunk's statistics are whole
	}
	c.progress(c.cfg.Layers)
	if x, err = c.m.FinalNorm(x); err != nil {
		return err
	}
	return c.draft(ctx, mtp, x, tr)
}

// routed notes which rows each expert gets.
func (c *collector) routed() *runtime.Trace {
	return &runtime.Trace{Router: func(_, row int, experts []int32, _ []float32) {
		for _, e := range experts {
			c.experts[e] = append(c.experts[e], row)
		}
	}}
}

// draft runs the MTP layer's first step.
func (c *collector) draft(ctx context.Context, mtp *runtime.MTP, x []float32, tr *runtime.Trace) error {
	h := c.cfg.HiddenSize
	var ids []int
	var spans []runtime.Span
	var keys []uint64
	states := x[:0]
	at := 0
	for _, s := range c.seqs {
		n := len(s) - 1
		ids, states, keys = append(ids, s[1:]...), append(states, x[at*h:(at+n)*h]...), append(keys, c.keys[at:at+n]...)
		spans = append(spans, runtime.Span{N: n, Cache: new(runtime.LayerCache)})
		at += n + 1
	}
	c.keys = keys
	c.begin()
	_, _, err := mtp.Step(ctx, ids, states, spans, tr)
	return err
}

func (c *collector) begin() {
	c.at, c.experts = map[string]int{}, make([][]int, max(c.cfg.Experts, 1))
}

func (c *collector) progress(l int) {
	if c.o.Progress != nil {
		c.o.Progress(int64(l), int64(c.cfg.Layers+c.cfg.MTPLayers), fmt.Sprintf("layer %d", l))
	}
}

// see takes the inputs of a projection.
func (c *collector) see(w *glm.Tensor, rows int, x func() []float32) error {
	if !shows(w.Role) {
		return nil
	}
	n := int(w.Shape[1])
	m := c.out.held[w.Name]
	if m == nil {
		m = newMoments(n)
		c.out.held[w.Name] = m
	}
	first := c.at[w.Name]
	c.at[w.Name] = first + rows
	in := x()
	for i := range rows {
		row := first + i
		if w.Role.IsExpert() {
			row = c.experts[w.Expert][row]
		}
		m.add(in[i*n : (i+1)*n])
		if sampled(w.Role) {
			m.sample(in[i*n:(i+1)*n], c.keys[row])
		}
	}
	return nil
}

// cache takes the keys and values of a layer.
func (c *collector) cache(layer int, keys, values []float32) {
	for _, x := range []struct {
		role glm.Role
		rows []float32
	}{{glm.AttnK, keys}, {glm.AttnV, values}} {
		t := c.out.find(c.cfg, layer, x.role, -1)
		if t == nil {
			continue
		}
		l := c.out.Caches[t.Module]
		if l == nil {
			l = newLimits(int(t.Shape[0]))
			c.out.Caches[t.Module] = l
		}
		l.add(x.rows)
	}
}

// shows reports whether the input of a projection of the role is gathered.
func shows(r glm.Role) bool {
	switch r {
	case glm.AttnQ, glm.AttnQA, glm.AttnQB, glm.AttnO, glm.DenseGate, glm.DenseDown, glm.Router, glm.SharedDown, glm.ExpertGate, glm.ExpertDown:
		return true
	}
	return false
}

// sampled reports whether inputs of a projection of the role are kept whole: those
// that folds are searched on.
func sampled(r glm.Role) bool {
	switch r {
	case glm.AttnO, glm.DenseDown, glm.SharedDown, glm.ExpertDown:
		return true
	case glm.AttnQ, glm.AttnQA, glm.AttnQB, glm.DenseGate, glm.Router: // outputs of norms
		return true
	}
	return false
}

// shownBy is the role whose input is that of a role.
var shownBy = map[glm.Role][]glm.Role{
	glm.AttnK: {glm.AttnQ}, glm.AttnV: {glm.AttnQ}, glm.AttnKVA: {glm.AttnQA}, glm.IndexerK: {glm.AttnQA}, glm.IndexerProj: {glm.AttnQA},
	glm.IndexerQB: {glm.AttnQB}, glm.DenseUp: {glm.DenseGate}, glm.ExpertUp: {glm.ExpertGate}, glm.SharedGate: {glm.Router}, glm.SharedUp: {glm.Router},
}

// place is a tensor's in a model.
type place struct {
	layer  int
	role   glm.Role
	expert int
}

// find returns the weight of a role of a layer.
func (s *Statistics) find(cfg *glm.Config, layer int, r glm.Role, expert int) *glm.Tensor {
	s.once.Do(func() {
		s.places = map[place]*glm.Tensor{}
		table := cfg.Table()
		for i := range table {
			if t := &table[i]; t.Param == "weight" {
				s.places[place{t.Layer, t.Role, t.Expert}] = t
			}
		}
	})
	if !r.IsExpert() {
		expert = -1
	}
	return s.places[place{layer, r, expert}]
}
