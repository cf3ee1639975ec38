package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
)

// checkEngines says for each engine whether it loads the directory as it is,
// refuses it, or loads it and computes something else: by its tables, by its
// matching rules for every runtime module (trunk, vision tower, draft), and by
// what it does with the faults found so far.
func (s *subject) checkEngines() {
	if s.model == nil {
		return
	}
	sub := s.judged()
	hosts, taken := 0, false // engines whose layout it is: how many were asked, and whether one takes it
	for _, r := range s.releases {
		if !s.asked && (taken || hosts == 0 || !engine.Takes(r.Engine, sub.Layout)) && engine.Guest(r.Engine, sub.Layout) && engine.Summarize(engine.Judge(sub, engine.Query{Releases: []engine.Release{r},
			Hardware: s.device})).Answer == engine.Refuses {
			continue // nobody takes this layout to it while others take it
		}
		v := EngineVerdict{Engine: string(r.Engine), Release: r.Version, Answer: engine.Loads, Flags: []string{}, matched: map[string]bool{}}
		s.askTables(r, &v, sub)
		s.askStacked(r, &v)
		s.askMatching(r, &v)
		s.askForeign(&v)
		s.askFaults(r, &v)
		if v.Answer != engine.NotJudged {
			loads := v.Answer == engine.Loads
			v.Loads = &loads
		}
		if !engine.Guest(r.Engine, sub.Layout) {
			hosts, taken = hosts+1, taken || v.Answer != engine.Refuses
		}
		s.report.Engines = append(s.report.Engines, v)
	}
	s.nobodyReads(&sub)
}

// nobodyReads: what every engine that reads such formats refuses is served by
// none. Of Ascend's layout there is one engine, and its releases differ. A format
// that an engine reads and has no kernels for with GLM is no fault of the files.
func (s *subject) nobodyReads(sub *engine.Subject) {
	if s.decl == nil || s.ascend {
		return
	}
	readers := 0
	for _, v := range s.report.Engines {
		e := engine.Engine(v.Engine)
		if engine.Guest(e, sub.Layout) {
			continue
		}
		if readers++; v.Answer != engine.Refuses || s.release(e).LacksKernel(sub) {
			return
		}
	}
	for i := range s.report.Findings {
		if f := &s.report.Findings[i]; f.Code == "engine-refuses" && readers > 0 {
			f.as(Error)
		}
	}
}

// readable tells whether a quant_method is one whose tensors are known here.
func readable(method string) bool {
	return method == "compressed-tensors" || method == "fp8" || method == "ascend"
}

// choose finds the releases and the device that the options name.
func (s *subject) choose() error {
	if id := s.opts.Hardware; id != "" {
		d, err := engine.FindDevice(id)
		if err != nil {
			return err
		}
		s.device = &d
	}
	for _, name := range s.opts.Engines {
		r, err := engine.Find(name)
		if err != nil {
			return err
		}
		s.releases = append(s.releases, r)
	}
	if s.asked = len(s.releases) > 0; !s.asked {
		for _, e := range engine.Engines {
			s.releases = append(s.releases, engine.Newest(e))
		}
	}
	return nil
}

// release returns the release of an engine that is asked, or else its newest.
func (s *subject) release(e engine.Engine) engine.Release {
	for _, r := range s.releases {
		if r.Engine == e {
			return r
		}
	}
	return engine.Newest(e)
}

// layout names the layout that the configuration declares.
func (s *subject) layout() engine.Layout {
	switch {
	case s.decl == nil:
		return ""
	case s.ascend:
		return engine.AscendLayout
	case s.decl.method == "fp8":
		return engine.HFFP8
	case s.decl.method == "compressed-tensors":
		return engine.CompressedTensors
	}
	return engine.Layout(s.decl.method)
}

