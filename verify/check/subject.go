package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/jsonobj"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// subject is the checkpoint under examination: everything the checks need,
// read once. A check that lacks what it needs (no config, no tensors) does
// nothing; the check that notices the lack has said so.
type subject struct {
	dir    string
	opts   Options
	report *Report
	files  map[string]int64 // regular files at the top, with their sizes
	raw    []byte           // config.json
	keys   map[string]json.RawMessage
	cfg    *glm.Config // nil if config.json is missing or not understood
	ckpt   *safetensors.Checkpoint
	// noTensors is why ckpt is nil.
	noTensors error
	tensors   map[string]safetensors.Info
	model     *glm.Model
	used      int          // ids of tokenizer.json, 0 if it cannot be told
	rows      []glm.Tensor // the table, MTP layer included if it is stored
	modules   []*module    // every module with a weight, in table order
	byName    map[string]*module
	decl      *declared // nil for a checkpoint that declares no quantisation
	declErr   error
	stale     *glm.ConfigError           // the declaration is of weights that are no longer quantised
	runtime   map[string]bool            // modules that every engine asked builds in full precision, see builtPlain
	written   *declaration.Declaration   // quant_model_description.json
	desc      map[string]json.RawMessage // quant_model_description.json
	ascend    bool
	names     map[string]struct{} // of the table, see tableNames

	description string           // the file desc was read from
	releases    []engine.Release // that are asked
	asked       bool             // the options name them
	device      *engine.Device   // that is asked about, nil: all
	asks        map[string]bool  // modules whose entries vllm-ascend looks up, see lookedUp
}

// module is a module of the table with what is stored of it.
type module struct {
	row    glm.Tensor // the row of its weight
	o, i   int64      // logical shape, out and in
	params params
	stack  *glm.Entry     // where it lies in a stacked expert tensor
	form   form           // what the tensors say
	want   form           // what the config says
	ignore bool           // the config names it as left alone
	group  string         // the config group
	known  bool           // the config's word is known (a quantisation glmconv can judge)
	stored *layout.Stored // of another tool's format, as package layout reads it
	broken error          // why that could not be
}

// add notes a finding with its code's severity and hint.
func (s *subject) add(code, where, format string, args ...any) *Finding {
	c := byName[code]
	if c == nil {
		panic("check: unregistered code " + code)
	}
	s.report.Findings = append(s.report.Findings, Finding{
		Severity: c.Severity, Code: code, Where: where, Detail: fmt.Sprintf(format, args...), Hint: c.Hint,
	})
	return &s.report.Findings[len(s.report.Findings)-1]
}

func (f *Finding) as(s Severity) *Finding      { f.Severity = s; return f }
func (f *Finding) on(engine string) *Finding   { f.Engine = engine; return f }
func (f *Finding) hint(format string) *Finding { f.Hint = format; return f }

// load reads everything. Its error means that the directory cannot be looked
// at, not that it is bad.
func load(dir string, opts Options) (*subject, error) {
	s := &subject{dir: dir, opts: opts, report: &Report{Schema: Schema, Dir: dir}, files: map[string]int64{}, tensors: map[string]safetensors.Info{}, byName: map[string]*module{}}
	if err := s.choose(); err != nil {
		return nil, err
	}
	from, err := fsx.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	entries, err := from.ReadDir()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		st, err := from.Stat(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			s.files[e.Name()] = -1 // a symlink to nowhere
			continue
		}
		if err != nil {
			return nil, err
		}
		if st.Mode().IsRegular() {
			s.files[e.Name()] = st.Size()
		}
	}
	if err := s.loadTensors(); err != nil {
		return s, err
	}
	return s, s.loadConfig()
}

func (s *subject) close() {
	if s.ckpt != nil {
		_ = s.ckpt.Close()
	}
}

func (s *subject) has(name string) bool { _, ok := s.files[name]; return ok }

func (s *subject) loadTensors() error {
	open := s.opts.Open
	if open == nil {
		open = func(dir string) (*safetensors.Checkpoint, error) {
			return safetensors.OpenDirOptions(dir, safetensors.Options{AllErrors: true})
		}
	}
	ckpt, err := open(s.dir)
	var bad *safetensors.Error
	if errors.As(err, &bad) && bad.Kind == safetensors.ErrNotFound {
		s.add("shard-missing", s.dir, "%s", bad.Reason).hint(bad.Hint())
		s.noTensors = err
		return nil
	}
	if err != nil {
		return err
	}
	s.ckpt = ckpt
	for _, t := range ckpt.Tensors() {
		s.tensors[t.Name] = t
		s.report.Bytes += t.Size
	}
	s.report.Tensors = len(s.tensors)
	s.report.Files = len(ckpt.Files())
	return nil
}

