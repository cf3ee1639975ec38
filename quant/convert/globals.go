package convert

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// The scales of NVFP4 weights have a scale of their own, which the weights of a
// fused set share: engines take one for all (docs/facts/formats.md 3.2). It is
// known only when all of them have been read, before the first of their tiles is
// written: what there is room for is kept until then (kept.go), the rest is read
// twice.

// globals are the global scales of a plan's weights, found when they are asked
// for.
type globals struct {
	sets map[string][]int // by set: its items
	mu   sync.Mutex
	done map[string]*globalScale
}

// globalScale is one of them. Every goroutine that asks for it before it is known
// reads tiles of the set until there are none left.
type globalScale struct {
	spec  numeric.Spec
	tiles []tile
	first []int // the place of each tile's first weight in the set
	total int   // weights of the set
	count int   // tiles; the lists are dropped when all are read
	next  atomic.Int64

	mu     sync.Mutex
	parts  []numeric.SampleGlobal
	left   int // tiles that are not read
	failed int // the first tile that could not be

	done  chan struct{} // closed when value and err are final
	value float32
	err   error
}

// newGlobals lists the sets; nil for plans without any.
func newGlobals(p *quant.Plan) *globals {
	g := &globals{sets: map[string][]int{}, done: map[string]*globalScale{}}
	for i := range p.Items {
		if it := &p.Items[i]; it.HasGlobalScale() {
			set := p.GlobalSet(it.Weight.Tensor)
			g.sets[set] = append(g.sets[set], i)
		}
	}
	if len(g.sets) == 0 {
		return nil
	}
	return g
}

// global returns the global scale of an item's set, and helps to read the set
// while it is not known.
func (c *converter) global(ctx context.Context, it *quant.Item, s *scratch) (float32, error) {
	name := c.plan.GlobalSet(it.Weight.Tensor)
	c.globals.mu.Lock()
	g := c.globals.done[name]
	if g == nil {
		g = c.newGlobal(c.globals.sets[name])
		c.globals.done[name] = g
	}
	c.globals.mu.Unlock()
	for {
		i := int(g.next.Add(1)) - 1
		if i >= g.count {
			break
		}
		g.read(i, c.sampleTile(ctx, g, i, s))
	}
	<-g.done
	return g.value, g.err
}

// newGlobal lists the tiles of a set of items.
func (c *converter) newGlobal(items []int) *globalScale {
	g := &globalScale{done: make(chan struct{})}
	for _, i := range items {
		it := &c.plan.Items[i]
		_, k := it.Weight.Dims()
		total, step, unit := c.cut(it)
		for at := 0; at < total; at += step {
			rows := min(step, total-at)
			g.tiles = append(g.tiles, tile{item: it, row0: at, rows: rows, bytes: rows * int(unit)})
			g.first = append(g.first, g.total+at*k)
		}
		g.total += total * k
		g.spec = c.plan.Layout().Numeric(it.Weight, c.plan.Options.Arith)
	}
	n := len(g.tiles)
	g.parts, g.count, g.left, g.failed = make([]numeric.SampleGlobal, n), n, n, n
	return g
}

// read notes that tile i has been read; the last one makes the scale.
func (g *globalScale) read(i int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && i < g.failed {
		g.err, g.failed = err, i
	}
	if g.left--; g.left > 0 {
		return
	}
	if g.err == nil {
		var all numeric.SampleGlobal
		for k := range g.parts {
			all.Join(&g.parts[k])
		}
		g.value = all.ScaleOf(g.spec)
	}
	g.parts, g.tiles, g.first = nil, nil, nil
	close(g.done)
}

// sampleTile reads tile i of a set.
func (c *converter) sampleTile(ctx context.Context, g *globalScale, i int, s *scratch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t, part := &g.tiles[i], &g.parts[i]
	_, k := t.item.Weight.Dims()
	part.Part(g.first[i], g.total)
	err := c.sampleWeights(t, part, k, s)
	var nf *numeric.NonFiniteError
	if errors.As(err, &nf) {
		return t.nonFinite(nf)
	}
	return err
}

// sampleWeights reads a tile and adds it to a sample as it is rounded.
func (c *converter) sampleWeights(t *tile, part *numeric.SampleGlobal, k int, s *scratch) error {
	it := t.item
	if it.Stored != nil {
		w, err := c.decodeStored(t, s)
		if err != nil {
			return err
		}
		return part.Add(w, k)
	}
	decoder, err := layout.DecoderOf(it.Source.DType)
	if err != nil {
		return err
	}
	var own []byte
	if c.plan.Scaling(it.Name()) == nil { // folding happens in place
		own = c.early.buffer(t)
	}
	src := own
	if src == nil {
		src = s.bytes(t.bytes)
	}
	if err = c.src.ReadAt(it.Source, it.Offset+int64(t.row0)*int64(t.bytes/max(t.rows, 1)), src); err == nil {
		err = c.scale(t, src)
	}
	if err == nil {
		err = part.AddBytes(src, decoder, k, &s.num)
	}
	switch {
	case own == nil:
	case err == nil:
		c.early.put(t, own)
	default:
		c.early.release(own)
	}
	return err
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
