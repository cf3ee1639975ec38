package calib

import (
	"context"
	"errors"
	"fmt"
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
	float   *model
	served  *model
	over    *overlay
	store   *store
	layers  []map[glm.Role][]*module // by layer and role, experts in order
	names   map[string]*quant.Item
	globals map[string]float32 // by fused set, of the present layer
	rows    int

	report *LayerReport
	put    []string // of the present layer
	codes  []*numeric.Matrix
}

// Solve learns codes for all weights of a plan that can be learnt, from a
// checkpoint and token ids. It needs memory for the states and inputs of all
// tokens; quant.ErrMemory says how much where that is more than MaxMemory. The
// layers that are finished stay in Scratch if it is interrupted.
func Solve(ctx context.Context, plan *quant.Plan, src *safetensors.Checkpoint, o SolveOptions) (*Solution, error) {
	s := &solver{plan: plan, o: o, workers: &kernel.Workers{N: o.Workers}, names: map[string]*quant.Item{}, globals: map[string]float32{}}
	if err := s.open(src); err != nil {
		return nil, err
	}
	if err := s.checkMemory(); err != nil {
		return nil, err
	}
	if err := s.o.FS.MkdirAll(o.Scratch); err != nil {
		return nil, err
	}
	reports, err := s.run(ctx)
	if err != nil {
		_ = s.store.Close()
		return nil, err
	}
	return &Solution{reports, s.store}, nil
}

// solveVersion changes when codes do.
const solveVersion = "glmconv gptq 1"

// open makes both models and sorts the plan's weights.
func (s *solver) open(src *safetensors.Checkpoint) (err error) {
	s.o.FS = fsx.Or(s.o.FS)
	if s.o.Prior == 0 {
		s.o.Prior = 512
	}
	for _, q := range s.o.Sequences {
		s.rows += len(q)
	}
	cfg := s.plan.Config
	if s.src, err = newFloats(cfg, src, s.plan.Folds); err != nil {
		return err
	}
	id := fmt.Sprintf("%s\n%s\n%s\n%+v %g", solveVersion, s.plan.Fingerprint, idsHash(s.o.Sequences), s.o.Learn, s.o.Prior)
	s.store = newStore(s.o.FS, s.o.Scratch, "gptq", hashText(id))
	s.layers = make([]map[glm.Role][]*module, cfg.Layers+cfg.MTPLayers)
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
	if s.float, err = s.model(nil); err != nil {
		return err
	}
	base, err := s.src.provider(cfg)
	if err != nil {
		return err
	}
	s.over = newOverlay(base)
	s.served, err = s.model(s.over)
	return err
}

// model is one of the two models, and what is seen inside.
type model struct {
	*runtime.Model
	see  func(w *glm.Tensor, rows int, x func() []float32) error
	keys []runtime.Span
}

func (s *solver) model(p runtime.Provider) (m *model, err error) {
	if p == nil {
		if p, err = s.src.provider(s.plan.Config); err != nil {
			return nil, err
		}
	}
	m = &model{}
	m.Model, err = runtime.New(s.plan.Config, p, runtime.Options{Threads: s.o.Workers, Block: 4096,
		Observe: func(w *glm.Tensor, rows int, x func() []float32) error {
			if m.see == nil {
				return nil
			}
			return m.see(w, rows, x)
		}})
	for _, q := range s.o.Sequences {
		m.keys = append(m.keys, runtime.Span{N: len(q)})
	}
	return m, err
}

// checkMemory refuses tokens whose states and inputs do not fit.
func (s *solver) checkMemory() error {
	limit := s.o.MaxMemory
	if limit <= 0 {
		limit = 1 << 30
	}
	if need := Need(s.plan, s.rows); need > limit {
		return &quant.Error{Kind: quant.ErrMemory, Reason: fmt.Sprintf("learning codes from %d tokens takes %d MiB of memory, %d are allowed", s.rows, need>>20, limit>>20),
			Advice: "allow it more, or calibrate with fewer tokens"}
	}
	return nil
}