func (s *subject) read(name string) ([]byte, error) {
	raw, err := fsx.ReadIn(s.dir, name, fsx.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

func (s *subject) loadConfig() (err error) {
	if s.raw, err = s.read("config.json"); err != nil {
		return err
	}
	if err := s.loadDescription(); err != nil {
		return err
	}
	if s.raw == nil {
		f := s.add("config-missing", "config.json", "the directory has none")
		if below := origin.SayBelow(s.dir); s.ckpt == nil && below != "" {
			f.hint(below)
		}
		return nil
	}
	_ = json.Unmarshal(s.raw, &s.keys)
	cfg, err := glm.ParseConfigOf(s.raw, s.infos())
	if err != nil {
		ce := glm.AsConfigError(err)
		if ce != nil && ce.Field == "quantization_config" && errors.Is(err, glm.ErrUnsupported) {
			return err // a format that is refused by name: nothing can be said of its tensors
		}
		if ce != nil && ce.Field == "model_type" && glm.OtherGLM(s.modelType()) {
			return fmt.Errorf("glm: %s: %w", s.dir, err) // another architecture: nothing can be said of its tensors
		}
		f := s.add("config-invalid", "config.json", "%v", err)
		if ce != nil {
			f.hint(ce.Hint())
		}
		return nil
	}
	s.cfg = cfg
	s.declaration()
	s.survey()
	s.used, err = s.vocabulary()
	return err
}

// infos returns the headers, nil where none can be read.
func (s *subject) infos() []safetensors.Info {
	if s.ckpt == nil {
		return nil
	}
	return s.ckpt.Tensors()
}

func (s *subject) modelType() (name string) {
	_ = json.Unmarshal(s.keys["model_type"], &name)
	return name
}

// declaration reads what the checkpoint says of its own quantization.
func (s *subject) declaration() {
	switch {
	case s.ascend:
		s.decl = &declared{Declaration: s.written, method: "ascend", scheme: schemes(s.desc)}
	case s.cfg.QuantizationConfig != nil:
		s.decl, s.declErr = parseDeclared(s.cfg.QuantizationConfig)
	case s.has(modelOptFile):
		// engines read it where config.json declares nothing
		if raw, err := s.read(modelOptFile); err == nil {
			if d, err := declaration.File(modelOptFile, raw); err == nil && d.Method == declaration.ModelOpt {
				s.decl, s.declErr = newDeclared(d)
				s.cfg.Quantization, s.cfg.QuantizationFile = string(d.Method), modelOptFile
			}
		}
	}
}

const modelOptFile = "hf_quant_config.json"

func (s *subject) loadDescription() error {
	s.description = layout.DescriptionName
	if !s.has(s.description) {
		s.findOldDescription()
	}
	raw, err := s.read(s.description)
	if err != nil || raw == nil {
		return err
	}
	s.ascend = true
	s.desc, err = jsonobj.Parse(raw)
	if err == nil {
		s.written, err = declaration.Description(raw)
	}
	if err != nil {
		s.add("description-invalid", layout.DescriptionName, "%v", err)
		s.desc = map[string]json.RawMessage{}
		s.written = &declaration.Declaration{Method: declaration.Ascend, Root: s.description} // that says nothing
	}
	return nil
}

// schemes keeps the entries of tensors: strings under a dotted name.
func schemes(desc map[string]json.RawMessage) map[string]string {
	out := make(map[string]string, len(desc))
	for k, v := range desc {
		var scheme string
		if _, param := glm.ModuleOf(k); param != k && json.Unmarshal(v, &scheme) == nil {
			out[k] = scheme
		}
	}
	return out
}

// survey matches the tensors with the family's table.
func (s *subject) survey() {
	if s.ckpt == nil {
		return
	}
	s.surveyOf(s.ckpt.Tensors())
}

// surveyOf matches tensors with the family's table, wherever they lie.
func (s *subject) surveyOf(infos []safetensors.Info) {
	if !s.ascend {
		s.stale = glm.AsConfigError(s.cfg.StaleQuantization(infos))
	}
	s.model = glm.Survey(s.cfg, infos)
	cfg := s.cfg
	if s.model.MTP != nil && cfg.MTPLayers == 0 {
		c := *cfg
		c.MTPLayers = 1
		cfg = &c
	}
	s.rows = cfg.Table()
	for _, row := range s.rows {
		if row.Param != "weight" {
			continue
		}
		m := &module{row: row, params: params{}, o: 1, i: 1}
		if len(row.Shape) > 0 {
			m.o = row.Shape[0]
		}
		for _, d := range row.Shape[min(1, len(row.Shape)):] {
			m.i *= d
		}
		s.modules = append(s.modules, m)
		s.byName[row.Module] = m
	}
	for _, t := range infos {
		mod, param := glm.ModuleOf(t.Name)
		if m := s.byName[mod]; m != nil {
			m.params[param] = t
		}
	}
	for i := range s.model.Entries {
		if e := &s.model.Entries[i]; e.Source.Name != e.Name {
			if m := s.byName[e.Module]; m != nil {
				m.stack = e
			}
		}
	}
	for _, m := range s.modules {
		s.judge(m)
	}
}

// judge finds out what a module is and what the config says it should be.
func (s *subject) judge(m *module) {
	four := false
	if s.decl != nil && s.decl.method != "" && (m.row.Role.IsLinear() || m.row.Role == glm.VisionLinear) {
		m.want, m.ignore, m.group = s.decl.want(m.row.Module)
		m.known = readable(s.decl.method)
		four = m.want.kind == int4Bytes
	}
	if m.stack != nil {
		s.judgeStacked(m)
		return
	}
	if s.published(m) {
		s.judgePublished(m)
		return
	}
	m.form = detect(m.params, m.o, m.i, four)
	if s.ascend && m.params["weight"].DType == safetensors.U8 && m.params["weight_scale"].DType == safetensors.U8 {
		m.form = form{kind: ascendMX4, group: 32}
	}
	if m.known && !s.ascend && m.want.kind == foreign && m.form.quantized() && m.form.kind != naked {
		m.form = form{kind: foreign} // declared in a form that has no rules here: not judged
	}
	if _, dynamic := m.params["weight_scale"]; dynamic && m.form.kind == ascendStatic && m.want.kind == ascendMix {
		m.form = m.want
	}
	// One scale a row is a channel scale, or a group as wide as the row.
	if m.form.kind == m.want.kind && m.form.group == 0 && int64(m.want.group) == m.i {
		m.form.group = m.want.group
	}
}
