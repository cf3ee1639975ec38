package verify

import (
	"context"
	"errors"
	"slices"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/stats"
)

// comparison is the part of a comparison that needs both models to run.
type comparison struct {
	f         *forward
	o         *Options
	folders   *folders
	src, res  *side
	reference string
	state     *stateFile // keeps where the comparison is; nil keeps nothing
	from      *resumed   // where an earlier run was stopped; nil: from the beginning
	evidence  *evidence  // goes into the state
	basis     *basis     // the source as the result was rotated; nil: as it is
	enough    func([]stats.Row) bool
	path      runtime.NPUPath
	paths     []runtime.NPUPath // on which the result computes something else, Plain first
}

// batch are sequences that go through all layers together.
type batch struct {
	seqs  [][]int
	first int // number of the first among all
}

// sequence is what both models made of one sequence.
type sequence struct {
	Number int
	Layers []layerSums
	Rows   []stats.Row
	Noise  []stats.Row // the source against itself; of every fourth sequence
	Drafts drafts
}

// stage is how far a forward pass came before it broke.
type stage int

// The stages.
const (
	finished stage = iota
	opening        // the result as a model
	passing        // both models over the tokens
	looking        // the vision towers
)

// forward is what running both models has shown. All but Inputs, Sequences, Tower
// and Read are the same in every part.
type forward struct {
	Path       runtime.NPUPath // that the result was computed on
	Stage      stage           // where it broke
	Broken     string          // why
	Incomplete bool            // because the result lacks something
	err        error           // the same

	Origin    string   // of the tokens
	Seen      float64  // share of them that the result was calibrated on, by its manifest
	Vocab     int      // entries of the logits that are compared
	Distinct  int      // different tokens among all
	Lengths   []int    // of all sequences
	Starts    []int    // sequences that a batch of a whole run begins with
	Prefixes  []string // fingerprints of the sequences before each of them, and of all
	Threads   int
	Drafting  drafting
	Inputs    dict[reach] // stored scales of the result's inputs, by the modules that share one
	Sequences []sequence  // in order
	Tower     []Failed
	Read      int64 // bytes, by the passes
}

// stopped notes why a forward pass ended if that is for the verdict to judge. It
// returns errors that say nothing of the checkpoints.
func (f *forward) stopped(ctx context.Context, at stage, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, safetensors.ErrIO) || errors.Is(err, safetensors.ErrChanged) {
		return err
	}
	f.Stage, f.Broken, f.Incomplete, f.err = at, err.Error(), errors.Is(err, runtime.ErrIncomplete), err
	return nil
}

// run fills f.
func (c *comparison) run(ctx context.Context, srcDir, dstDir string) (err error) {
	f, o := c.f, c.o
	from := srcDir
	if c.basis != nil {
		from = c.basis.states
	}
	if c.src, err = openSide(c.folders, from, o, c.reference == ReferenceWeights, runtime.Plain, nil); err != nil {
		return err
	}
	defer func() { _ = c.src.close(); f.Read += c.src.read() }()
	if c.res, err = openSide(c.folders, dstDir, o, false, c.path, f); err != nil {
		return f.stopped(ctx, opening, err)
	}
	defer func() { _ = c.res.close(); f.Read += c.res.read() }()
	if err := c.npuPaths(); err != nil {
		return f.stopped(ctx, opening, err)
	}
	seqs, err := c.tokens(ctx, srcDir)
	if m, err := quant.ReadManifest(dstDir); err == nil && m.Calibration != nil {
		f.Seen = m.Calibration.Seen(seqs)
	}
	if err != nil {
		return err
	}
	if len(f.Lengths) == 0 {
		return nil
	}
	f.Drafting = canDraft(c.src, c.res)
	lo, hi := o.part.sequences(f.Lengths)
	if err := c.passes(ctx, seqs[lo:hi], lo); err != nil {
		return f.stopped(ctx, passing, err)
	}
	if !o.part.first() {
		return nil
	}
	tower, err := CompareTowers(ctx, VisionModel{srcDir, c.src.m}, VisionModel{dstDir, c.res.m})
	f.Tower = tower.Failed()
	return f.stopped(ctx, looking, err)
}