// Need is the memory in bytes that learning codes from a number of tokens takes.
func Need(p *quant.Plan, tokens int) int64 {
	c := p.Config
	heads := c.Heads * c.HeadDim
	if c.LatentAttention() {
		heads = c.Heads * c.VHeadDim
	}
	perToken := int64(4) * int64(2*c.HiddenSize*4+2*heads+2*c.QLoraRank+6*c.HiddenSize)
	var gram, weight int64
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == quant.Quantize {
			r, k := it.Weight.Dims()
			gram = max(gram, 2*learn.GramBytes(k, true))
			weight = max(weight, int64(r)*int64(k)*24)
		}
	}
	return 96<<20 + perToken*int64(tokens) + gram + weight
}

// run goes through the layers.
func (s *solver) run(ctx context.Context) ([]LayerReport, error) {
	cfg := s.plan.Config
	var ids []int
	for _, q := range s.o.Sequences {
		ids = append(ids, q...)
	}
	x, err := s.float.Embed(ids)
	if err != nil {
		return nil, err
	}
	y := append([]float32(nil), x...)
	first := 0
	if p := s.store.loadPoint(cfg.Layers); p != nil && s.whole(p.Layer) {
		first = p.Layer
		s.restore(p, x, y)
	}
	var reports []LayerReport
	for l := first; l < cfg.Layers; l++ {
		r, err := s.layer(ctx, l, x, y)
		if err != nil {
			return nil, err
		}
		reports = append(reports, *r)
		if err := s.keep(l+1, x, y); err != nil {
			return nil, err
		}
	}
	if len(s.layers) > cfg.Layers && len(s.layers[cfg.Layers]) > 0 && !s.store.has(cfg.Layers) {
		r, err := s.draft(ctx, x, y)
		if err != nil {
			return nil, err
		}
		reports = append(reports, *r)
	}
	return reports, nil
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

// pass runs a layer, or the MTP layer, of a model over its states.
type pass func(m *model, x []float32, tr *runtime.Trace) error

var errSeen = errors.New("seen")

// inputs runs a layer of a model and collects the inputs of the projections of
// some roles, all rows each; the pass ends when stop, if given, comes.
func (s *solver) inputs(m *model, run pass, x []float32, tr *runtime.Trace, stop glm.Role, roles ...glm.Role) (map[glm.Role][]float32, error) {
	got := map[glm.Role][]float32{}
	for _, r := range roles {
		got[r] = nil
	}
	rows := 0
	m.see = func(w *glm.Tensor, n int, x func() []float32) error {
		if have, wanted := got[w.Role]; wanted {
			got[w.Role] = append(have, x()...)
		}
		if w.Role == stop {
			if rows += n; rows >= s.rows || w.Role.IsExpert() {
				return errSeen
			}
		}
		return nil
	}
	defer func() { m.see = nil }()
	err := run(m, x, tr)
	if errors.Is(err, errSeen) {
		err = nil
	}
	return got, err
}

// solve finds the codes of a module and puts them in the served model.
func (s *solver) solve(m *module, b *learn.Basis) error {
	w, err := s.src.weight(m.item)
	if err != nil {
		return err
	}
	spec := m.spec
	if m.item.HasGlobalScale() {
		if spec.Global, err = s.global(m.item, spec); err != nil {
			return err
		}
	}
	var codes *numeric.Matrix
	if b != nil && m.learn {
		var loss learn.Loss
		if codes, loss, err = b.Solve(spec, w, m.rows, s.workers); err != nil {
			return fmt.Errorf("%s: %w", m.item.Name(), err)
		}
		s.report.Loss.Add(loss)
	} else {
		q, _, err := numeric.Quantize(spec, w, m.rows, m.cols, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", m.item.Name(), err)
		}
		codes = q
		if m.learn {
			s.report.Failed = append(s.report.Failed, strings.TrimSuffix(m.item.Name(), ".weight"))
		}
	}
	if m.learn {
		s.put, s.codes = append(s.put, m.item.Name()), append(s.codes, codes)
	}
	return s.over.put(&m.item.Weight, codes)
}
