package check

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// Weights of other tools (docs/facts/formats.md 2 to 8): their tensors are read
// as package layout reads them, and compared with what the declaration says.
// What engines make of them is not judged further than quant/engine knows that
// they refuse.

// published reports whether a module's weights are judged by what package
// layout reads, not by the forms that are written here.
func (s *subject) published(m *module) bool {
	if s.decl == nil || s.decl.Declaration == nil || s.ascend {
		return false
	}
	return s.decl.Method.Known() && (!readable(s.decl.method) || m.want.kind == foreign)
}

// judgePublished finds out what such a module is, and what it is declared to be.
func (s *subject) judgePublished(m *module) {
	said := s.declaredOf(m)
	if t, ok := m.params["weight"]; ok && isFloat(t.DType) {
		m.form = form{kind: plain}
		return
	}
	st, err := layout.Lookup(s.reader(), m.row.Module, layout.Hints{
		Declared: func(string) format.Weight { return said.Weights() }, Cols: func(string) int { return int(m.i) }})
	m.form = form{kind: foreign}
	switch {
	case errors.Is(err, safetensors.ErrNotFound):
		m.form = form{kind: absent}
	case err != nil:
		m.broken = err
	case !st.Quantized():
		m.form = form{kind: plain}
	default:
		m.form.weight, m.stored = comparable(st.Quant, m.i), &st
	}
}

// declaredOf notes what such a module is declared to be.
func (s *subject) declaredOf(m *module) declaration.Scheme {
	said := s.decl.Of(m.row.Module)
	m.known = m.row.Role.IsLinear() || m.row.Role == glm.VisionLinear
	switch g := said.Group; {
	case g == nil:
		m.want, m.ignore = form{kind: plain}, said.Ignored != nil
	case !g.Judged:
		m.want, m.group = form{kind: foreign}, g.Name
	default:
		m.want, m.group = form{kind: foreign, weight: comparable(g.Weights, m.i)}, g.Name
	}
	return said
}

// reader is the checkpoint, or where there is none the tensors that are known by
// their headers.
func (s *subject) reader() layout.TensorReader {
	if s.ckpt != nil {
		return s.ckpt
	}
	return headers(s.tensors)
}

// headers are tensors whose bytes are not there.
type headers map[string]safetensors.Info

func (h headers) Info(name string) (safetensors.Info, bool) { t, ok := h[name]; return t, ok }

func (h headers) ReadAt(t safetensors.Info, _ int64, _ []byte) error {
	return fmt.Errorf("%s: %w", t.Name, safetensors.ErrNotFound)
}

// comparable is what counts when a weight is compared with its declaration.
func comparable(w format.Weight, cols int64) format.Weight {
	scale := w.Scale
	w = w.Codes()
	w.ZeroPoints = false
	if scale == format.E8M0 && w.Strategy == format.Group {
		w.Scale = scale // MX
	}
	if w.Strategy == format.Group && int64(w.Group) >= cols {
		w.Strategy, w.Group = format.Channel, 0
	}
	return w
}

// checkPublished compares a module of another tool with its declaration and
// with the table.
func (s *subject) checkPublished(m *module) {
	where := m.row.Module
	if m.form.kind == foreign && !errors.Is(m.broken, layout.ErrMalformed) {
		s.checkTypes(m)
	}
	s.checkWords(m)
	switch {
	case m.broken != nil && errors.Is(m.broken, layout.ErrMalformed):
		s.add("companion-shape", where, "%s", reason(m.broken))
	case m.stored != nil && (int64(m.stored.Rows) != m.o || int64(m.stored.Cols) != m.i):
		s.add("tensor-shape", where, "it is [%d %d], config.json implies [%d %d]", m.stored.Rows, m.stored.Cols, m.o, m.i)
	}
	if !m.known || !quantizable(m.row.Role) && !m.row.Role.IsVision() || m.want.kind == foreign && !m.want.weight.Quantized() {
		return
	}
	f, w := m.form, m.want
	if g := s.decl.Of(where).Group; m.stored != nil && m.stored.Global.Name != "" && m.stored.Input.Name == "" && g != nil && g.Input.When == format.Local {
		s.add("companion-missing", where+".input_scale", "the config (%s) quantizes inputs below it: engines take what stands in memory, or 1", m.group)
	}
	switch {
	case !f.quantized() && w.quantized() && s.stale == nil:
		finding := s.add("weight-not-quantized", where, "the config (%s) says %s, the tensor is %s%s", m.group, w, m.weightType(), s.consequence(m))
		finding.hint(s.excludeFrom(m))
		if s.builtAsStored(m) {
			finding.as(Warning)
		}
	case f.quantized() && !w.quantized() && m.ignore:
		s.add("ignored-but-quantized", where, "the config leaves it alone, the tensor is %s: engines build it in full precision and have no place for codes", f)
	case f.quantized() && !w.quantized():
		s.add("ignored-but-quantized", where, "no target of the config matches it, the tensor is %s", f)
	case f.weight.Quantized() && f.weight != w.weight:
		s.add("weight-encoding", where, "the config (%s) says %s, the tensor is %s", m.group, w, f)
	}
}

