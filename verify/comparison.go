package verify

import (
	"context"
	goruntime "runtime"
	"slices"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/verify/stats"
)

// comparison is the part of Compare that needs both models to run.
type comparison struct {
	r        *Result
	o        *Options
	folders  *folders
	src, res *side
	vocab    int        // entries of the logits that are compared
	state    *stateFile // keeps where the comparison is; nil keeps nothing
	from     *resumed   // where an earlier run was stopped; nil: from the beginning
	sums     []layerSums
	basis    *basis // the source as the result was rotated; nil: as it is
	path     runtime.NPUPath
	paths    []runtime.NPUPath // on which the result computes something else, Plain first
}

// batch are sequences that go through all layers together.
type batch struct {
	seqs  [][]int
	first int // number of the first among all
}

// run fills everything that needs both models to run.
func (c *comparison) run(ctx context.Context, srcDir, dstDir string) (err error) {
	r, o := c.r, c.o
	from := srcDir
	if c.basis != nil {
		from = c.basis.states
	}
	if c.src, err = openSide(c.folders, from, o, r.Reference == ReferenceWeights, runtime.Plain); err != nil {
		return err
	}
	defer func() { _ = c.src.close(); r.Bytes += c.src.read() }()
	if c.res, err = openSide(c.folders, dstDir, o, false, c.path); err != nil {
		return r.broken(ctx, err)
	}
	defer func() { _ = c.res.close(); r.Bytes += c.res.read() }()
	if err := c.npuPaths(); err != nil {
		return r.broken(ctx, err)
	}
	seqs, origin, vocab, err := o.sequences(srcDir, c.src.m.Config().VocabSize)
	if err != nil {
		return err
	}
	for _, s := range seqs {
		vocab = max(vocab, slices.Max(s)+1)
	}
	c.vocab, r.Identity.Vocab = vocab, vocab
	r.Identity.Corpus, r.Identity.Sequences, r.Identity.IDsSHA256, r.Identity.Threads = origin, len(seqs), fingerprint(seqs), o.Workers
	if o.Workers <= 0 {
		r.Identity.Threads = goruntime.GOMAXPROCS(0)
	}
	if len(seqs) == 0 {
		r.undecided("there is no token to read")
		return nil
	}
	if err := c.passes(ctx, seqs); err != nil {
		return r.broken(ctx, err)
	}
	tower, err := CompareTowers(ctx, VisionModel{srcDir, c.src.m}, VisionModel{dstDir, c.res.m})
	if err != nil {
		return r.broken(ctx, err)
	}
	r.Failed = append(r.Failed, tower.Failed()...)
	return nil
}

// passes runs both models over as many sequences at a time as memory allows,
// most often over all of them, from where an earlier run was stopped.
func (c *comparison) passes(ctx context.Context, seqs [][]int) error {
	r, o, layers := c.r, c.o, c.src.m.Layers()
	drafting := r.canDraft(c.src, c.res)
	p := point{Result: r, Sums: make([]layerSums, layers)}
	if c.from != nil && len(c.from.Sums) == layers {
		p = c.from.point
		r.Bytes += p.Read // by the run that this one goes on with
	}
	c.sums = p.Sums
	o.layersToDo(seqs, layers)
	o.layersDone(seqs[:p.First], layers)
	if c.from != nil && p.First < len(seqs) {
		o.layersDone(o.batch(seqs[p.First:], c.src.m.Config()), p.Layer)
	}
	for p.First < len(seqs) {
		if rule := r.enough(p.Rows); rule != "" && !o.AllTokens {
			r.Stopped = &Stopped{p.First, len(seqs), rule}
			r.Identity.Sequences, r.Identity.IDsSHA256 = p.First, fingerprint(seqs[:p.First])
			break
		}
		if err := c.pass(ctx, &p, batch{o.batch(seqs[p.First:], c.src.m.Config()), p.First}, drafting); err != nil {
			return err
		}
	}
	for l := range p.Sums {
		r.Layers = append(r.Layers, p.Sums[l].layer(l))
	}
	if r.Exact.Rotated {
		r.forgetStates()
	} else {
		r.judgeKeys()
	}
	r.judgeLogits(counted(p.Rows))
	r.Skipped = len(p.Rows) - len(counted(p.Rows))
	r.KL.Noise = stats.Summarize(counted(p.Noise)).MeanKL
	if drafting {
		r.judgeDrafts(&p.Drafts)
		if r.Exact.Rotated {
			r.forgetStates()
		}
	}
	return nil
}

// pass runs both models over a batch and adds what it shows to the point.
func (c *comparison) pass(ctx context.Context, p *point, b batch, drafting bool) error {
	save := func(layer int, x, y []float32, spans, other []runtime.Span) error {
		if !c.state.due() {
			return nil
		}
		p.Layer, p.KeysA, p.KeysB = layer, keysOf(spans), keysOf(other)
		p.Read = c.src.read() + c.res.read()
		c.state.keep(p, x, y)
		return nil
	}
	if err := c.lockstep(ctx, b, save); err != nil {
		return err
	}
	c.from = nil
	rows, noise, err := c.logitRows(ctx, b)
	if err != nil {
		return err
	}
	p.Rows, p.Noise = append(p.Rows, rows...), append(p.Noise, noise...)
	if drafting {
		if err := c.compareDrafts(ctx, &p.Drafts, b, rows); err != nil {
			return err
		}
	}
	p.First += len(b.seqs)
	p.Layer = 0
	if c.state.due() {
		c.state.keep(p, nil, nil)
	}
	return nil
}
