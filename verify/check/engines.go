package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
)

// checkEngines says for each engine whether it loads the directory as it is,
// refuses it, or loads it and computes something else: by its matching rules
// for every runtime module (trunk, vision tower, draft), by its load rules,
// and by what it does with the faults found so far.
func (s *subject) checkEngines() error {
	engines, asked, err := s.engines()
	if err != nil {
		return err
	}
	if s.model == nil {
		return nil
	}
	for _, e := range engines {
		v := EngineVerdict{Engine: string(e), Loads: "yes"}
		if s.decl != nil && !judged(s.decl.method) {
			v.Loads, v.Why = "unknown", fmt.Sprintf("quant_method %q is not one of glmconv's", s.decl.method)
			s.report.Engines = append(s.report.Engines, v)
			continue
		}
		s.askLoads(e, &v, asked)
		s.askMatching(e, &v)
		s.askFaults(e, &v)
		s.report.Engines = append(s.report.Engines, v)
	}
	return nil
}

// judged tells whether a quant_method is one whose rules are known here.
func judged(method string) bool {
	return method == "compressed-tensors" || method == "fp8" || method == "ascend"
}

// engines returns those that the options name, or all that know the layout.
func (s *subject) engines() (list []engine.Engine, asked bool, err error) {
	if len(s.opts.Engines) > 0 {
		for _, name := range s.opts.Engines {
			e := engine.Engine(name)
			if !slices.Contains(engine.Engines, e) {
				return nil, true, &UnknownEngineError{name}
			}
			list = append(list, e)
		}
		return list, true, nil
	}
	for _, e := range engine.Engines {
		if s.knows(e) {
			list = append(list, e)
		}
	}
	return list, false, nil
}

// UnknownEngineError is returned for an engine that glmconv does not know.
type UnknownEngineError struct{ Name string }

func (e *UnknownEngineError) Error() string { return fmt.Sprintf("unknown engine %q", e.Name) }

// Hint lists the engines.
func (e *UnknownEngineError) Hint() string {
	return fmt.Sprintf("known engines are %v", engine.Engines)
}

// ExitCode says that the command line is wrong.
func (e *UnknownEngineError) ExitCode() int { return 2 }

// knows tells whether an engine has a class for the layout.
func (s *subject) knows(e engine.Engine) bool {
	switch {
	case s.ascend:
		return e != engine.VLLM
	case s.decl == nil:
		return true
	case e != engine.Ascend:
		return true
	}
	return s.scheme() == "w8a8" // compressed-tensors INT8 only
}

// scheme names the scheme of the routed experts, "" if it is none of glmconv's.
func (s *subject) scheme() string {
	for _, m := range s.modules {
		if !m.row.Role.IsExpert() || m.form.kind == absent {
			continue
		}
		switch m.form.kind {
		case fp8Channel:
			return "fp8"
		case fp8Block, fp8BlockInv:
			return "fp8-block"
		case int8Channel, ascendInt8:
			return "w8a8"
		case int4Bytes, ascendInt4:
			return "w4a8"
		case int4Packed:
			if s.activations(m.group) == "float" {
				return "w4a8-fp8"
			}
			return "w4a16"
		}
		return ""
	}
	return ""
}

// activations returns the type of a group's activations.
func (s *subject) activations(group string) string {
	if s.decl != nil {
		for _, g := range s.decl.groups {
			if g.name == group && g.acts != nil {
				return g.acts.Type
			}
		}
	}
	return ""
}

func (s *subject) formatName() string {
	switch {
	case s.ascend:
		return "ascend"
	case s.decl != nil && s.decl.method == "fp8":
		return "hf-fp8"
	}
	return "compressed-tensors"
}

// askLoads applies the load rules: divisibility, missing classes, flags.
func (s *subject) askLoads(e engine.Engine, v *EngineVerdict, asked bool) {
	scheme := s.scheme()
	if s.decl == nil || scheme == "" {
		return
	}
	sub := engine.Subject{Config: s.cfg, Scheme: scheme, Format: s.formatName(), DenseFloat: true, SharedFloat: true, AttnFloat: true, MTPFloat: true}
	for _, m := range s.modules {
		quantised := m.form.quantised()
		r := m.row.Role
		if quantised && m.form.group > 0 {
			sub.Group = m.form.group
		}
		if m.row.MTP && r.IsExpert() && m.form.kind != absent {
			sub.MTP = true // built as the config says, whatever the tensors are
			sub.MTPFloat = sub.MTPFloat && !quantised && !(m.known && m.want.quantised())
		}
		if m.row.MTP || !quantised {
			continue
		}
		sub.DenseFloat = sub.DenseFloat && !r.IsDense()
		sub.SharedFloat = sub.SharedFloat && !r.IsShared()
		sub.AttnFloat = sub.AttnFloat && !r.IsAttention()
	}
	var loads, complaints []string
	for _, row := range engine.Loads(sub) {
		if row.Engine != e {
			continue
		}
		if row.Loads {
			loads = append(loads, row.Parallel)
			v.Flags = row.Flags
		} else if !slices.Contains(complaints, row.Rule) {
			complaints = append(complaints, row.Rule)
		}
	}
	if len(loads) > 0 {
		v.Why = strings.Join(loads, ", ")
		return
	}
	v.Loads = "no"
	if len(complaints) > 0 {
		v.Why = complaints[0]
	}
	if strings.Contains(v.Why, "garbage") {
		v.Loads = "wrong"
	}
	f := s.add("engine-refuses", s.dir, "%s", v.Why).on(string(e))
	if asked {
		f.as(Error)
	}
}

