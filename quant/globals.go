package quant

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// The scales of NVFP4 weights have a scale of their own, which the weights of a
// fused set share: engines take one for all (docs/facts/formats.md 3.2). It is
// known only when all of them have been read, so that they are read twice: once
// before the first of their tiles is written.

// Inputs are the largest magnitudes that inputs of modules have taken: what
// schemes with a global scale of the input need. They are recorded in the
// manifest.
type Inputs struct {
	Source string             `json:"source"`  // of what: "built-in corpus, 2048 tokens"
	AbsMax map[string]float32 `json:"abs_max"` // by module
}

// Of returns the largest magnitude of a module's input.
func (in *Inputs) Of(module string) (float32, bool) {
	if in == nil {
		return 0, false
	}
	v, ok := in.AbsMax[module]
	return v, ok && v > 0
}

// globalSet names the set of weights that share a global scale: q, k and v,
// q_a and kv_a, gate and up of every MLP and of each expert. llm-compressor
// 0.14 has one for each expert's and shared expert's gate and up.
func (p *Plan) globalSet(t *glm.Tensor) string {
	switch {
	case p.arith() == numeric.Compat && p.Format == layout.CompressedTensors && (t.Role.IsExpert() || t.Role.IsShared()):
		return t.Module
	case t.Role == glm.ExpertGate || t.Role == glm.ExpertUp:
		return t.Module[:strings.LastIndexByte(t.Module, '.')] + ".gate_up_proj"
	case t.Role.IsExpert() || t.Group == "":
		return t.Module
	}
	return t.Group
}

// hasGlobal reports whether an item's scales have a scale.
func hasGlobal(it *Item) bool {
	return it.Action == Quantize && it.Weight.Quant.Strategy == format.TensorGroup
}

// globals are the global scales of a plan's weights, found when they are asked
// for.
type globals struct {
	sets map[string][]int // by set: its items
	mu   sync.Mutex
	done map[string]*globalScale
}

type globalScale struct {
	once  sync.Once
	value float32
	err   error
}

// newGlobals lists the sets; nil for plans without any.
func (p *Plan) newGlobals() *globals {
	g := &globals{sets: map[string][]int{}, done: map[string]*globalScale{}}
	for i := range p.Items {
		if it := &p.Items[i]; hasGlobal(it) {
			set := p.globalSet(&it.Weight.Tensor)
			g.sets[set] = append(g.sets[set], i)
		}
	}
	if len(g.sets) == 0 {
		return nil
	}
	return g
}

// global returns the global scale of an item's set, and reads the set if
// nobody has.
func (c *converter) global(ctx context.Context, it *Item, s *scratch) (float32, error) {
	name := c.plan.globalSet(&it.Weight.Tensor)
	c.globals.mu.Lock()
	g := c.globals.done[name]
	if g == nil {
		g = new(globalScale)
		c.globals.done[name] = g
	}
	c.globals.mu.Unlock()
	g.once.Do(func() { g.value, g.err = c.readGlobal(ctx, c.globals.sets[name], s) })
	return g.value, g.err
}

// readGlobal reads the weights of a set.
func (c *converter) readGlobal(ctx context.Context, items []int, s *scratch) (float32, error) {
	var g numeric.SampleGlobal
	var spec numeric.Spec
	for _, i := range items {
		it := &c.plan.Items[i]
		_, k := it.Weight.Dims()
		total, step, unit := c.cut(it)
		for at := 0; at < total; at += step {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			t := &tile{item: it, row0: at, rows: min(step, total-at), bytes: min(step, total-at) * int(unit)}
			w, err := c.floats(t, s)
			if err != nil {
				return 0, err
			}
			err = g.Add(w, k)
			var nf *numeric.NonFiniteError
			if errors.As(err, &nf) {
				return 0, t.nonFinite(nf)
			} else if err != nil {
				return 0, err
			}
		}
		spec = c.plan.lay.Numeric(it.Weight, c.plan.arith())
	}
	return g.ScaleOf(spec), nil
}

