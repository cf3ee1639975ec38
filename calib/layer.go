package calib

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime"
)

func hashText(t string) string {
	sum := sha256.Sum256([]byte(t))
	return hex.EncodeToString(sum[:])
}

// stages are the attention's projections in the order of computation: those with
// one input, and the role that shows it.
var stages = []struct {
	shown []glm.Role // the first that the layer has
	roles []glm.Role
}{
	{[]glm.Role{glm.AttnQ, glm.AttnQA}, []glm.Role{glm.AttnQ, glm.AttnK, glm.AttnV, glm.AttnQA, glm.AttnKVA, glm.IndexerK}},
	{[]glm.Role{glm.AttnQB}, []glm.Role{glm.AttnQB, glm.IndexerQB}},
	{[]glm.Role{glm.AttnO}, []glm.Role{glm.AttnO}},
}

// trunk is the pass of a layer of the trunk.
func (s *solver) trunk(ctx context.Context, l int) pass {
	return func(m *model, to *stateWriter, tr *runtime.Trace) error {
		return s.chunks(m, l, 0, func(_ [][]int, x []float32, spans []runtime.Span) error {
			for i := range spans {
				spans[i].Cache = new(runtime.LayerCache)
			}
			if err := m.Layer(ctx, l, x, spans, tr); err != nil || to == nil {
				return err
			}
			for i := range spans {
				n := spans[i].N * s.plan.Config.HiddenSize
				if err := to.put(x[:n], &spans[i]); err != nil {
					return err
				}
				x = x[n:]
			}
			return nil
		})
	}
}

// layer learns the codes of a layer of the trunk and takes both streams through it.
func (s *solver) layer(ctx context.Context, l int) (*LayerReport, error) {
	s.progress(l, "inputs")
	float, err := createStates(s.o.FS, s.float.dir, l+1, s.store.id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = float.abort() }()
	served, err := createStates(s.o.FS, s.served.dir, l+1, s.store.id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = served.abort() }()
	run := s.trunk(ctx, l)
	if err := s.learnLayer(ctx, l, run, float); err != nil {
		return nil, err
	}
	if err := run(s.served, served, nil); err != nil {
		return nil, err
	}
	r, err := s.finishLayer(l)
	if err == nil {
		err = errors.Join(float.commit(), served.commit())
	}
	if err != nil {
		return nil, err // the states in front of this layer are where the next run goes on
	}
	for _, m := range []*model{s.float, s.served} {
		_ = s.o.FS.Remove(filepath.Join(m.dir, statesFile(l)))
	}
	return r, nil
}

// draft learns the codes of the MTP layer: its inputs are the trunk's states
// after the final norm, one token further.
func (s *solver) draft(ctx context.Context) (*LayerReport, error) {
	l, h := s.plan.Config.Layers, s.plan.Config.HiddenSize
	s.rows -= len(s.o.Sequences)
	run := func(m *model, _ *stateWriter, tr *runtime.Trace) error {
		mtp, err := m.MTP()
		if err != nil {
			return err
		}
		return s.chunks(m, l, 1, func(seqs [][]int, x []float32, _ []runtime.Span) error {
			x, err := m.FinalNorm(x)
			if err != nil {
				return err
			}
			var ids []int
			var spans []runtime.Span
			states, at := x[:0], 0
			for _, q := range seqs {
				n := len(q) - 1
				ids, states = append(ids, q[1:]...), append(states, x[at*h:(at+n)*h]...)
				spans = append(spans, runtime.Span{N: n, Cache: new(runtime.LayerCache)})
				at += n + 1
			}
			_, _, err = mtp.Step(ctx, ids, states, spans, tr)
			return err
		})
	}
	if err := s.learnLayer(ctx, l, run, nil); err != nil {
		return nil, err
	}
	return s.finishLayer(l)
}

// finishLayer writes the codes of a layer.
func (s *solver) finishLayer(l int) (*LayerReport, error) {
	if len(s.put) > 0 {
		if err := s.store.put(l, s.put, s.codes); err != nil {
			return nil, err
		}
	}
	s.put, s.codes = nil, nil
	clear(s.globals)
	s.over.drop()
	if err := s.shelf.close(); err != nil {
		return nil, err
	}
	s.progress(l+1, "done")
	return s.report, nil
}

