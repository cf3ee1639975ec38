package check

import (
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
)

// checkDescription compares quant_model_description.json with the tensors.
func (s *subject) checkDescription() {
	if !s.ascend || s.model == nil {
		return
	}
	s.checkKeysRead()
	s.checkGroupSize()
	s.checkEntries()
	s.checkSchemes()
	s.checkPrefixes()
}

// checkKeysRead looks at the keys that some releases of vllm-ascend read for
// entries of four bits: it is an error where such a release is asked.
func (s *subject) checkKeysRead() {
	reads, which := s.release(engine.Ascend).ReadsKeys(slices.Collect(maps.Values(s.decl.scheme)))
	if which == "" {
		return
	}
	sev := Warning
	if reads {
		sev = Error
	}
	var version string
	_ = json.Unmarshal(s.desc["version"], &version)
	if version != "1.0.0" {
		s.add("description-version", s.description+": version", "it is %s; %s of vllm-ascend then expect unpacked int4", orMissing(s.desc["version"]), which).as(sev)
	}
	if string(s.desc["group_size"]) != "0" {
		s.add("description-group-size", s.description+": group_size", "it is %s; %s of vllm-ascend take 256 where it is missing, and expect second scales where it is not 0", orMissing(s.desc["group_size"]), which).as(sev)
	}
}

// checkGroupSize: classes of MX divide by group_size, and take 32 where it is
// missing.
func (s *subject) checkGroupSize() {
	for module, scheme := range s.decl.scheme {
		raw, said := s.desc["group_size"]
		if !strings.Contains(scheme, "MXFP") || !said || string(raw) == "32" {
			continue
		}
		s.add("description-group-size", s.description+": group_size", "it is %s, and %s (%s) has groups of 32: vllm-ascend makes the scales of other shapes", raw, scheme, module)
		return
	}
}

// oldDescription is the file name of msmodelslim's first interface, with the
// quantisation's name in it.
var oldDescription = lazy.Regexp(`^quant_model_description_[\w.-]+\.json$`)

// findOldDescription takes the description of msmodelslim's first interface,
// whose name no engine reads.
func (s *subject) findOldDescription() {
	for name := range s.files {
		if oldDescription().MatchString(name) {
			s.description = name
			s.add("description-name", name, "engines read %s only: rename it", layout.DescriptionName)
			return
		}
	}
}

func orMissing(v json.RawMessage) string {
	if v == nil {
		return "missing"
	}
	return string(v)
}

// checkEntries demands an entry for every tensor, and for the head of the MTP
// layer even without one.
func (s *subject) checkEntries() {
	if s.misnamedEntries() {
		return
	}
	names := make([]string, 0, len(s.tensors))
	for n := range s.tensors {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if _, ok := s.decl.scheme[n]; ok || n == rotName {
			continue
		}
		module, param := glm.ModuleOf(n)
		f := s.add("description-entry-missing", n, "the tensor has no entry")
		m := s.byName[module]
		if m == nil || param != "weight" || !s.lookedUp(m) {
			f.as(Warning)
			f.Detail += "; no engine asks for this one"
		}
	}
	entries := make([]string, 0, len(s.decl.scheme))
	for n := range s.decl.scheme {
		entries = append(entries, n)
	}
	sort.Strings(entries)
	for _, n := range entries {
		if _, ok := s.tensors[n]; !ok && s.decl.scheme[n] != "FLOAT" && s.isRow(n) {
			s.add("description-entry-unused", n, "it says %s and there is no such tensor", s.decl.scheme[n])
		}
	}
	for _, row := range s.rows {
		if row.Role != glm.MTPHead {
			continue
		}
		if _, ok := s.tensors[row.Name]; ok {
			continue // above
		}
		if m := s.model.MTP; m != nil && m.File != "" && s.decl.scheme[row.Name] == "" {
			s.add("description-entry-missing", row.Name, "vllm-ascend asks for this entry even where the tensor is absent, and raises KeyError").on("vllm-ascend")
		}
	}
}