// floats reads a tile as float32, as it is rounded.
func (c *converter) floats(t *tile, s *scratch) ([]float32, error) {
	it := t.item
	if it.Stored != nil {
		return c.decodeStored(t, s)
	}
	if cap(s.src) < t.bytes {
		s.src = make([]byte, t.bytes)
	}
	src := s.src[:t.bytes]
	if err := c.src.ReadAt(it.Source, it.Offset+int64(t.row0)*int64(t.bytes/max(t.rows, 1)), src); err != nil {
		return nil, err
	}
	if err := c.plan.scale(t, src); err != nil {
		return nil, err
	}
	decoder, err := layout.DecoderOf(it.Source.DType)
	if err != nil {
		return nil, err
	}
	w := s.take(t.bytes / decoder.Size)
	decoder.Decode(w, src)
	return w, nil
}

// NeedsInputs reports whether the plan's scales need Options.Inputs and have not
// got all of them.
func (p *Plan) NeedsInputs() bool {
	for i := range p.Items {
		if w := &p.Items[i].Weight; p.Items[i].Action == Quantize && w.Act.When == format.Local && w.InputMax == 0 {
			return true
		}
	}
	return false
}

// takeInputs gives every weight the largest magnitude of its input: one for all
// members of a fused set, and one for all gates and ups and one for all downs
// of a layer's experts, which engines read as one.
func (p *Plan) takeInputs() {
	if p.Options.Inputs == nil {
		return
	}
	set := func(t *glm.Tensor) string {
		switch {
		case t.Role == glm.ExpertDown:
			return t.Group + ".down_proj"
		case t.Group == "":
			return t.Module
		}
		return t.Group
	}
	top := map[string]float32{}
	each := func(do func(w *layout.Weight)) {
		for i := range p.Items {
			if w := &p.Items[i].Weight; p.Items[i].Action == Quantize && w.Act.When == format.Local {
				do(w)
			}
		}
	}
	each(func(w *layout.Weight) {
		if v, ok := p.Options.Inputs.Of(w.Tensor.Module); ok {
			top[set(&w.Tensor)] = max(top[set(&w.Tensor)], v)
		}
	})
	each(func(w *layout.Weight) { w.InputMax = top[set(&w.Tensor)] })
}

// requireInputs refuses to carry out a plan whose scales are not all known.
func (p *Plan) requireInputs() error {
	if p.Scheme.Calibrated() && p.Folds != nil {
		return &layout.ImpossibleError{What: string(p.Scheme) + " with folds", Rule: "its input scales are of inputs that the folds change",
			Nearest: "nvfp4a16 with folds, or this scheme without"}
	}
	if !p.NeedsInputs() {
		return nil
	}
	return &layout.ImpossibleError{What: string(p.Scheme) + " without statistics of activations",
		Rule: "its input scales come from the largest values that inputs take", Nearest: "nvfp4a16 quantises weights alone and needs none"}
}

// noteGlobals says what compat gives up.
func (p *Plan) noteGlobals() {
	if p.arith() != numeric.Compat || p.Format != layout.CompressedTensors {
		return
	}
	for i := range p.Items {
		if it := &p.Items[i]; hasGlobal(it) && (it.Weight.Tensor.Role == glm.ExpertGate || it.Weight.Tensor.Role == glm.SharedGate) {
			p.Notes = append(p.Notes, "compat gives gate and up of an expert a global scale each, as llm-compressor does: vLLM takes gate's for both and reads up wrong by their ratio, which check names; best shares one")
			return
		}
	}
}

// WithInputs is the plan again with the largest magnitudes of inputs.
func (p *Plan) WithInputs(src *safetensors.Checkpoint, in *Inputs) (*Plan, error) {
	o := p.Options
	o.Inputs = in
	return NewPlan(src, p.Scheme, p.Format, o)
}