// judged is the checkpoint as the engines' tables ask for it. Parts are what
// their tensors are; what the tensors do not tell, the configuration does.
func (s *subject) judged() engine.Subject {
	sub := engine.Subject{Config: s.tableConfig(), Layout: s.layout(), CacheC8: s.cacheC8(), IndexerC8: s.indexerC8(), LatentC8: s.latentC8()}
	if s.cfg.MTPLayers > 0 {
		sub.Draft = engine.LostDraft
	}
	conf, err := s.engineConfig()
	layers := engine.Layers{}
	for _, m := range s.modules {
		if m.row.MTP && (len(m.params) > 0 || m.stack != nil) {
			sub.Draft = engine.HasDraft
		}
		part := sub.Part(m.row)
		if part == nil || m.form.kind == absent || !m.row.Role.IsLinear() {
			continue
		}
		known := part.Weight.Quantized() || part.Scheme != ""
		if known && (m.form.kind == foreign || m.form != m.want || m.row.Role.IsExpert() && m.row.Expert > 0) {
			continue
		}
		var said engine.Part
		if err == nil && s.decl != nil && s.declErr == nil {
			said, _ = engine.Declared(conf, m.row.Module)
		}
		switch {
		case known:
			layers.Add(m.row, engine.Part{Weight: m.form.codes(), Acts: said.Acts, Scheme: said.Scheme})
		case s.decl != nil && !readable(s.decl.method) && !m.row.MTP && m.form.kind != foreign: // full precision, whatever is said: a finding of its own
		case m.form.kind == foreign, m.row.MTP && said.Weight.Quantized(): // the draft is built as the config says, whatever the tensors are
			*part = said
		case m.form.quantized():
			*part = engine.Part{Weight: m.form.codes(), Acts: said.Acts, Scheme: said.Scheme}
			if m.form == m.want {
				layers.Add(m.row, *part)
			}
		}
	}
	return layers.Mixed(sub)
}

// askTables asks which degrees load, where, and with which flags.
func (s *subject) askTables(r engine.Release, v *EngineVerdict, sub engine.Subject) {
	if s.decl != nil && !readable(s.decl.method) && (s.decl.Declaration == nil || !s.decl.Method.Known()) {
		v.Answer, v.Rule = engine.NotJudged, fmt.Sprintf("no table says what it makes of quant_method %q", s.decl.method)
		if s.device != nil {
			v.Hardware = s.device.ID
		}
		return
	}
	sum := engine.Summarize(engine.Judge(sub, engine.Query{Releases: []engine.Release{r}, Hardware: s.device}))
	v.noDraft = sum.NoDraft != ""
	v.Answer, v.Rule, v.Hardware, v.Flags = sum.Answer, sum.Rule, strings.Join(sum.Hardware, ","), append(v.Flags, sum.Flags...)
	switch sum.Answer {
	case engine.Loads:
		v.Parallel = strings.Join(sum.Parallel, ", ")
		for _, f := range sum.Some {
			v.Rule = strings.TrimPrefix(fmt.Sprintf("%s; with %s: %s", v.Rule, strings.Join(f.Parallel, ", "), f.Flag), "; ")
		}
		return
	case engine.NotJudged:
		return
	}
	s.refuses(r, v)
}

// refuses notes that a release does not take the checkpoint at all. That is
// wrong with the checkpoint only for who asks about that engine.
func (s *subject) refuses(r engine.Release, v *EngineVerdict) {
	f := s.add("engine-refuses", s.dir, "%s: %s", r.Title(), v.Rule).on(string(r.Engine))
	if s.asked {
		f.as(Error)
	}
}

// askForeign: what check cannot read it does not judge.
func (s *subject) askForeign(v *EngineVerdict) {
	for _, m := range s.modules {
		if m.form.kind == foreign && s.decl != nil && s.decl.Declaration != nil {
			g := s.decl.Of(m.row.Module).Group
			if g != nil && !g.Judged && (!readable(s.decl.method) || s.decl.Unread() != "") {
				s.verdict(v, engine.NotJudged, s.decl.Why(g))
				return
			}
		}
		if s.unread(m) {
			what := "another tool's format"
			if m.group != "" {
				what = m.group
			}
			s.verdict(v, engine.NotJudged, fmt.Sprintf("the tensors of %s (%s) are not judged%s%s", m.row.Module, what, m.whyUnread(), since(v, what)))
			return
		}
	}
}

