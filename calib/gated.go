package calib

import (
	"errors"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// gated is a gated MLP of a layer: dense, shared or one expert.
type gated struct {
	s              *solver
	gate, up, down *module        // nil where not quantised
	w              [2]weights     // of gate and up
	weight         *layout.Weight // how the input is quantised; its Act may be none
	parts          bool           // gate and up are read as they are wanted: memory has no room for them
}

// weights are a projection's in both models.
type weights struct {
	item       *quant.Item
	rows, cols int
	// float and served are float32, little-endian, unless they are read in parts;
	// served is then known by its codes, nil where it is the float model's.
	float, served []byte
	codes         *numeric.Matrix
}

// gated finds an MLP, and reads gate and up if down is to be learnt from what they
// make.
func (s *solver) gated(l int, roles [3]glm.Role, e int) (*gated, error) {
	g := &gated{s: s, weight: new(layout.Weight), gate: s.one(l, roles[0], e), up: s.one(l, roles[1], e), down: s.one(l, roles[2], e)}
	if g.up != nil {
		g.weight = &g.up.item.Weight
	}
	if g.down == nil || !g.down.learn {
		return g, nil
	}
	for _, m := range []*module{g.gate, g.up, g.down} {
		g.parts = g.parts || m != nil && !s.holds(m)
	}
	for i, r := range roles[:2] {
		it := s.tensor(l, r, e)
		w := &g.w[i]
		w.item = it
		w.rows, w.cols = it.Weight.Dims()
		if g.parts {
			continue
		}
		x, err := s.src.weight(it)
		if err != nil {
			return nil, err
		}
		w.float = numeric.AppendF32(nil, x)
		w.served = w.float
	}
	return g, nil
}

// learn learns gate and up with a basis.
func (g *gated) learn(b *learn.Basis) error {
	for i, m := range []*module{g.gate, g.up} {
		if m == nil {
			continue
		}
		if m.learn {
			if err := g.s.solve(m, b); err != nil {
				return err
			}
		}
		if g.w[i].item == nil { // nothing asks for it
			continue
		}
		served, err := g.s.over.weight(m.item.Name())
		if err != nil {
			return err
		}
		q := served.Quant
		if g.parts {
			g.w[i].codes = q
			continue
		}
		w := make([]float32, q.Rows*q.Cols)
		q.Dequant(w, 0, q.Rows)
		g.w[i].served = numeric.AppendF32(nil, w)
	}
	return nil
}

// The models of a gated MLP's weights.
const (
	floatModel = iota
	servedModel
)

// partRows is how many rows of gate and up are read at a time.
const partRows = 1024

// part is rows lo … hi of a weight in a model, float32.
func (g *gated) part(w *weights, model, lo, hi int) ([]byte, error) {
	switch {
	case !g.parts && model == servedModel:
		return w.served[4*lo*w.cols : 4*hi*w.cols], nil
	case !g.parts:
		return w.float[4*lo*w.cols : 4*hi*w.cols], nil
	case model == servedModel && w.codes != nil:
		x := make([]float32, (hi-lo)*w.cols)
		w.codes.Dequant(x, lo, hi)
		return numeric.AppendF32(nil, x), nil
	}
	x, err := g.s.src.rows(w.item, lo, hi)
	return numeric.AppendF32(nil, x), err
}

// inner are the inputs of down [rows, width] in a model, of its inputs as they are
// quantised there.
func (g *gated) inner(x []float32, model int) ([]float32, error) {
	rows := len(x) / g.w[0].cols
	var y [2][]float32
	for i := range y {
		w := &g.w[i]
		y[i] = make([]float32, rows*w.rows)
		step := w.rows
		if g.parts {
			step = partRows
			if g.s.o.filed > 0 {
				step = partRows / 16
			}
		}
		for lo := 0; lo < w.rows && rows > 0; lo += step {
			hi := min(lo+step, w.rows)
			data, err := g.part(w, model, lo, hi)
			if err != nil {
				return nil, err
			}
			kernel.Float(y[i][lo:], w.rows, x, rows, kernel.F32, data, hi-lo, w.cols, g.s.workers)
		}
	}
	kernel.SwiGLU(y[0], y[0], y[1])
	return y[0], nil
}

// settled is down with the scale of its inputs, one for all of some sets of tokens.
func (g *gated) settled(sets ...*pairs) (*layout.Weight, error) {
	w := &g.down.item.Weight
	if !unsettled(w) {
		return w, nil
	}
	var s span
	for _, in := range sets {
		weight, err := settled(g.weight, in)
		if err != nil {
			return nil, err
		}
		if err := in.each(func(served, _ []float32) error {
			x, err := g.inner(rounded(served, g.w[0].cols, weight, g.s.workers), servedModel)
			s.add(x)
			return err
		}); err != nil {
			return nil, err
		}
	}
	return s.settle(w), nil
}

// sum adds the inputs of down, quantised as those of a weight, to moments.
func (g *gated) sum(to *learn.Gram, down *layout.Weight, in *pairs) error {
	weight, err := settled(g.weight, in)
	if err != nil {
		return err
	}
	cols := g.down.cols
	both := func(add func(served, float []float32) error) error {
		return in.each(func(served, float []float32) error {
			x, err := g.inner(rounded(served, g.w[0].cols, weight, g.s.workers), servedModel)
			if err != nil {
				return err
			}
			y, err := g.inner(float, floatModel)
			if err != nil {
				return err
			}
			return add(rounded(x, cols, down, g.s.workers), y)
		})
	}
	add := func(served, float []float32) error {
		to.Add(served, float, len(served)/cols, g.s.workers)
		return nil
	}
	if !to.InFiles() {
		to.Next(g.s.workers)
		return both(add)
	}
	// They are wanted several times.
	var kept [2]*spill
	defer func() { _, _ = kept[0].close(), kept[1].close() }()
	for i := range kept {
		if kept[i], err = g.s.spill(cols); err != nil {
			return err
		}
	}
	if err := both(func(served, float []float32) error { return errors.Join(kept[0].put(served), kept[1].put(float)) }); err != nil {
		return err
	}
	for err == nil && to.Next(g.s.workers) {
		err = (&pairs{kept[0], kept[1], nil}).each(add)
	}
	return err
}

// mlp learns a dense or shared MLP.
func (s *solver) mlp(l int, roles [3]glm.Role, in *pairs) error {
	g, err := s.gated(l, roles, -1)
	if err != nil {
		return err
	}
	var b *learn.Basis
	if list := learnt(g.gate, g.up); len(list) > 0 {
		if b, err = s.basis(list, in); err != nil {
			return err
		}
	}
	if err := errors.Join(g.learn(b), b.Close()); err != nil || g.down == nil || !g.down.learn {
		return err
	}
	down, err := g.settled(in)
	if err != nil {
		return err
	}
	sums := s.gram(g.down)
	if err := g.sum(sums, down, in); err != nil {
		return errors.Join(err, sums.Close())
	}
	sums.Finish(s.workers)
	if b, err = s.basisOf(sums, g.down); err != nil {
		return err
	}
	return errors.Join(s.solve(g.down, b), b.Close())
}
