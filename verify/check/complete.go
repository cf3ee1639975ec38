package check

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// Lack is what a declaration does not say of tensors that are stored.
type Lack struct {
	Key    string   // of the list: "ignore", "modules_to_not_convert" or "ignored_layers"
	Ignore []string // entries that the list lacks so that engines build what is stored
	// Config is the quantization_config with them, nil if none is lacking.
	Config  json.RawMessage
	Entries []Entry  // that an Ascend description lacks
	Unsaid  []string // modules that no entry makes right: fused with quantized ones, or quantized otherwise
}

// Entry is one tensor's entry in an Ascend description.
type Entry struct{ Tensor, Scheme string }

// Complete says what a declaration lacks: the ignore list of compressed-tensors
// or fp8, the entries of an Ascend description (nil for other folders). Engines
// build what no entry leaves alone as quantized, and take full-precision values
// for codes. Entries are those that glmconv writes itself, as few as are needed.
func Complete(cfg *glm.Config, description []byte, tensors []safetensors.Info) (Lack, error) {
	s := &subject{report: &Report{}, cfg: cfg, tensors: map[string]safetensors.Info{}, byName: map[string]*module{}}
	for _, t := range tensors {
		s.tensors[t.Name] = t
	}
	if description != nil {
		s.ascend = true
		s.written, _ = declaration.Description(description)
		if err := json.Unmarshal(description, &s.desc); err != nil {
			return Lack{}, fmt.Errorf("%s: %w", layout.DescriptionName, err)
		}
	}
	s.declaration()
	if s.decl == nil || s.declErr != nil || !readable(s.decl.method) {
		return Lack{}, nil
	}
	s.surveyOf(tensors)
	if s.ascend {
		return Lack{Entries: s.lackingEntries()}, nil
	}
	return s.lackingIgnores()
}

// described are the entries of the forms that msmodelslim writes.
var described = map[kind]string{plain: declaration.Float, ascendInt8: "W8A8_DYNAMIC", ascendInt4: "W4A8_DYNAMIC", ascendStatic: "W8A8", mxfp8: "W8A8_MXFP8"}

func (s *subject) lackingEntries() (out []Entry) {
	for _, m := range s.modules {
		scheme, ok := described[m.form.kind]
		for param, t := range m.params {
			if _, said := s.desc[t.Name]; said || !ok {
				continue
			}
			e := Entry{t.Name, scheme}
			if param == "bias" {
				e.Scheme = declaration.Float
			}
			out = append(out, e)
		}
	}
	for _, row := range s.rows { // tensors without a weight beside them
		if _, stored := s.tensors[row.Name]; stored && row.Param != "weight" && s.byName[row.Module] == nil {
			if _, said := s.desc[row.Name]; !said {
				out = append(out, Entry{row.Name, declaration.Float})
			}
		}
	}
	slices.SortFunc(out, func(a, b Entry) int {
		if a.Tensor < b.Tensor {
			return -1
		}
		return 1
	})
	return out
}

// listKeys are the names of the list of what stays, by method.
var listKeys = map[string][]string{"compressed-tensors": {"ignore"}, "fp8": {"ignored_layers", "modules_to_not_convert"}}

func (s *subject) lackingIgnores() (Lack, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(s.cfg.QuantizationConfig, &fields); err != nil {
		return Lack{}, fmt.Errorf("config.json: quantization_config: %w", err)
	}
	var l Lack
	var list []string
	for _, l.Key = range listKeys[s.decl.method] { // the first that holds something, else the last
		list = nil
		if err := json.Unmarshal(fields[l.Key], &list); err != nil && len(fields[l.Key]) > 0 {
			return Lack{}, fmt.Errorf("config.json: quantization_config.%s: %w", l.Key, err)
		}
		if len(list) > 0 {
			break
		}
	}
	with := func(more []string) json.RawMessage {
		fields[l.Key], _ = json.Marshal(append(slices.Clone(list), more...))
		raw, _ := json.MarshalIndent(fields, "  ", "  ")
		return raw
	}
	wrong := s.builtOtherwise(with(nil), nil)
	if len(wrong) == 0 {
		return l, nil
	}
	format := layout.CompressedTensors
	if s.decl.method == "fp8" {
		format = layout.HFFP8
	}
	var add []string
	for _, e := range layout.Ignored(format, s.decisions()) {
		if !slices.Contains(list, e) {
			add = append(add, e)
		}
	}
	left := s.builtOtherwise(with(add), nil)
	for name := range left {
		if !wrong[name] { // an entry takes what is quantized along
			return Lack{Key: l.Key, Unsaid: sortedKeys(wrong)}, nil
		}
	}
	if len(left) == len(wrong) {
		return Lack{Key: l.Key, Unsaid: sortedKeys(wrong)}, nil
	}
	for i := len(add) - 1; i >= 0 && format == layout.CompressedTensors; i-- {
		fewer := slices.Delete(slices.Clone(add), i, i+1)
		if len(s.builtOtherwise(with(fewer), wrong)) == len(left) {
			add = fewer
		}
	}
	l.Ignore, l.Config, l.Unsaid = add, with(add), sortedKeys(left)
	return l, nil
}

// builtOtherwise returns the modules that the declaration's own library or the newest
// release of an engine builds otherwise than they are stored, under a
// configuration; only those of among, unless it is nil.
func (s *subject) builtOtherwise(config json.RawMessage, among map[string]bool) map[string]bool {
	out := map[string]bool{}
	if d, err := parseDeclared(config); err == nil {
		for _, m := range s.modules {
			if among != nil && !among[m.row.Module] || m.form.kind != plain || !quantizable(m.row.Role) {
				continue
			}
			if want, ignored, _ := d.want(m.row.Module); !ignored && want.quantized() {
				out[m.row.Module] = true
			}
		}
	}
	conf, err := engine.ParseConfig(config)
	if err != nil {
		return out
	}
	for _, e := range []engine.Engine{engine.VLLM, engine.SGLang} {
		r := engine.Newest(e)
		for _, m := range engine.Modules(r, s.tableConfig(), s.decl.method == "compressed-tensors") {
			name := string(e) + " " + m.Name
			if among != nil && !among[name] {
				continue
			}
			res := engine.Resolve(r, s.cfg, conf, m)
			for _, x := range s.storedForms(m) {
				if res.Unknown == "" && (res.Err != "" && !m.Draft || res.Err == "" && !x.form.codes().SameCodes(res.Weight)) {
					out[name] = true
				}
			}
		}
	}
	return out
}

// decisions are the stored modules as a layout decides on them. Where the
// members of a fused group or the experts of a layer differ no entry is right:
// the group counts as quantized.
func (s *subject) decisions() layout.Decisions {
	group := func(m *module) string {
		if m.row.Role.IsExpert() {
			return fmt.Sprint("experts of layer ", m.row.Layer)
		}
		return m.row.Group
	}
	codes := map[string]*module{}
	for _, m := range s.modules {
		if m.form.quantized() {
			codes[group(m)] = m
		}
	}
	d := layout.Decisions{Config: s.tableConfig()}
	for _, m := range s.modules {
		if m.form.kind == absent || m.form.kind == foreign || m.form.kind == naked {
			continue
		}
		w := layout.Weight{Tensor: m.row, Quant: m.form.codes()}
		if other := codes[group(m)]; group(m) != "" && other != nil {
			w.Quant = other.form.codes()
		}
		d.Weights = append(d.Weights, w)
	}
	return d
}

func sortedKeys(set map[string]bool) []string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
