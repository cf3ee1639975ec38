package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// checkTensors compares every tensor with what the family's table, the
// config's words and the layouts' rules demand.
func (s *subject) checkTensors() {
	if s.model == nil {
		return
	}
	s.checkMissing()
	for _, m := range s.modules {
		s.checkModule(m)
	}
	for _, row := range s.rows {
		if row.Param == "weight" {
			continue
		}
		if t, ok := s.tensors[row.Name]; ok {
			s.checkPlain(t, row)
		}
	}
	for _, t := range s.model.Unexpected {
		if s.explained(t.Name) {
			continue
		}
		if isCacheScale(t.Name) {
			continue // checkCache
		}
		s.add("tensor-unexpected", t.Name, "%s %v in %s is in no table of %s", t.DType, t.Shape, t.File, s.cfg.Family)
	}
	s.checkGroups()
	s.checkGlobals()
	s.checkBiases()
}

// checkMissing names the rows that nothing stands for.
func (s *subject) checkMissing() {
	misfits := s.misfitStacks()
	mtpThere := len(misfits) > 0 || slices.ContainsFunc(s.modules, func(m *module) bool { return m.row.MTP && (len(m.params) > 0 || m.stack != nil) })
	for _, row := range s.model.Missing {
		if m := s.byName[row.Module]; m != nil && row.Param == "weight" && m.form.kind != absent {
			continue
		}
		_, stored := s.tensors[row.Name]
		switch {
		case row.Role.IsExpert() && misfits[s.stackOf(&row)]:
		case stored: // in another shape or type, which checkPlain says
		case row.MTP && !mtpThere: // config-mtp-absent says it once
		case row.Role == glm.RouterBias:
			s.add("router-bias-missing", row.Name, "the router of layer %d has lost its bias [%d]", row.Layer, row.Shape[0])
		case row.MTP:
			s.add("mtp-incomplete", row.Name, "the MTP layer lacks this tensor %v", row.Shape)
		default:
			s.add("tensor-missing", row.Name, "%s %v is required by config.json", row.Role, row.Shape)
		}
	}
}

// checkPlain checks a full-precision tensor.
func (s *subject) checkPlain(t safetensors.Info, row glm.Tensor) {
	if !slices.Equal(t.Shape, row.Shape) {
		s.add("tensor-shape", t.Name, "it is %v, config.json implies %v", t.Shape, row.Shape)
	}
	switch {
	case row.Role == glm.RouterBias && isFloat(t.DType) && t.DType != safetensors.F64:
		if t.DType != safetensors.F32 {
			f := s.add("router-bias-dtype", t.Name, "it is %s; the values differ by less than %s can tell apart", t.DType, t.DType)
			if s.decl == nil || s.has(quant.ManifestName) {
				f.as(Warning) // a source as it came, or what quantize found in one and copied
			}
		}
	case t.DType == safetensors.F64 || !isFloat(t.DType):
		s.add("tensor-dtype", t.Name, "it is %s; BF16, F16 or F32 is needed here", t.DType)
	}
}

// quantisable tells whether a module's encoding is the config's affair. The
// engines build all others in full precision whatever the config says.
func quantizable(r glm.Role) bool { return r.IsLinear() && r != glm.IndexerK }

// checkModule compares what a module is with what it should be.
func (s *subject) checkModule(m *module) {
	f := m.form
	if m.stack != nil {
		s.checkStacked(m)
		return
	}
	said := len(s.report.Findings)
	if f.kind == absent {
		if s.checkTypes(m); len(s.report.Findings) == said {
			s.checkLeft(m)
		}
		return // checkMissing
	}
	defer func() {
		if len(s.report.Findings) == said { // else what is missing may follow from it
			s.checkInput(m)
		}
	}()
	if f.kind == foreign || m.want.kind == foreign {
		s.checkPublished(m)
	}
	if f.kind == foreign {
		if len(s.report.Findings) == said {
			s.compareStored(m)
		}
		if len(s.report.Findings) == said {
			s.compareForeign(m)
		}
		return
	}
	if f.kind == naked {
		scale := "weight_scale"
		switch m.want.kind {
		case ascendStatic, ascendMix:
			scale = "deq_scale"
		case fp8BlockInv:
			scale = "weight_scale_inv"
		}
		s.add("companion-missing", m.row.Module, "the weight is %s and has no scale: %s.%s is not there", m.params["weight"].DType, m.row.Module, scale)
		return
	}
	if m.known && m.want.kind != foreign && (quantizable(m.row.Role) || m.row.Role.IsVision()) {
		s.compareWithConfig(m)
	}
	if !f.quantized() {
		if t, ok := m.params["weight"]; ok {
			s.checkPlain(t, m.row)
		}
	} else if m.known && m.want.kind == f.kind {
		f = m.want // the declared group decides the shapes
	}
	s.checkParts(m, f)
}

// checkLeft names codes of which nothing can be read: glm.Survey does not miss
// their weight.
func (s *subject) checkLeft(m *module) {
	for _, param := range []string{"qweight", "weight_packed"} {
		if t, ok := m.params[param]; ok {
			s.add("weight-encoding", m.row.Module, "%s is %s %v, and with %s it is no weight of any form that is known", param, t.DType, t.Shape,
				strings.Join(slices.Sorted(maps.Keys(m.params)), ", "))
			return
		}
	}
}