// misnamedEntries finds a description whose entries have the names of the
// tensors with another prefix, as of another library version.
func (s *subject) misnamedEntries() bool {
	known, prefixes := 0, map[string]int{} // entry's prefix and the tensors' → entries
	for entry := range s.decl.scheme {
		if _, ok := s.tensors[entry]; ok {
			known++
			continue
		}
		for _, by := range [][2]string{{"model.", "language_model.model."}, {"model.", ""}, {"model.", "model.language_model."}, {"model.language_model.", "model."},
			{"model.language_model.", "language_model.model."}, {"model.", "model.model."}} {
			rest, ok := strings.CutPrefix(entry, by[1])
			if _, stored := s.tensors[by[0]+rest]; ok && stored {
				prefixes[by[1]+"\x00"+by[0]]++
				break
			}
		}
	}
	for key, n := range prefixes {
		if n > known && 2*n > len(s.tensors) {
			theirs, ours, _ := strings.Cut(key, "\x00")
			s.add("description-names", s.description, "%d of its %d entries have names with the prefix %q where the tensors have %q: engines find no entry for any of them", n, len(s.decl.scheme), theirs, ours)
			return true
		}
	}
	return false
}

// lookedUp tells whether vllm-ascend asks for the module's entry.
func (s *subject) lookedUp(m *module) bool {
	if s.asks == nil {
		s.asks = engine.LooksUp(s.release(engine.Ascend), s.tableConfig())
	}
	return s.asks[m.row.Module]
}

// checkSchemes compares the entries of a module's tensors with each other and
// with what engines register for its kind.
func (s *subject) checkSchemes() {
	for _, m := range s.modules {
		scheme, ok := s.decl.scheme[m.row.Name]
		if !ok {
			continue
		}
		r, kind := m.row.Role, engine.Linear
		if r.IsExpert() {
			kind = engine.Experts
		}
		switch answer, why := s.release(engine.Ascend).Registers(scheme, kind); {
		case answer == engine.NotJudged:
			s.add("description-scheme", m.row.Name, "a %s: %s", r, why).as(Warning)
			continue
		case answer != engine.Loads:
			s.add("description-scheme", m.row.Name, "a %s: %s", r, why)
			continue
		case !r.IsLinear() && scheme != "FLOAT" && !r.IsVision():
			s.add("description-mismatch", m.row.Name, "a %s is said to be %s", r, scheme)
			continue
		case m.form.kind == absent:
			continue
		case !quantizable(r) && (scheme == "FLOAT") == m.form.quantized():
			s.add("description-mismatch", m.row.Name, "the entry says %s, the tensor is %s", scheme, m.form)
		}
		for param, t := range m.params {
			if param == "weight" || s.isRow(t.Name) {
				continue
			}
			if got, ok := s.decl.scheme[t.Name]; ok && got != scheme && !s.explained(t.Name) {
				s.add("description-mismatch", t.Name, "the entry says %s, that of the weight %s", got, scheme)
			}
		}
	}
}

// checkPrefixes looks for a key that extends another module's name: the
// engine takes a module for FLOAT if any key that starts with its name and
// ends in .weight is FLOAT.
func (s *subject) checkPrefixes() {
	var keys []string
	for k := range s.decl.scheme {
		if strings.HasSuffix(k, ".weight") {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, m := range s.modules {
		if !m.form.quantized() || !s.lookedUp(m) || m.row.Group != "" {
			continue
		}
		for i, _ := slices.BinarySearch(keys, m.row.Module); i < len(keys) && strings.HasPrefix(keys[i], m.row.Module); i++ {
			if keys[i] != m.row.Name && s.decl.scheme[keys[i]] == "FLOAT" {
				s.add("description-prefix", keys[i], "it starts with %s, which is %s", m.row.Module, m.form)
			}
		}
	}
}