// codes is what the form's weights are quantized to.
func (f form) codes() format.Weight {
	switch f.kind {
	case fp8Channel:
		return format.Float8
	case fp8Block, fp8BlockInv:
		return format.Float8Block
	case int8Channel, ascendInt8, ascendStatic:
		return format.Int8
	case ascendInt4:
		return format.Int4(0)
	case int4Bytes, int4Packed:
		return format.Int4(f.group)
	}
	return format.Weight{}
}

// askMatching resolves every runtime module by the engine's own rules and
// compares with the tensors.
func (s *subject) askMatching(e engine.Engine, v *EngineVerdict) {
	if s.decl == nil || s.declErr != nil {
		return
	}
	conf, err := s.engineConfig()
	if err != nil {
		return // quant-config-invalid
	}
	ct := s.decl.method == "compressed-tensors"
	for _, m := range engine.Modules(e, s.tableConfig(), ct) {
		res := engine.Resolve(e, s.cfg, conf, m)
		stored := s.storedForms(m)
		if len(stored) == 0 {
			continue
		}
		if res.Err != "" {
			code := "engine-misreads"
			s.verdict(v, "no", m.Name+": "+res.Err)
			f := s.add(code, m.Name, "the engine says: %s", res.Err).on(string(e))
			if m.Draft || s.secondary(e) {
				f.as(Warning)
			}
			continue
		}
		for _, x := range stored {
			if x.form.codes().SameCodes(res.Weight) || s.toldAlready(x) {
				continue
			}
			how, loads := s.misread(e, x.form, res.Weight)
			s.verdict(v, loads, fmt.Sprintf("%s is built as %s and stored as %s", m.Name, res.Weight, x.form))
			f := s.add("engine-misreads", m.Name, "it is built as %s, %s is %s: %s", res.Weight, x.row.Module, x.form, how).on(string(e))
			if s.secondary(e) {
				f.as(Warning)
			}
			break
		}
	}
}

// secondary tells whether an engine is not the one a layout is made for.
func (s *subject) secondary(e engine.Engine) bool {
	if s.ascend {
		return e != engine.Ascend
	}
	return e == engine.Ascend
}

// misread says what becomes of a weight that is built otherwise than stored.
func (s *subject) misread(e engine.Engine, f form, built format.Weight) (how, loads string) {
	switch {
	case f.kind == plain && built.Bits == 4 && !s.ascend:
		return "its packed tensors are missing", "no"
	case f.kind == plain:
		return "its values are cast to codes, no scale is set, no error", "wrong"
	case !built.Quantized() && e == engine.SGLang:
		return "its codes are read as numbers, the scale is dropped, no error", "wrong"
	case !built.Quantized():
		return "the scale has no parameter to go to", "no"
	}
	return "names or shapes differ", "no"
}

// toldAlready: config and tensors disagree by the plain reading as well, which
// another finding says.
func (s *subject) toldAlready(m *module) bool {
	return m.known && (m.want.quantised() != m.form.quantised() || m.want.kind != m.form.kind) && quantisable(m.row.Role)
}

// storedForms returns the modules behind a runtime module, one of each form.
func (s *subject) storedForms(m engine.Module) []*module {
	var out []*module
	for _, name := range m.Stored {
		x := s.byName[name]
		if x == nil || x.form.kind == absent || x.form.kind == foreign || x.form.kind == naked || !x.row.Role.IsLinear() && !x.row.Role.IsVision() {
			continue
		}
		if !slices.ContainsFunc(out, func(y *module) bool { return y.form == x.form }) {
			out = append(out, x)
		}
	}
	return out
}

// tableConfig is the config with the stored MTP layer declared.
func (s *subject) tableConfig() *glm.Config {
	if s.model.MTP != nil && s.cfg.MTPLayers == 0 {
		c := *s.cfg
		c.MTPLayers = 1
		return &c
	}
	return s.cfg
}

func (s *subject) engineConfig() (*engine.Config, error) {
	if s.ascend {
		raw, err := s.read("quant_model_description.json")
		if err != nil {
			return nil, err
		}
		return engine.ParseDescription(raw)
	}
	return engine.ParseConfig(s.cfg.QuantizationConfig)
}

// verdict worsens an engine's verdict: what is refused is not computed wrong.
func (s *subject) verdict(v *EngineVerdict, loads, why string) {
	rank := map[string]int{"yes": 0, "unknown": 1, "wrong": 2, "no": 3}
	if rank[loads] > rank[v.Loads] {
		v.Loads, v.Why, v.Flags = loads, why, nil
	}
}
