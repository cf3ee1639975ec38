package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/safetensors"
)

// askMatching resolves every runtime module by the engine's own rules and
// compares with the tensors.
func (s *subject) askMatching(r engine.Release, v *EngineVerdict) {
	if s.decl == nil || s.declErr != nil || !readable(s.decl.method) && !s.decl.Method.Known() {
		return
	}
	e := r.Engine
	conf, err := s.engineConfig()
	if err != nil {
		return // quant-config-invalid
	}
	ct := s.decl.method == "compressed-tensors"
	for _, m := range engine.Modules(r, s.tableConfig(), ct) {
		res := engine.Resolve(r, s.cfg, conf, m)
		stored := s.storedForms(m)
		switch {
		case m.Kind != engine.Head || !m.Draft:
		case e != engine.VLLM:
			continue // the draft is bound to the model's own head, whatever is built
		case len(stored) == 0:
			m.Stored = []string{strings.TrimSuffix(s.cfg.HeadName(), ".weight")} // the model's own is loaded into the draft's
			stored = s.storedForms(m)
		}
		if len(stored) == 0 || m.Draft && v.noDraft {
			continue
		}
		if res.Unknown != "" {
			s.verdict(v, engine.NotJudged, m.Name+": "+res.Unknown)
			continue
		}
		if res.Whole {
			if v.Answer != engine.Refuses {
				s.verdict(v, engine.Refuses, res.Err)
				s.refuses(r, v)
			}
			return
		}
		if res.Err != "" {
			code := "engine-misreads"
			s.verdict(v, engine.Refuses, m.Name+": "+res.Err)
			f := s.add(code, m.Name, "the engine says: %s", res.Err).on(string(e))
			if m.Draft || engine.Guest(e, s.layout()) {
				f.as(Warning)
			}
			continue
		}
		s.askStored(r, v, m, res, stored)
		s.askScales(r, v, m, res.Weight)
	}
}

// askScales: scales need a parameter of their shape, too.
func (s *subject) askScales(r engine.Release, v *EngineVerdict, m engine.Module, built format.Weight) {
	for _, name := range m.Stored {
		x := s.byName[name]
		if x == nil || !s.readAs(x, built) {
			continue
		}
		if why := r.Scales(s.layout(), m.Kind, built, len(x.params["weight_scale"].Shape)); why != "" {
			s.verdict(v, engine.Refuses, m.Name+": "+why)
			s.add("engine-misreads", m.Name, "%s.weight_scale: %s", name, why).on(string(r.Engine))
			return
		}
	}
}

// readAs reports whether a module that is built for a weight reads what is
// stored.
func (s *subject) readAs(m *module, built format.Weight) bool {
	stored := m.form.codes()
	if m.form.kind == foreign {
		built = comparable(built, m.i).Codes()
	}
	return stored.SameCodes(built)
}

// askStored compares what a module is built for with what is stored for it. What
// the plain reading of the declaration contradicts as well is another finding's
// matter, and this engine's answer to it is known all the same.
func (s *subject) askStored(r engine.Release, v *EngineVerdict, m engine.Module, res engine.Resolution, stored []*module) {
	said := false
	for _, name := range m.Stored {
		if x := s.byName[name]; x != nil && !s.unreadDeclared(x) {
			v.matched[name] = true
		}
	}
	for _, x := range stored {
		if s.readAs(x, res.Weight) || s.unreadDeclared(x) {
			continue
		}
		fit := engine.Misfit{Layout: s.layout(), Module: m, Built: res, Stored: x.form.codes(), OwnNames: x.params["weight"].Shape == nil}
		how, answer := r.Misfit(fit)
		if v.Answer == engine.NotJudged && answer == engine.Differs {
			answer = engine.NotJudged // it may as well refuse
		}
		s.verdict(v, answer, fmt.Sprintf("%s is built as %s and stored as %s: %s", m.Name, res.Weight, x.form, how))
		if said || s.toldAlready(x) {
			continue
		}
		said = true
		f := s.add("engine-misreads", m.Name, "it is built as %s, %s is %s: %s", res.Weight, x.row.Module, x.form, how).on(string(r.Engine))
		if engine.Guest(r.Engine, s.layout()) {
			f.as(Warning)
		}
	}
}

// toldAlready: config and tensors disagree by the plain reading as well, which
// another finding says.
func (s *subject) toldAlready(m *module) bool {
	return m.known && (m.want.quantized() != m.form.quantized() || m.want.kind != m.form.kind) && quantizable(m.row.Role) && !s.builtAsStored(m)
}

// unreadDeclared: what such a module is declared to be is a form that nothing
// here reads.
func (s *subject) unreadDeclared(m *module) bool {
	return m.want.kind == foreign && !m.want.weight.Quantized()
}

// storedForms returns the modules behind a runtime module, one of each form.
func (s *subject) storedForms(m engine.Module) []*module {
	var out []*module
	for _, name := range m.Stored {
		x := s.byName[name]
		if x == nil || x.form.kind == absent || s.unread(x) || x.form.kind == naked {
			continue
		}
		// Other tools' classes quantize heads as well, where nothing excludes them;
		// those of compressed-tensors where a target names them.
		head := (x.row.Role == glm.Head || x.row.Role == glm.MTPHead) && s.decl != nil && !readable(s.decl.method) ||
			x.row.Role == glm.Head && x.form.quantized() && s.headBuilt(x)
		if !x.row.Role.IsLinear() && !x.row.Role.IsVision() && !head {
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
		raw, err := s.read(s.description)
		if err != nil {
			return nil, err
		}
		return engine.ParseDescription(raw)
	}
	conf, err := s.declaredToEngines()
	if err != nil {
		return nil, err
	}
	conf.Quantized = map[string]bool{}
	for name, t := range s.tensors {
		module := name[:max(strings.LastIndexByte(name, '.'), 0)]
		if _, seen := conf.Quantized[module]; !seen {
			conf.Stored = append(conf.Stored, module)
		}
		conf.Quantized[module] = conf.Quantized[module] || t.DType != safetensors.BF16 && t.DType != safetensors.F16 && t.DType != safetensors.F32
	}
	return conf, nil
}

// declaredToEngines is what engines read of a declaration: config.json's, or that
// of hf_quant_config.json where there is none.
func (s *subject) declaredToEngines() (*engine.Config, error) {
	if s.cfg.QuantizationConfig == nil && s.decl != nil {
		return engine.NewConfig(s.decl.Declaration), nil
	}
	return engine.ParseConfig(s.cfg.QuantizationConfig)
}