// compareWithConfig finds disagreement between config and tensors, which no
// engine notices in all its forms.
func (s *subject) compareWithConfig(m *module) {
	f, w := m.form, m.want
	where := m.row.Module
	switch {
	case f == w:
	case w.quantized() && !f.quantized() && (s.stale != nil || s.builtPlain(where)):
		// said once, or excluded by the names that engines have for it
	case w.quantized() && !f.quantized():
		detail := "the config (%s) says %s, the tensor is %s"
		code := "weight-not-quantized"
		finding := s.add(code, where, detail, m.group, w, m.weightType())
		if m.row.MTP {
			finding.hint(s.excludeMTP())
		}
	case !w.quantized() && f.quantized() && m.ignore:
		s.add("ignored-but-quantized", where, "the config leaves it alone, the tensor is %s", f)
	case !w.quantized() && f.quantized():
		s.add("ignored-but-quantized", where, "no target of the config matches it, the tensor is %s", f)
	case w.kind == nvfp4Local && f.kind == nvfp4:
		s.add("companion-missing", where+".input_global_scale", "the config (%s) says that inputs are rounded below a scale that is stored", m.group)
	case w.kind == nvfp4 && f.kind == nvfp4Local:
		s.add("weight-encoding", where, "the config (%s) says %s and nothing of inputs that are rounded below a stored scale (input_activations, dynamic: local), the tensor is %s", m.group, w, f)
	case f.kind == int4Packed && w.kind == int4Bytes, f.kind == int4Bytes && w.kind == int4Packed:
		s.add("packed-name", where, "the config says %s, the tensor is %s", w, f)
	case f.kind == w.kind: // group sizes differ
		s.add("weight-encoding", where, "the config says %s, the tensor is %s", w, f)
	default:
		s.add("weight-encoding", where, "the config (%s) says %s, the tensor is %s", m.group, w, f)
	}
}

// floatParams are further parameters of a module that the table lists as rows
// of their own.
func (s *subject) isRow(name string) bool {
	_, ok := s.tableNames()[name]
	return ok
}

func (s *subject) tableNames() map[string]struct{} {
	if s.names == nil {
		s.names = make(map[string]struct{}, len(s.rows))
		for i := range s.rows {
			s.names[s.rows[i].Name] = struct{}{}
		}
	}
	return s.names
}

// sliced tells whether W4A8_DYNAMIC keeps a scale_bias for each of 16 slices of
// the module's inputs: they are split over devices.
func sliced(r glm.Role) bool {
	return r == glm.ExpertDown || r == glm.AttnO || r == glm.DenseDown || r == glm.SharedDown
}

// checkParts compares the tensors of a module with the parts of its form:
// each there, with the right type and the exact shape, and nothing else.
func (s *subject) checkParts(m *module, f form) {
	parts := f.parts(m.o, m.i, sliced(m.row.Role))
	if f.group > 0 && m.i%int64(f.group) != 0 {
		s.add("companion-shape", m.row.Module, "%d input columns do not divide into groups of %d", m.i, f.group)
		return
	}
	allowed := map[string]bool{}
	if f.kind == ascendStatic { // allocated by the engine and not used
		allowed["weight_scale"], allowed["weight_offset"] = true, true
	}
	for _, p := range parts {
		allowed[p.param] = true
		t, ok := m.params[p.param]
		switch {
		case !ok && p.param == "weight_shape":
			s.add("companion-missing", m.row.Module+"."+p.param, "packed weights carry their shape; engines register it").as(Warning)
			continue
		case !ok:
			s.add("companion-missing", m.row.Module+"."+p.param, "a %s weight needs it", f)
			continue
		}
		isWeight := p.param == "weight" || p.param == "weight_packed"
		if !slices.Equal(t.Shape, p.shape) {
			code := "companion-shape"
			if isWeight {
				code = "tensor-shape"
			}
			s.add(code, t.Name, "it is %v, a %s weight [%d %d] needs %v", t.Shape, f, m.o, m.i, p.shape)
		}
		if !slices.Contains(p.dtypes, t.DType) {
			code := "companion-dtype"
			if isWeight {
				code = "tensor-dtype"
			}
			s.add(code, t.Name, "it is %s, a %s weight needs %v", t.DType, f, p.dtypes)
		} else if (f.kind == int4Packed || f.kind == int4Bytes && f.group > 0) && p.param == "weight_scale" && t.DType == safetensors.F32 {
			s.add("companion-dtype", t.Name, "group scales in F32 are rounded to BF16 when loaded").as(Warning)
		}
	}
	for name, t := range m.params {
		if allowed[name] || isCacheScale(t.Name) || s.explained(t.Name) || s.isRow(t.Name) && (name != "weight" || !f.quantized()) {
			continue
		}
		switch {
		case f.kind == plain:
			s.add("companion-unexpected", t.Name, "the weight is not quantised, and a %s %v lies beside it", t.DType, t.Shape)
		default:
			s.add("companion-unexpected", t.Name, "a %s weight has no such tensor", f)
		}
	}
}

// checkGroups demands that the members of a fused group, and all experts of a
// layer, are encoded alike: engines ask the first.
func (s *subject) checkGroups() {
	first := map[string]*module{}
	told := map[string]bool{}
	for _, m := range s.modules {
		g := m.row.Group
		if g == "" || m.form.kind == absent || m.form.kind == foreign {
			continue
		}
		a, ok := first[g]
		if !ok {
			first[g] = m
			continue
		}
		if a.form == m.form {
			continue
		}
		if m.row.Role.IsExpert() {
			s.add("experts-mixed", m.row.Module, "it is %s, %s is %s", m.form, a.row.Module, a.form)
		} else if !told[g] {
			told[g] = true
			s.add("group-mixed", g, "%s is %s, %s is %s", a.row.Module, a.form, m.row.Module, m.form)
		}
	}
}
