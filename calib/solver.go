package calib

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// SolveOptions say how codes are learnt.
type SolveOptions struct {
	Sequences [][]int // token ids to learn from
	Scratch   string  // folder for codes and states; what an earlier run left there is gone on with
	Workers   int     // threads; 0: one for each CPU that Go may use
	MaxMemory int64   // bytes (0: 1 GiB)
	FS        fsx.FS
	Learn     learn.Options
	// Prior is how many tokens of all kinds an expert's moments are mixed with
	// (0: 512).
	Prior    float64
	Progress func(done, total int64, detail string)

	filed int64 // of tests: memory for moments, which are in files whatever MaxMemory is
}

// LayerReport is what became of a layer.
type LayerReport struct {
	Layer   int
	Loss    learn.Loss
	Experts int // routed experts
	Least   int // tokens of the expert with the fewest
	Median  int
	Rare    int      // experts with fewer than 64 tokens
	Failed  []string // modules whose moments were not definite: rounded to nearest
}

// Solution is codes for a plan.
type Solution struct {
	Layers []LayerReport
	store  *store
}

// Codes returns what quant.Plan.Learn takes.
func (s *Solution) Codes() quant.Codes { return s.store }

// Close closes the files of the codes.
func (s *Solution) Close() error { return s.store.Close() }

// module is a weight that is quantised.
type module struct {
	item       *quant.Item
	spec       numeric.Spec
	rows, cols int
	learn      bool
}

// solver learns codes layer by layer: both models run over the same tokens, the
// float one and the one that is quantised so far.
type solver struct {
	plan    *quant.Plan
	src     *floats
	o       SolveOptions
	workers *kernel.Workers
	// interrupted is the error of the run's context.
	interrupted func() error
	float       *model
	served      *model
	over        *overlay
	store       *store
	layers      []map[glm.Role][]*module // by layer and role, experts in order
	names       map[string]*quant.Item
	globals     map[string]float32 // by fused set, of the present layer
	rows        int                // tokens
	chunk       int                // of them in a pass
	block       int                // of them in attention
	room        int64              // bytes of memory for inputs
	learnRoom   int64              // and for moments and the weight that is learnt
	spills      int                // files of inputs and moments so far

	report *LayerReport
	put    []string // of the present layer
	codes  []*kept
	shelf  shelf
}

// Solve learns codes for all weights of a plan that can be learnt, from a
// checkpoint and token ids. States of all tokens are in files, and inputs where
// MaxMemory has no room for them; quant.ErrMemory says what it takes at least. The
// layers that are finished stay in Scratch if it is interrupted.
func Solve(ctx context.Context, plan *quant.Plan, src *safetensors.Checkpoint, o SolveOptions) (*Solution, error) {
	s := &solver{plan: plan, o: o, interrupted: ctx.Err, workers: kernel.NewWorkers(o.Workers), names: map[string]*quant.Item{}, globals: map[string]float32{}}
	err := s.open(src)
	if s.src != nil {
		defer s.src.stop()
	}
	if err != nil {
		return nil, err
	}
	defer limitHeap((&CollectOptions{MaxMemory: o.MaxMemory}).limit())()
	for _, m := range []*model{s.float, s.served} {
		if err := s.o.FS.MkdirAll(m.dir); err != nil {
			return nil, err
		}
	}
	s.sweep()
	s.shelf = shelf{fs: s.o.FS, file: filepath.Join(s.o.Scratch, "codes.bin"), room: &s.room}
	defer func() { _ = s.shelf.close() }()
	reports, err := s.run(ctx)
	if err != nil {
		_ = s.store.Close()
		return nil, err
	}
	return &Solution{reports, s.store}, nil
}