// tokens returns all sequences and notes what is to be known of them.
func (c *comparison) tokens(ctx context.Context, srcDir string) ([][]int, error) {
	f, o, cfg := c.f, c.o, c.src.m.Config()
	seqs, origin, vocab, err := o.sequences(ctx, srcDir, cfg.VocabSize)
	if err != nil {
		return nil, err
	}
	f.Origin, f.Vocab = origin, vocab
	kinds := map[int]bool{}
	for _, s := range seqs {
		for _, id := range s {
			kinds[id] = true
		}
		f.Vocab = max(f.Vocab, slices.Max(s)+1)
		f.Lengths = append(f.Lengths, len(s))
	}
	for at := 0; at < len(seqs); at += len(o.batch(seqs[at:], cfg)) {
		f.Starts, f.Prefixes = append(f.Starts, at), append(f.Prefixes, fingerprint(seqs[:at]))
	}
	f.Prefixes, f.Distinct = append(f.Prefixes, fingerprint(seqs)), len(kinds)
	return seqs, nil
}

// passes runs both models over as many sequences at a time as memory allows,
// most often over all of them, from where an earlier run was stopped. first is
// the number of the first.
func (c *comparison) passes(ctx context.Context, seqs [][]int, first int) error {
	f, o, layers := c.f, c.o, c.src.m.Layers()
	p := point{Evidence: c.evidence}
	if c.from != nil && c.from.First <= len(seqs) {
		p = c.from.point
		f.Read += p.Read // by the run that this one goes on with
		f.addInputs(p.Inputs)
	} else {
		c.from = nil
	}
	p.Inputs = f.Inputs
	o.layersToDo(seqs, layers)
	o.layersDone(seqs[:p.First], layers)
	if c.from != nil && p.First < len(seqs) {
		o.layersDone(o.batch(seqs[p.First:], c.src.m.Config()), p.Layer)
	}
	for p.First < len(seqs) && !c.enough(rowsOfAll(p.Sequences[:p.First])) {
		if err := c.pass(ctx, &p, batch{o.batch(seqs[p.First:], c.src.m.Config()), first + p.First}); err != nil {
			return err
		}
	}
	f.Sequences = p.Sequences[:p.First]
	return nil
}

// rowsOfAll are the rows of sequences, one after the other.
func rowsOfAll(list []sequence) (rows []stats.Row) {
	for i := range list {
		rows = append(rows, list[i].Rows...)
	}
	return rows
}

// pass runs both models over a batch and adds what it shows to the point.
func (c *comparison) pass(ctx context.Context, p *point, b batch) error {
	save := func(layer int, x, y []float32, spans, other []runtime.Span) error {
		if !c.state.due() {
			return nil
		}
		p.Layer, p.KeysA, p.KeysB = layer, keysOf(spans), keysOf(other)
		p.Read = c.src.read() + c.res.read()
		c.state.keep(p, x, y)
		return nil
	}
	if err := c.lockstep(ctx, p, b, save); err != nil {
		return err
	}
	c.from = nil
	own := p.Sequences[p.First:]
	rows, noise, err := c.logitRows(ctx, b)
	if err != nil {
		return err
	}
	for i, s := range b.seqs {
		own[i].Rows, rows = rows[:len(s)], rows[len(s):]
		if probed(own[i].Number) {
			own[i].Noise, noise = noise[:len(s)], noise[len(s):]
		}
	}
	if c.f.Drafting.possible() {
		if err := c.compareDrafts(ctx, own, b); err != nil {
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

// prepare makes place for a batch of which start layers are done.
func (p *point) prepare(b batch, start int) {
	if start > 0 && len(p.Sequences) == p.First+len(b.seqs) {
		return
	}
	p.Sequences = p.Sequences[:p.First]
	for i := range b.seqs {
		p.Sequences = append(p.Sequences, sequence{Number: b.first + i, Layers: make([]layerSums, start)})
	}
}
