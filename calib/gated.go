package calib

import (
	"errors"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// gated is a gated MLP of a layer: dense, shared or one expert.
type gated struct {
	s              *solver
	gate, up, down *module        // nil where not quantised
	w              [2]weights     // of gate and up: float, served
	weight         *layout.Weight // how the input is quantised; its Act may be none
}

// weights are a projection's in both models.
type weights struct {
	rows, cols    int
	float, served []byte // float32, little-endian
}

// gated reads gate and up of an MLP.
func (s *solver) gated(l int, roles [3]glm.Role, e int) (*gated, error) {
	g := &gated{s: s, weight: new(layout.Weight), gate: s.one(l, roles[0], e), up: s.one(l, roles[1], e), down: s.one(l, roles[2], e)}
	for i, r := range roles[:2] {
		it := s.tensor(l, r, e)
		w, err := s.src.weight(it)
		if err != nil {
			return nil, err
		}
		g.w[i].rows, g.w[i].cols = it.Weight.Dims()
		g.w[i].float = numeric.AppendF32(nil, w)
		g.w[i].served = g.w[i].float
	}
	if g.up != nil {
		g.weight = &g.up.item.Weight
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
		served, err := g.s.over.weight(m.item.Name())
		if err != nil {
			return err
		}
		q := served.Quant
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

// inner are the inputs of down [rows, width] in a model, of its inputs as they are
// quantised there.
func (g *gated) inner(x []float32, model int) []float32 {
	cols := g.w[0].cols
	mul := func(w *weights) []float32 {
		rows, data := len(x)/cols, w.float
		if model == servedModel {
			data = w.served
		}
		y := make([]float32, rows*w.rows)
		if rows > 0 {
			kernel.Float(y, w.rows, x, rows, kernel.F32, data, w.rows, cols, g.s.workers)
		}
		return y
	}
	gate, up := mul(&g.w[0]), mul(&g.w[1])
	kernel.SwiGLU(gate, gate, up)
	return gate
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
			s.add(g.inner(rounded(served, g.w[0].cols, weight, g.s.workers), servedModel))
			return nil
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
			x := g.inner(rounded(served, g.w[0].cols, weight, g.s.workers), servedModel)
			return add(rounded(x, cols, down, g.s.workers), g.inner(float, floatModel))
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
