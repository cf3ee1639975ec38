package convert

import (
	"context"
	"errors"
	"sync"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// The scales of NVFP4 weights have a scale of their own, which the weights of a
// fused set share: engines take one for all (docs/facts/formats.md 3.2). It is
// known only when all of them have been read, so that they are read twice: once
// before the first of their tiles is written.

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
func newGlobals(p *quant.Plan) *globals {
	g := &globals{sets: map[string][]int{}, done: map[string]*globalScale{}}
	for i := range p.Items {
		if it := &p.Items[i]; it.HasGlobalScale() {
			set := p.GlobalSet(&it.Weight.Tensor)
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
func (c *converter) global(ctx context.Context, it *quant.Item, s *scratch) (float32, error) {
	name := c.plan.GlobalSet(&it.Weight.Tensor)
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
		spec = c.plan.Layout().Numeric(it.Weight, c.plan.Options.Arith)
	}
	return g.ScaleOf(spec), nil
}

// floats reads a tile as float32, as it is rounded.
func (c *converter) floats(t *tile, s *scratch) ([]float32, error) {
	it := t.item
	if it.Stored != nil {
		return c.decodeStored(t, s)
	}
	src := s.bytes(t.bytes)
	if err := c.src.ReadAt(it.Source, it.Offset+int64(t.row0)*int64(t.bytes/max(t.rows, 1)), src); err != nil {
		return nil, err
	}
	if err := c.scale(t, src); err != nil {
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

// requireInputs refuses to carry out a plan whose scales are not all known.
func requireInputs(p *quant.Plan) error {
	if in := p.Options.Inputs; p.Scheme.Calibrated() && p.Folds != nil && (in == nil || in.Folded != p.Folds.Hash()) {
		return &layout.ImpossibleError{What: string(p.Scheme) + " with folds", Rule: "its input scales are of inputs that the folds change",
			Nearest: "nvfp4a16 with folds, this scheme without, or with them and --calib, whose statistics know the inputs"}
	}
	if !p.NeedsInputs() {
		return nil
	}
	return &layout.ImpossibleError{What: string(p.Scheme) + " without statistics of activations",
		Rule: "its input scales come from the largest values that inputs take", Nearest: "nvfp4a16 quantises weights alone and needs none"}
}