// learnLayer learns stage by stage: each sees inputs that went through the codes
// of those before it. The float model's states behind the layer go to float.
func (s *solver) learnLayer(ctx context.Context, l int, run pass, float *stateWriter) error {
	s.report = &LayerReport{Layer: l}
	for _, list := range s.layers[l] { // what is not learnt is as it will be served
		for _, m := range list {
			if !m.learn {
				if err := s.solve(m, nil); err != nil {
					return err
				}
			}
		}
	}
	want := []glm.Role{glm.AttnQ, glm.AttnQA, glm.AttnQB, glm.AttnO, glm.DenseGate, glm.Router}
	in, err := s.inputs(s.float, run, float, nil, glm.Unknown, want...)
	defer in.close()
	if err != nil {
		return err
	}
	for _, st := range stages {
		var list []*module
		for _, r := range st.roles {
			list = append(list, s.layers[l][r]...)
		}
		list = slices.DeleteFunc(list, func(m *module) bool { return !m.learn })
		at := slices.IndexFunc(st.shown, func(r glm.Role) bool { return in[r] != nil })
		if at < 0 {
			continue
		}
		if len(list) > 0 {
			if err := s.stage(st.shown[at], list, run, in); err != nil {
				return err
			}
		}
		if err := in.drop(st.shown[at]); err != nil {
			return err
		}
	}
	if in[glm.DenseGate] != nil {
		served, err := s.inputs(s.served, run, nil, nil, glm.DenseGate, glm.DenseGate)
		defer served.close()
		if err != nil {
			return err
		}
		return s.mlp(l, [3]glm.Role{glm.DenseGate, glm.DenseUp, glm.DenseDown}, &pairs{served[glm.DenseGate], in[glm.DenseGate], nil})
	}
	return s.experts(ctx, l, in[glm.Router], run)
}

// stage learns modules whose input a role shows.
func (s *solver) stage(role glm.Role, list []*module, run pass, float inputs) error {
	served, err := s.inputs(s.served, run, nil, nil, role, role)
	defer served.close()
	if err != nil {
		return err
	}
	b, err := s.basis(list, &pairs{served[role], float[role], nil})
	if err != nil {
		return err
	}
	for _, m := range list {
		if err == nil {
			err = s.solve(m, b)
		}
	}
	return errors.Join(err, b.Close())
}

// basis is that of inputs of some modules; nil where their moments are not definite.
func (s *solver) basis(list []*module, in *pairs) (*learn.Basis, error) {
	g, err := s.moments(list, in)
	if err != nil {
		return nil, err
	}
	return s.basisOf(g, list...)
}

// basisOf is the basis that the codes of some modules are learnt with.
func (s *solver) basisOf(g *learn.Gram, list ...*module) (*learn.Basis, error) {
	rows := 0
	for _, m := range list {
		rows += m.rows
	}
	b, err := learn.NewBasis(g, s.o.Learn, rows, s.workers)
	if errors.Is(err, learn.ErrSingular) {
		return nil, nil
	}
	return b, err
}

// sum adds inputs to moments, the served ones as the module quantises them.
func (s *solver) sum(g *learn.Gram, m *module, in *pairs) error {
	weight, err := settled(&m.item.Weight, in)
	if err != nil {
		return err
	}
	for err == nil && g.Next(s.workers) {
		err = in.each(func(served, float []float32) error {
			g.Add(rounded(served, m.cols, weight, s.workers), float, len(served)/m.cols, s.workers)
			return nil
		})
	}
	return err
}

// one returns the module of a role of a layer, expert e of several; nil if it is
// not quantised.
func (s *solver) one(l int, r glm.Role, e int) *module {
	for _, m := range s.layers[l][r] {
		if !r.IsExpert() || m.item.Weight.Tensor.Expert == e {
			return m
		}
	}
	return nil
}
