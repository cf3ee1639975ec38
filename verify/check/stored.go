package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/safetensors"
)

// compareStored holds a weight that is declared in a form without rules here
// against that declaration: whatever an engine makes of it, codes have the
// declared type, scales the declared shape, and what is static is stored.
func (s *subject) compareStored(m *module) {
	if s.decl == nil || s.decl.Declaration == nil || s.ascend || !quantizable(m.row.Role) {
		return
	}
	g := s.decl.Of(m.row.Module).Group
	codes, ok := m.params["weight"]
	_, packed := m.params["weight_packed"]
	bytes := ok && len(codes.Shape) == 2 && (codes.DType == safetensors.I8 || codes.DType == safetensors.F8E4M3)
	if g == nil || !bytes && !packed {
		return
	}
	w, where := g.Weights, m.row.Module
	if bytes && (w.Type == format.Float) != (codes.DType == safetensors.F8E4M3) {
		s.add("weight-encoding", where, "the config (%s) says %s, the codes are %s", g.Name, w, codes.DType)
		return
	}
	if _, has := m.params["weight_zero_point"]; w.ZeroPoints && !has {
		s.add("companion-missing", where+".weight_zero_point", "the config (%s) says that codes are not symmetric", g.Name)
	}
	scale, ok := m.params["weight_scale"]
	if !ok {
		scale, ok = m.params["weight_scale_inv"]
	}
	if want := scaleShape(w, m.o, m.i); bytes && ok && want != nil && !slices.Equal(trimmed(scale.Shape), trimmed(want)) {
		s.add("weight-encoding", where, "the config (%s) says %s, which has scales %v; they are %v", g.Name, w, want, scale.Shape)
	}
}

// compareForeign holds tensors that are of no known form against a declaration
// that says which form they are of: engines build that form's parameters.
func (s *subject) compareForeign(m *module) {
	if !m.known || m.form.kind != foreign || m.want.kind == foreign || !m.want.quantized() || !quantizable(m.row.Role) && !m.row.Role.IsVision() {
		return
	}
	codes := false
	for _, p := range m.want.parts(m.o, m.i, sliced(m.row.Role)) {
		isWeight := p.param == "weight" || p.param == "weight_packed"
		t, ok := m.params[p.param]
		codes = codes || ok && isWeight
		if !ok || slices.Contains(p.dtypes, t.DType) || !isWeight && t.DType == safetensors.F8E8M0 {
			continue // powers of two are numbers: what engines make of them is not judged
		}
		code := "companion-dtype"
		if isWeight {
			code = "tensor-dtype"
		}
		s.add(code, t.Name, "it is %s, the config (%s) says %s, which needs %v", t.DType, m.group, m.want, p.dtypes)
	}
	if !codes {
		s.add("weight-encoding", m.row.Module, "the config (%s) says %s, its tensors are %s", m.group, m.want, strings.Join(slices.Sorted(maps.Keys(m.params)), ", "))
	}
}

// checkInput asks for the scales of inputs that the declaration says are stored.
// Engines that miss one take what their memory held.
func (s *subject) checkInput(m *module) {
	if s.decl == nil || s.decl.Declaration == nil || s.ascend || !m.form.quantized() || !quantizable(m.row.Role) {
		return
	}
	g := s.decl.Of(m.row.Module).Group
	if g == nil || !g.Input.Quantized() || g.Input.When == format.Dynamic {
		return
	}
	for _, name := range []string{"input_scale", "input_global_scale", "input_scale_2"} {
		if _, ok := m.params[name]; ok {
			return
		}
	}
	name := "input_scale"
	if g.Input.When == format.Local && s.decl.Method == declaration.CompressedTensors {
		name = "input_global_scale"
	}
	s.add("companion-missing", m.row.Module+"."+name, "the config (%s) says %s activations, whose scale has to be stored", g.Name, g.Input)
}

// scaleShape is the shape of the scales of a weight [o, i]; nil where it is not
// known.
func scaleShape(w format.Weight, o, i int64) []int64 {
	switch w.Strategy {
	case format.Tensor:
		return []int64{1}
	case format.Channel:
		return []int64{o, 1}
	case format.Group:
		if w.Group > 0 && int64(w.Group) < i {
			return []int64{o, ceilDiv(i, int64(w.Group))}
		}
	case format.Block:
		if w.BlockRows > 0 && w.BlockCols > 0 {
			return []int64{ceilDiv(o, int64(w.BlockRows)), ceilDiv(i, int64(w.BlockCols))}
		}
	}
	return nil
}

// trimmed is a shape without dimensions of 1 at its end: [O, 1] and [O] are
// read alike, and so are [1] and [].
func trimmed(shape []int64) []int64 {
	for len(shape) > 0 && shape[len(shape)-1] == 1 {
		shape = shape[:len(shape)-1]
	}
	return shape
}