// unread reports whether a module's weights are of a form that has no rules
// here: of another tool's declaration those that package layout does not read.
func (s *subject) unread(m *module) bool {
	return m.form.kind == foreign && (!m.form.weight.Quantized() || s.decl == nil || readable(s.decl.method))
}

// whyUnread says what of a module's tensors is not read, after a colon.
func (m *module) whyUnread() string {
	if m.broken == nil {
		return ""
	}
	return ": " + reason(m.broken)
}

// since says from which release on an entry of a description is registered.
func since(v *EngineVerdict, entry string) string {
	if v.Engine != string(engine.Ascend) {
		return ""
	}
	for _, r := range engine.Releases(engine.Ascend) {
		if a, _ := r.Registers(entry, engine.Experts); a == engine.Loads {
			return fmt.Sprintf("; vllm-ascend registers it from %s on", r.Version)
		}
		if a, _ := r.Registers(entry, engine.Linear); a == engine.Loads {
			return fmt.Sprintf("; vllm-ascend registers it from %s on", r.Version)
		}
	}
	return ""
}

// codes is what the form's weights are quantized to.
func (f form) codes() format.Weight {
	switch f.kind {
	case fp8Channel:
		return format.Float8
	case fp8Block, fp8BlockInv:
		return format.Float8Block
	case int8Channel, ascendInt8, ascendStatic, ascendMix:
		return format.Int8
	case ascendInt4:
		return format.Int4(0)
	case int4Bytes:
		return format.Int4(f.group)
	case int4Packed:
		return format.Int4(f.group).Packed(format.Words)
	case int8Packed:
		return format.Integer(8, f.group).Packed(format.Words)
	case nvfp4, nvfp4Local:
		return format.NVFP4
	case mxfp4, ascendMX4:
		return format.MXFP4
	case mxfp8:
		return format.MXFP8
	case foreign:
		return f.weight.Codes()
	}
	return format.Weight{}
}

// verdict worsens an engine's verdict: what is refused is not computed wrong.
func (s *subject) verdict(v *EngineVerdict, answer engine.Answer, rule string) {
	if answer.Worse(v.Answer) {
		v.Answer, v.Rule, v.Parallel, v.Flags = answer, rule, "", []string{}
	}
}

// unjudged are parts of a declaration that change what every weight means, and
// of which no table says what an engine does.
var unjudged = []string{"sparsity_config", "transform_config"}

// matched are the findings about modules whose fate is told by what a release
// builds in their place.
var matched = map[string]bool{"weight-not-quantized": true, "ignored-but-quantized": true}

// reacts is what a release does with a fault. A projection of the MTP layer whose
// codes cannot be taken for numbers is a module like others, though no
// declaration is asked for it.
func (s *subject) reacts(r engine.Release, f Finding) engine.Answer {
	if m := s.byName[f.Where]; f.Code == "eh-proj-quantized" && m != nil && (m.form.codes().Bits == 4 || m.params["weight"].Shape == nil) {
		_, answer := r.Misfit(engine.Misfit{Layout: s.layout(), Module: engine.Module{Name: f.Where, Kind: engine.Linear, Role: m.row.Role, Draft: true},
			Stored: m.form.codes(), OwnNames: m.params["weight"].Shape == nil})
		return answer
	}
	return r.Reacts(f.Code, s.decl != nil)
}

// askFaults adds what the release does with the faults that were found.
func (s *subject) askFaults(r engine.Release, v *EngineVerdict) {
	for _, f := range s.report.Findings {
		if f.Code == "quant-config-not-judged" && slices.ContainsFunc(unjudged, func(key string) bool { return strings.Contains(f.Where, key) }) {
			s.verdict(v, engine.NotJudged, f.Where+": "+f.Detail)
		}
		if f.Severity == Error && (f.Engine == "" || f.Engine == string(r.Engine)) {
			if s.decl != nil && !readable(s.decl.method) && r.Engine == engine.Ascend {
				continue // it does not read the format, or whether it does is not known
			}
			if matched[f.Code] && v.matched[f.Where] {
				continue // of its module is known what the release builds
			}
			s.verdict(v, s.reacts(r, f), f.Where+": "+f.Detail)
		}
	}
}