// typed are the methods whose tensors have paramTypes.
var typed = []declaration.Method{declaration.CompressedTensors, declaration.FP8, declaration.MXFP8, declaration.ModelOpt, declaration.Quark, declaration.GPTQ, declaration.AWQ, declaration.AutoRound}

// paramTypes are the types of tensors that other tools store integers and scales in.
var paramTypes = map[string][]safetensors.DType{
	"qweight": {safetensors.I32}, "qzeros": {safetensors.I32}, "g_idx": {safetensors.I32, safetensors.I64}, "weight_g_idx": {safetensors.I32, safetensors.I64},
	"scales": anyScale, "weight_scale": append([]safetensors.DType{safetensors.F8E4M3, safetensors.F8E8M0, safetensors.U8}, anyScale...), "weight_scale_2": anyScale,
}

// checkTypes names tensors of a type that is none of the declared form, for which
// the weight cannot be read or is read wrong.
func (s *subject) checkTypes(m *module) {
	if !m.want.weight.Quantized() || !slices.Contains(typed, s.decl.Method) {
		return
	}
	for _, param := range slices.Sorted(maps.Keys(m.params)) {
		t, want := m.params[param], paramTypes[param]
		code := "companion-dtype"
		switch w := m.want.weight; {
		case param == "weight" && m.stored == nil && w.Type == format.Float && w.Bits == 8:
			want = only(safetensors.F8E4M3)
			fallthrough
		case param == "weight", param == "qweight":
			code = "tensor-dtype"
		}
		if want != nil && !slices.Contains(want, t.DType) {
			s.add(code, t.Name, "it is %s, the config (%s) says %s, which needs %v", t.DType, m.group, m.want, want)
		}
	}
}

// consequence is what engines do with a module that is built for codes and
// stored in full precision.
func (s *subject) consequence(m *module) string {
	var out []string
	for _, e := range []engine.Engine{engine.VLLM, engine.SGLang} {
		if e == engine.VLLM && s.builtAsStored(m) {
			continue
		}
		r := engine.Newest(e)
		fit := engine.Misfit{Layout: s.layout(), Module: engine.Module{Name: m.row.Module, Kind: engine.Linear, Role: m.row.Role}, Built: engine.Resolution{Weight: m.want.weight}}
		if m.row.Role.IsExpert() {
			fit.Module.Kind = engine.Experts
		}
		how, answer := r.Misfit(fit)
		if answer == engine.Refuses {
			how = "it stops, " + how
		}
		out = append(out, r.Title()+": "+how)
	}
	return "; " + strings.Join(out, "; ")
}

// builtAsStored: vLLM goes by the tensors for GPTQ's linears (docs/facts/formats.md 6.3).
func (s *subject) builtAsStored(m *module) bool {
	return s.decl.Declaration != nil && s.decl.Method == declaration.GPTQ && !m.row.Role.IsExpert()
}

// excludeFrom says how a module is left alone in the words of its declaration.
func (s *subject) excludeFrom(m *module) string {
	name := m.row.Module
	layer := ""
	if m.row.MTP {
		layer = fmt.Sprintf("model.layers.%d", s.cfg.Layers)
	}
	pick := func(whole, one string) string {
		if layer != "" {
			return whole
		}
		return one
	}
	switch s.decl.Method {
	case declaration.GPTQ:
		return fmt.Sprintf(`add %q: {} to dynamic`, pick(fmt.Sprintf(`-:.*layers\.%d\..*`, s.cfg.Layers), "-:"+name))
	case declaration.AWQ:
		return fmt.Sprintf("add %q to modules_to_not_convert", pick(layer+".", name))
	case declaration.Quark:
		return fmt.Sprintf("add %q to exclude, for single experts their parent too", name)
	case declaration.ModelOpt:
		return fmt.Sprintf("add %q to ignore in config.json and to exclude_modules in hf_quant_config.json", pick(layer+"*", name))
	case declaration.AutoRound:
		return fmt.Sprintf(`add %q: {"bits": 16, "data_type": "float"} to extra_config`, pick(fmt.Sprintf(`.*layers\.%d\..*`, s.cfg.Layers), name))
	}
	return "leave it out of the config's targets, or quantize it"
}

