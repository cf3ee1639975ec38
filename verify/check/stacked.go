package check

import (
	"context"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/safetensors"
)

// Stacked experts are one tensor for a projection of all experts of a layer, as
// transformers 5 holds them (docs/facts/families.md): gate_up_proj [E, 2M, H] and
// down_proj [E, H, M].

// judgeStacked finds out what an expert in such a tensor is. Codes have no rules
// there: what is declared of them is not judged, and undeclared they are no form.
func (s *subject) judgeStacked(m *module) {
	if s.published(m) {
		s.declaredOf(m)
	}
	m.form = form{kind: plain}
	if d := m.stack.Source.DType; !isFloat(d) && m.want.quantized() {
		m.form = form{kind: foreign}
	}
}

// checkStacked compares an expert in a stacked tensor with its declaration, and
// that tensor with the config.
func (s *subject) checkStacked(m *module) {
	t := m.stack.Source
	if first := m.row.Expert == 0 && m.row.Role != glm.ExpertUp; first {
		s.checkStack(m, t)
	}
	if m.form.kind != plain || !isFloat(t.DType) {
		return
	}
	switch {
	case m.want.kind == foreign:
		s.checkPublished(m)
	case m.known:
		s.compareWithConfig(m)
	}
}

// checkStack looks at the tensor that an expert is the first of.
func (s *subject) checkStack(m *module, t safetensors.Info) {
	rows := m.o
	if m.row.Role == glm.ExpertGate {
		rows *= 2
	}
	want := []int64{int64(s.cfg.Experts), rows, m.i}
	switch codes := !isFloat(t.DType); {
	case codes && m.form.kind != foreign:
		s.add("tensor-dtype", t.Name, "it is %s, and the config does not say that it is quantized; stacked experts are BF16, F16 or F32", t.DType)
	case t.DType == safetensors.F64:
		s.add("tensor-dtype", t.Name, "it is %s; BF16, F16 or F32 is needed here", t.DType)
	case codes && t.DType.Bits() == 8 && t.DType != safetensors.U8 && !slices.Equal(t.Shape, want):
		s.add("tensor-shape", t.Name, "it is %v, config.json implies %v", t.Shape, want)
	}
}

// stackOf is the name of the stacked tensor that an expert's weight would be in.
func (s *subject) stackOf(row *glm.Tensor) string {
	gateUp, down := s.cfg.StackedExperts(row.Layer)
	if row.Role == glm.ExpertDown {
		return down
	}
	return gateUp
}

// misfitStacks names the stacked tensors that are there in another shape, or
// with a name that ends in .weight: their experts are not lost.
func (s *subject) misfitStacks() map[string]bool {
	out := map[string]bool{}
	for _, row := range s.model.Missing {
		if !row.Role.IsExpert() {
			continue
		}
		name := s.stackOf(&row)
		if out[name] {
			continue
		}
		t, ok := s.tensors[name]
		want := []int64{int64(s.cfg.Experts), row.Shape[0], row.Shape[1]}
		if row.Role != glm.ExpertDown {
			want[1] *= 2
		}
		switch named, other := s.tensors[name+".weight"]; {
		case ok && !slices.Equal(t.Shape, want):
			f := s.add("tensor-shape", t.Name, "it is %v, config.json implies %v", t.Shape, want)
			if slices.Equal(t.Shape, []int64{want[0], want[2], want[1]}) {
				f.Detail += ": its matrices are transposed"
				f.hint("transpose the last two dimensions: transformers 5 stores them [out, in], as every linear")
			}
			out[name] = true
		case other:
			s.add("tensor-unexpected", named.Name, "stacked experts are called %s: the experts of its layer are not found under this name", name).as(Error).
				hint("take .weight from the end of the name")
			out[name] = true
		}
	}
	return out
}

// weightType is the type of a module's weight as it is stored.
func (m *module) weightType() safetensors.DType {
	if m.stack != nil {
		return m.stack.Source.DType
	}
	return m.params["weight"].DType
}

// stackedJobs reads an expert's part of a stacked tensor. Findings name the
// tensor, and say which expert it is.
func (s *subject) stackedJobs(m *module) []job {
	if !s.opts.Weights || !isFloat(m.stack.Source.DType) {
		return nil
	}
	t := m.stack.Source
	t.Offset, t.Size, t.Shape = t.Offset+m.stack.Offset, m.stack.Size, m.row.Shape
	return []job{{t.Size, func(ctx context.Context) ([]Finding, error) {
		out, err := s.weights(ctx, m, t)
		for i := range out {
			parts := strings.Split(m.row.Module, ".")
			out[i].Detail = "expert " + strings.Join(parts[max(len(parts)-2, 0):], ", ") + ": " + out[i].Detail
		}
		return out, err
	}}}
}

// askStacked says what a release makes of stacked experts.
func (s *subject) askStacked(r engine.Release, v *EngineVerdict) {
	for _, m := range s.modules {
		if m.stack == nil {
			continue
		}
		answer, rule := r.StackedExperts(s.cfg.Family)
		if answer == engine.Loads {
			return
		}
		before := v.Answer
		s.verdict(v, answer, m.stack.Source.Name+": "+rule)
		if v.Answer == before {
			return
		}
		switch answer {
		case engine.Refuses:
			s.refuses(r, v)
		case engine.Differs:
			f := s.add("engine-misreads", m.stack.Source.Name, "%s", rule).on(string(r.Engine)).
				hint("store the experts one by one, as the releases do")
			if !s.asked {
				f.as(Warning)
			}
		}
		return
	}
}
