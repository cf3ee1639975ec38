package calib

import (
	"context"
	"slices"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
)

// every is of how many tokens one goes into what an expert would see of all.
const every = 4

// rare is the number of tokens below which an expert's own say little.
const rare = 64

// tensor returns the item of a role of a layer, expert e of several.
func (s *solver) tensor(l int, r glm.Role, e int) *quant.Item {
	for _, t := range s.plan.Config.Table() {
		if t.Layer == l && t.Role == r && t.Param == "weight" && (!r.IsExpert() || t.Expert == e) {
			return s.names[t.Name]
		}
	}
	return nil
}

// experts learns the routed and shared experts of a layer. A token counts for
// the experts that the served model's router sends it to.
func (s *solver) experts(ctx context.Context, l int, y, float []float32, probe pass) error {
	h, n := s.plan.Config.HiddenSize, s.plan.Config.Experts
	tokens := make([][]int, n)
	tr := &runtime.Trace{Router: func(_, row int, experts []int32, _ []float32) {
		for _, e := range experts {
			tokens[e] = append(tokens[e], row)
		}
	}}
	got, err := s.inputs(s.served, probe, y, tr, glm.ExpertGate, glm.Router)
	if err != nil {
		return err
	}
	served := got[glm.Router]
	s.coverage(tokens)
	roles := [3]glm.Role{glm.ExpertGate, glm.ExpertUp, glm.ExpertDown}
	someServed, someFloat := pick(served, strided(len(served)/h), h), pick(float, strided(len(served)/h), h)
	var prior *learn.Gram // of gate and up, the same for all experts
	for e := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.progress(l, "experts")
		g, err := s.gated(l, roles, e)
		if err != nil {
			return err
		}
		x, z := pick(served, tokens[e], h), pick(float, tokens[e], h)
		var b *learn.Basis
		if m := firstLearnt(g.gate, g.up); m != nil {
			if prior == nil {
				prior = s.moments(m, someServed, someFloat)
			}
			if b, err = s.mixed(m, x, z, prior); err != nil {
				return err
			}
		}
		if err := g.learn(b); err != nil {
			return err
		}
		if g.down == nil || !g.down.learn {
			continue
		}
		px, pz := g.inner(someServed, someFloat)
		x, z = g.inner(x, z)
		if b, err = s.mixed(g.down, x, z, s.moments(g.down, px, pz)); err != nil {
			return err
		}
		if err := s.solve(g.down, b); err != nil {
			return err
		}
	}
	if s.tensor(l, glm.SharedGate, -1) == nil {
		return nil
	}
	return s.mlp(l, [3]glm.Role{glm.SharedGate, glm.SharedUp, glm.SharedDown}, served, float)
}

func firstLearnt(list ...*module) *module {
	for _, m := range list {
		if m != nil && m.learn {
			return m
		}
	}
	return nil
}

// moments are finished sums over inputs of a module.
func (s *solver) moments(m *module, served, float []float32) *learn.Gram {
	g := learn.NewGram(m.cols, true)
	s.add(g, m, served, float)
	g.Finish(s.workers)
	return g
}

// mixed is the basis of an expert's own inputs and of those of all tokens.
func (s *solver) mixed(m *module, served, float []float32, prior *learn.Gram) (*learn.Basis, error) {
	g := learn.NewGram(m.cols, true)
	s.add(g, m, served, float)
	g.Shrink(prior, s.o.Prior, s.workers)
	g.Finish(s.workers)
	return s.basisOf(g)
}

// coverage notes how many tokens the experts of a layer had.
func (s *solver) coverage(tokens [][]int) {
	counts := make([]int, len(tokens))
	for i, t := range tokens {
		if counts[i] = len(t); len(t) < rare {
			s.report.Rare++
		}
	}
	slices.Sort(counts)
	if len(counts) > 0 {
		s.report.Experts, s.report.Least, s.report.Median = len(counts), counts[0], counts[len(counts)/2]
	}
}

func strided(n int) []int {
	out := make([]int, 0, n/every+1)
	for i := 0; i < n; i += every {
		out = append(out, i)
	}
	return out
}

// pick copies rows of x, which have h elements.
func pick(x []float32, rows []int, h int) []float32 {
	out := make([]float32, 0, len(rows)*h)
	for _, r := range rows {
		out = append(out, x[r*h:(r+1)*h]...)
	}
	return out
}

// keep saves where the run is, in front of a layer.
func (s *solver) keep(l int, x, y []float32) error {
	p := &point{Layer: l, Float: toBytes(x), Served: toBytes(y)}
	for i := range s.float.keys {
		p.KeysF, p.KeysS = append(p.KeysF, s.float.keys[i].Keys), append(p.KeysS, s.served.keys[i].Keys)
	}
	if err := s.store.savePoint(p); err != nil {
		return err
	}
	s.store.dropPoint(l - 1)
	return nil
}

// restore takes up a kept point.
func (s *solver) restore(p *point, x, y []float32) {
	fromBytes(x, p.Float)
	fromBytes(y, p.Served)
	for i := range s.float.keys {
		if i < len(p.KeysF) && i < len(p.KeysS) {
			s.float.keys[i].Keys, s.served.keys[i].Keys = p.KeysF[i], p.KeysS[i]
		}
	}
}

func toBytes(x []float32) []byte { return numeric.AppendF32(nil, x) }

func fromBytes(x []float32, b []byte) {
	numeric.DecodeF32(x[:min(len(x), len(b)/4)], b)
}