// checkGlobals compares the global scales of NVFP4 weights that engines merge:
// they keep one of the two, and the other weight is read by the ratio too small
// or too large (docs/facts/formats.md 3.2). The scales of their inputs are
// compared too: merged modules have one input, and it has one largest value.
func (s *subject) checkGlobals() {
	weights, inputs := newShared(), newShared()
	for _, m := range s.modules {
		if m.row.Group == "" || m.row.Role == glm.ExpertDown {
			continue
		}
		st := s.partsOf(m)
		if st == nil || st.Global.Name == "" {
			continue
		}
		if v, err := st.GlobalScale(s.ckpt); err != nil {
			s.add("companion-shape", st.Global.Name, "%v", err)
		} else {
			weights.see(m, v)
		}
		if v, ok, err := st.InputScale(s.ckpt); err == nil && ok {
			inputs.see(m, v)
		}
	}
	if w := weights; w.n > 0 {
		s.add("global-scale-unshared", w.worst.row.Module,
			"its global scale is %.3g times that of %s%s: engines keep one for both and read the other weight wrong by that ratio",
			w.ratio, w.partner.row.Module, w.more())
	}
	if in := inputs; in.n > 0 {
		s.add("input-scale-unshared", in.worst.row.Module,
			"the scale of its input is %.3g times that of %s, which has the same input%s: one of the two is not of what was measured",
			in.ratio, in.partner.row.Module, in.more())
	}
}

// partsOf are the tensors of a module with global scales; nil where it has none
// that can be read.
func (s *subject) partsOf(m *module) *layout.Stored {
	if m.form.kind == nvfp4 || m.form.kind == nvfp4Local {
		if found, err := layout.Lookup(s.reader(), m.row.Module, layout.Hints{}); err == nil {
			return &found
		}
	}
	return m.stored
}

// shared holds numbers of modules against those of the first of their group.
type shared struct {
	first          map[string]numbered
	n              int // modules that differ
	ratio          float32
	worst, partner *module
}

type numbered struct {
	m *module
	v float32
}

func newShared() *shared { return &shared{first: map[string]numbered{}, ratio: 1} }

// more says how many pairs differ beside the worst.
func (c *shared) more() string {
	if c.n == 1 {
		return ""
	}
	return ", and " + plural(c.n-1, "pair") + " more differ"
}

func (c *shared) see(m *module, v float32) {
	key := m.row.Group
	if m.row.Role.IsExpert() {
		key = fmt.Sprint(key, m.row.Expert)
	}
	f, ok := c.first[key]
	if !ok {
		c.first[key] = numbered{m, v}
		return
	}
	if v == f.v {
		return
	}
	c.n++
	if r := max(v/f.v, f.v/v); r > c.ratio || c.worst == nil {
		c.ratio, c.worst, c.partner = r, m, f.m
	}
}

// checkBiases notices biases that were cast to F16 in a BF16 model, which
// AutoGPTQ's and AWQ's writers do (docs/facts/formats.md 6.2).
func (s *subject) checkBiases() {
	n, first, bf16 := 0, "", false
	for _, row := range s.rows {
		t, ok := s.tensors[row.Name]
		switch {
		case !ok:
		case row.Role == glm.LayerNorm:
			bf16 = bf16 || t.DType == safetensors.BF16
		case row.Param == "bias" && t.DType == safetensors.F16:
			if n++; n == 1 {
				first = row.Name
			}
		}
	}
	if n > 0 && bf16 {
		s.add("bias-cast", first, "%d biases are F16 and the model is BF16: small values lost their last bits on the way", n)
	}
}

// codesOnly reports whether the checkpoint's weights have names or types of
// their own (4-bit formats of other tools): what is built for them and stored
// in full precision, or the reverse, is not cast without a word, as FP8 and
// INT8 are (docs/facts/formats.md 9).
func (s *subject) codesOnly() bool {
	n := 0
	for _, m := range s.modules {
		if m.stored != nil {
			if m.form.weight.Bits == 8 && m.stored.Codes.DType != safetensors.I32 {
				return false
			}
			n++
		}
	}
	return n > 0
}

// publishedName names the format of most weights.
func (s *subject) publishedName() string {
	count := map[format.Weight]int{}
	var best format.Weight
	var in layout.Format
	for _, m := range s.modules {
		if m.stored == nil {
			continue
		}
		if w := m.form.weight; w.Quantized() {
			if count[w]++; count[w] > count[best] || count[w] == count[best] && w.String() < best.String() {
				best, in = w, m.stored.Format
			}
		}
	}
	if !best.Quantized() {
		return kindNames[foreign]
	}
	name := string(s.decl.Method)
	if s.decl.Method == declaration.AutoRound {
		name += " (" + string(in) + ")"
	}
	return name + " " + best.String()
}
