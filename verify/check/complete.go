package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// Lack is what a declaration does not say of tensors that are stored.
type Lack struct {
	Key    string   // of the list: "ignore", "modules_to_not_convert", "ignored_layers" or "exclude_modules", below ModelOpt's "quantization" after a dot
	Ignore []string // entries that the list lacks so that engines build what is stored
	// Config is the quantization_config with them, nil if none is lacking.
	Config  json.RawMessage
	Entries []Entry  // that an Ascend description lacks
	Unsaid  []string // modules that no entry makes right: fused with quantized ones, or quantized otherwise
}

// Entry is one tensor's entry in an Ascend description.
type Entry struct{ Tensor, Scheme string }

// Complete says what a declaration lacks: the ignore list of compressed-tensors,
// fp8 or ModelOpt, the entries of an Ascend description (nil for other folders). Engines
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
	if s.decl == nil || s.declErr != nil || !readable(s.decl.method) && s.decl.Method != declaration.ModelOpt {
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
var listKeys = map[string][]string{
	"compressed-tensors":         {"ignore"},
	"fp8":                        {"ignored_layers", "modules_to_not_convert"},
	string(declaration.ModelOpt): {"exclude_modules", "ignore"},
}

// modelOptNested is the object of ModelOpt's own file, and of older tools in
// config.json, that has the list.
const modelOptNested = "quantization"

// Lists is a declaration with its list of what stays as it is.
type Lists struct {
	Key    string // as in Lack
	List   []string
	fields map[string]json.RawMessage
	nested map[string]json.RawMessage // ModelOpt's "quantization"
}

// ListOf finds the list of what stays in a declaration of a method: the first key
// that holds something, else the last.
func ListOf(method string, raw json.RawMessage) (*Lists, error) {
	l := &Lists{}
	if err := json.Unmarshal(raw, &l.fields); err != nil {
		return nil, err
	}
	if l.fields == nil {
		return nil, errors.New("it is not a JSON object")
	}
	in, keys, below := l.fields, listKeys[method], ""
	if inner, ok := l.fields[modelOptNested]; ok && method == string(declaration.ModelOpt) {
		if err := json.Unmarshal(inner, &l.nested); err != nil {
			return nil, fmt.Errorf("%s: %w", modelOptNested, err)
		}
		if l.nested == nil {
			return nil, fmt.Errorf("%s is not a JSON object", modelOptNested)
		}
		in, keys, below = l.nested, []string{"exclude_modules"}, modelOptNested+"."
	}
	for _, key := range keys {
		l.Key, l.List = below+key, nil
		if err := json.Unmarshal(in[key], &l.List); err != nil && len(in[key]) > 0 {
			return nil, fmt.Errorf("%s: %w", l.Key, err)
		}
		if len(l.List) > 0 {
			break
		}
	}
	return l, nil
}

// With returns the declaration with more entries, written in lines that begin with
// prefix.
func (l *Lists) With(more []string, prefix string) json.RawMessage {
	set := func(in map[string]json.RawMessage, key string, v any) map[string]json.RawMessage {
		out := maps.Clone(in)
		out[key], _ = json.Marshal(v)
		return out
	}
	list, fields := append(slices.Clone(l.List), more...), l.fields
	if key, ok := strings.CutPrefix(l.Key, modelOptNested+"."); ok && l.nested != nil {
		fields = set(fields, modelOptNested, set(l.nested, key, list))
	} else {
		fields = set(fields, l.Key, list)
	}
	raw, _ := json.MarshalIndent(fields, prefix, "  ")
	return raw
}

func (s *subject) lackingIgnores() (Lack, error) {
	lists, err := ListOf(s.decl.method, s.cfg.QuantizationConfig)
	if err != nil {
		return Lack{}, fmt.Errorf("config.json: quantization_config: %w", err)
	}
	l, list := Lack{Key: lists.Key}, lists.List
	with := func(more []string) json.RawMessage { return lists.With(more, "  ") }
	wrong := s.builtOtherwise(with(nil), nil)
	if len(wrong) == 0 {
		return l, nil
	}
	format := layout.CompressedTensors
	switch {
	case s.decl.method == "fp8":
		format = layout.HFFP8
	case s.decl.Method == declaration.ModelOpt:
		format = layout.ModelOpt
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
	if s.cfg.QuantizationFile != "" { // engines read that file otherwise
		var own *declaration.Declaration
		if own, err = declaration.File(s.cfg.QuantizationFile, config); err == nil {
			conf = engine.NewConfig(own)
		}
	}
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
		if m.form.kind == absent || m.form.kind == foreign && !m.form.weight.Quantized() || m.form.kind == naked {
			continue
		}
		w := layout.Weight{Tensor: &m.row, Quant: m.form.codes()}
		if other := codes[group(m)]; group(m) != "" && other != nil {
			w.Quant = other.form.codes()
		}
		d.Weights = append(d.Weights, &w)
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