// sweep removes what a run that was killed has left in Scratch.
func (s *solver) sweep() {
	for _, dir := range []string{s.o.Scratch, s.float.dir, s.served.dir} {
		entries, _ := s.o.FS.ReadDir(dir)
		for _, e := range entries {
			if fsx.IsTemp(e.Name()) {
				_ = s.o.FS.Remove(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// solveVersion changes when codes do.
const solveVersion = "glmconv gptq 3"

// open makes both models and sorts the plan's weights.
func (s *solver) open(src *safetensors.Checkpoint) (err error) {
	s.o.FS = fsx.Or(s.o.FS)
	if s.o.Prior == 0 {
		s.o.Prior = 512
	}
	for _, q := range s.o.Sequences {
		s.rows += len(q)
	}
	if err := s.memory(); err != nil {
		return err
	}
	cfg := s.plan.Config
	if s.src, err = newFloats(cfg, src, s.plan.Folds); err != nil {
		return err
	}
	id := fmt.Sprintf("%s\n%s\n%s\n%+v %g", solveVersion, s.plan.Fingerprint, idsHash(s.o.Sequences), s.o.Learn, s.o.Prior)
	s.store = newStore(s.o.FS, s.o.Scratch, "gptq", hashText(id))
	// Of several MTP layers engines run the first; codes of the others are rounded.
	s.layers = make([]map[glm.Role][]*module, cfg.Layers+min(cfg.MTPLayers, 1))
	for i := range s.layers {
		s.layers[i] = map[glm.Role][]*module{}
	}
	for i := range s.plan.Items {
		it := &s.plan.Items[i]
		s.names[it.Name()] = it
		t := it.Weight.Tensor
		if it.Action != quant.Quantize || t.Layer < 0 || t.Layer >= len(s.layers) {
			continue
		}
		m := &module{item: it, spec: s.plan.Spec(it), learn: s.plan.Learnable(it) && t.Role != glm.AttnKVB}
		if !m.learn && t.Role != glm.AttnKVB {
			return &quant.Error{Kind: quant.ErrImpossible, Reason: fmt.Sprintf("codes of %s cannot be learnt", it.Weight.Quant),
				Advice: "int4, int8, FP4, MX and FP8 with scales of channels or blocks can"}
		}
		m.rows, m.cols = it.Weight.Dims()
		s.layers[t.Layer][t.Role] = append(s.layers[t.Layer][t.Role], m)
		if m.learn {
			q := it.Weight.Quant
			br, bc := q.Extent(m.rows, m.cols)
			s.store.shapes[it.Name()] = shape{t.Layer, m.spec.Code, m.rows, m.cols, br, bc}
		}
	}
	if s.float, err = s.model(nil, "float"); err != nil {
		return err
	}
	base, err := s.src.provider(cfg)
	if err != nil {
		return err
	}
	s.over = newOverlay(base)
	s.served, err = s.model(s.over, "served")
	return err
}

// run goes through the layers.
func (s *solver) run(ctx context.Context) ([]LayerReport, error) {
	cfg := s.plan.Config
	first := s.finished()
	if first < 0 {
		if err := errors.Join(s.embed(s.float), s.embed(s.served)); err != nil {
			return nil, err
		}
		first = 0
	}
	var reports []LayerReport
	for l := first; l < cfg.Layers; l++ {
		r, err := s.layer(ctx, l)
		if err != nil {
			return nil, err
		}
		reports = append(reports, *r)
	}
	if len(s.layers) > cfg.Layers && len(s.layers[cfg.Layers]) > 0 && !s.store.has(cfg.Layers) {
		r, err := s.draft(ctx)
		if err != nil {
			return nil, err
		}
		reports = append(reports, *r)
	}
	return reports, nil
}

// finished returns the layer that an earlier run came to; -1: none.
func (s *solver) finished() int {
	for l := s.plan.Config.Layers; l >= 0; l-- {
		if wholeStates(s.float.dir, l, s.store.id) && wholeStates(s.served.dir, l, s.store.id) && s.whole(l) {
			return l
		}
	}
	return -1
}

// embed writes a model's states in front of the first layer.
func (s *solver) embed(m *model) error {
	to, err := createStates(s.o.FS, m.dir, 0, s.store.id)
	if err != nil {
		return err
	}
	defer func() { _ = to.abort() }()
	for _, q := range s.o.Sequences {
		x, err := m.Embed(q)
		if err != nil {
			return err
		}
		if err := to.put(x, &runtime.Span{N: len(q)}); err != nil {
			return err
		}
	}
	return to.commit()
}

// whole reports whether the codes of all layers before l are there.
func (s *solver) whole(l int) bool {
	for i := range l {
		if s.learns(i) && !s.store.has(i) {
			return false
		}
	}
	return true
}

// learns reports whether a layer has a weight to learn.
func (s *solver) learns(l int) bool {
	for _, list := range s.layers[l] {
		for _, m := range list {
			if m.learn {
				return true
			}
		}
	}
	return false
}

// progress reports layers.
func (s *solver) progress(l int, what string) {
	if s.o.Progress != nil {
		s.o.Progress(int64(l), int64(len(s.layers)), fmt.Sprintf("layer %d %s", l, what))
	}
}

// pass runs a layer, or the MTP layer, of a model over its states; those behind
// it go to a file if there is one.
type pass func(m *model, to *stateWriter, tr *runtime.Trace) error

// errSeen ends a layer where nothing more is wanted of it.
var errSeen = errors.New("seen")

// inputs are those of projections, by role.
type inputs map[glm.Role]*spill

func (in inputs) close() {
	for r := range in {
		_ = in.drop(r)
	}
}

// drop closes those of a role.
func (in inputs) drop(r glm.Role) error {
	err := in[r].close()
	delete(in, r)
	return err
}

// inputs runs a layer of a model and collects the inputs of the projections of
// some roles, all rows each; a chunk ends when stop, if given, comes.
func (s *solver) inputs(m *model, run pass, to *stateWriter, tr *runtime.Trace, stop glm.Role, roles ...glm.Role) (inputs, error) {
	got := inputs{}
	base, rows := -1, 0
	m.see = func(w *glm.Tensor, n int, x func() []float32) (err error) {
		if slices.Contains(roles, w.Role) {
			in := got[w.Role]
			if in == nil {
				if in, err = s.spill(int(w.Shape[1])); err != nil {
					return err
				}
				got[w.Role] = in
			}
			if err := in.put(x()); err != nil {
				return err
			}
		}
		if w.Role == stop {
			if m.base != base {
				base, rows = m.base, 0
			}
			if rows += n; rows >= m.rows || w.Role.IsExpert() {
				return errSeen
			}
		}
		return nil
	}
	defer func() { m.see = nil }()
	return got, run(m, to, tr)
}

// solve finds the codes of a module and puts them in the served model.
func (s *solver) solve(m *module, b *learn.Basis) (err error) {
	spec := m.spec
	if m.item.HasGlobalScale() {
		if spec.Global, err = s.global(m.item, spec); err != nil {
			return err
		}
	}
	var codes *numeric.Matrix
	if b != nil && m.learn {
		var loss learn.Loss
		read := func(lo, hi int) ([]float32, error) { return s.src.rows(m.item, lo, hi) }
		if codes, loss, err = b.SolveRows(spec, m.rows, read, s.workers); err != nil {
			return fmt.Errorf("%s: %w", m.item.Name(), err)
		}
		s.report.Loss.Add(loss)
	} else {
		w, err := s.src.weight(m.item)
		if err != nil {
			return err
		}
		if codes, _, err = numeric.Quantize(spec, w, m.rows, m.cols, nil); err != nil {
			return fmt.Errorf("%s: %w", m.item.Name(), err)
		}
		if m.learn {
			s.report.Failed = append(s.report.Failed, strings.TrimSuffix(m.item.Name(), ".weight"))
		}
	}
	k, err := s.shelf.put(codes)
	if err != nil {
		return err
	}
	if m.learn {
		s.put, s.codes = append(s.put, m.item.Name()), append(s.codes, k)
	}
	return s.over.putKept(&m.item.Weight, k)
}
