package calib

import (
	"context"
	"errors"
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
func (s *solver) experts(ctx context.Context, l int, float *spill, run pass) error {
	tokens := make([][]int, s.plan.Config.Experts)
	for e := range tokens {
		tokens[e] = []int{} // not nil: pairs takes nil for all tokens
	}
	tr := &runtime.Trace{Router: func(_, row int, experts []int32, _ []float32) {
		for _, e := range experts {
			tokens[e] = append(tokens[e], s.served.base+row)
		}
	}}
	got, err := s.inputs(s.served, run, nil, tr, glm.ExpertGate, glm.Router)
	defer got.close()
	if err != nil {
		return err
	}
	served := got[glm.Router]
	s.coverage(tokens)
	some := &pairs{served, float, strided(served.rows)}
	var prior *learn.Gram // of gate and up, the same for all experts
	defer func() { _ = prior.Close() }()
	for e := range tokens {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.progress(l, "experts")
		if err := s.expert(l, e, &pairs{served, float, tokens[e]}, some, &prior); err != nil {
			return err
		}
	}
	if s.tensor(l, glm.SharedGate, -1) == nil {
		return nil
	}
	return s.mlp(l, [3]glm.Role{glm.SharedGate, glm.SharedUp, glm.SharedDown}, &pairs{served, float, nil})
}

// expert learns a routed expert from its own tokens and some of all.
func (s *solver) expert(l, e int, own, some *pairs, prior **learn.Gram) error {
	g, err := s.gated(l, [3]glm.Role{glm.ExpertGate, glm.ExpertUp, glm.ExpertDown}, e)
	if err != nil {
		return err
	}
	var b *learn.Basis
	if list := learnt(g.gate, g.up); len(list) > 0 {
		if *prior == nil {
			if *prior, err = s.moments(list, some); err != nil {
				return err
			}
		}
		if b, err = s.mixed(*prior, func(sums *learn.Gram) error { return s.sum(sums, list[0], own) }, list...); err != nil {
			return err
		}
	}
	if err := errors.Join(g.learn(b), b.Close()); err != nil || g.down == nil || !g.down.learn {
		return err
	}
	down, err := g.settled(some, own)
	if err != nil {
		return err
	}
	all := s.gram(g.down)
	if err = g.sum(all, down, some); err == nil {
		all.Finish(s.workers)
		b, err = s.mixed(all, func(sums *learn.Gram) error { return g.sum(sums, down, own) }, g.down)
	}
	if err = errors.Join(err, all.Close()); err != nil {
		return err
	}
	return errors.Join(s.solve(g.down, b), b.Close())
}

// learnt are those of some modules whose codes are to be learnt.
func learnt(list ...*module) (out []*module) {
	for _, m := range list {
		if m != nil && m.learn {
			out = append(out, m)
		}
	}
	return out
}

// moments are finished sums over inputs that some modules share.
func (s *solver) moments(list []*module, in *pairs) (*learn.Gram, error) {
	g := s.gram(list...)
	if err := s.sum(g, list[0], in); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.Finish(s.workers)
	return g, nil
}

// mixed is the basis for modules of sums over an expert's own inputs and means over
// those of all tokens.
func (s *solver) mixed(prior *learn.Gram, sum func(*learn.Gram) error, list ...*module) (*learn.Basis, error) {
	own := s.gram(list...)
	if err := sum(own); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	own.Shrink(prior, s.o.Prior, s.workers)
	own.Finish(s.workers)
	return s.basisOf(own, list...)
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

func toBytes(x []float32) []byte { return numeric.AppendF32(nil, x) }
