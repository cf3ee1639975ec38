package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// Errors of this package; all of them are bad input.
var (
	ErrBase   = errors.New("unsuitable base model") // another family, shape or quantization
	ErrNoUndo = errors.New("nothing to undo")
)

// NewFile is the name of the file that takes tensors which were missing.
const NewFile = "glmconv-repair.safetensors"

// Options say how to repair.
type Options struct {
	Base string // folder of the base model to take tensors from; "": none
	FS   safetensors.FS
}

// Step is one thing that is put right.
type Step struct {
	Do    string `json:"do"`    // "index", "config", "tensor", "duplicate", "remove"
	Where string `json:"where"` // tensor or file
	Why   string `json:"why"`
}

// source is where a tensor of the result comes from.
type source struct {
	base bool // of the base model, else of the folder
	info safetensors.Info
	as   string // name in the result
}

// Plan is a decided repair.
type Plan struct {
	Dir    string   `json:"dir"`
	Steps  []Step   `json:"steps"`
	Broken []string `json:"broken"` // what stays as it is, and why

	base    string
	fs      fsx.FS
	shards  map[string][]source // files to write anew or newly
	remove  []string
	config  []byte // new config.json, nil: as it is
	index   bool   // write a new index
	indexAs string
	kept    []safetensors.Info // of files that stay
}

// NewPlan reads headers and decides what to do. Errors: ErrBase, and those of
// packages glm and safetensors for a folder or base that cannot be read.
func NewPlan(dir string, o Options) (*Plan, error) {
	p := &Plan{Dir: dir, Steps: []Step{}, Broken: []string{}, base: o.Base, fs: fsx.Or(o.FS), shards: map[string][]source{}}
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := safetensors.OpenDirOptions(dir, safetensors.Options{AllErrors: true})
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	var base map[string]safetensors.Info
	if o.Base != "" {
		if base, err = openBase(cfg, o.Base); err != nil {
			return nil, err
		}
	}
	found, err := origin.Look(dir)
	if err != nil {
		return nil, err
	}
	if p.indexAs = ckpt.IndexName(); p.indexAs == "" {
		p.indexAs = safetensors.IndexName
	}
	d := &decider{Plan: p, cfg: cfg, ckpt: ckpt, baseOf: base, change: map[string]map[string]*source{}}
	d.files(found)
	d.staleConfig(found)
	d.duplicates()
	d.tensors()
	d.finish()
	return p, nil
}

// openBase reads the headers of the base model and compares what must be equal.
func openBase(cfg *glm.Config, dir string) (map[string]safetensors.Info, error) {
	b, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		what       string
		have, want any
	}{
		{"family", b.Family, cfg.Family}, {"hidden_size", b.HiddenSize, cfg.HiddenSize}, {"num_hidden_layers", b.Layers, cfg.Layers},
		{"n_routed_experts", b.Experts, cfg.Experts}, {"moe_intermediate_size", b.MoEIntermediateSize, cfg.MoEIntermediateSize},
	} {
		if c.have != c.want {
			return nil, fmt.Errorf("%w: %s: its %s is %v, that of the folder %v", ErrBase, dir, c.what, c.have, c.want)
		}
	}
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	out := map[string]safetensors.Info{}
	for _, t := range ckpt.Tensors() {
		switch t.DType {
		case safetensors.BF16, safetensors.F16, safetensors.F32:
			out[t.Name] = t
		default:
			return nil, fmt.Errorf("%w: %s: %s is %s; a base model in full precision is needed", ErrBase, dir, t.Name, t.DType)
		}
	}
	return out, nil
}

// decider makes a plan.
type decider struct {
	*Plan
	cfg    *glm.Config
	ckpt   *safetensors.Checkpoint
	baseOf map[string]safetensors.Info
	change map[string]map[string]*source // file → tensor → replacement, nil: dropped
	extra  []source
}

func (d *decider) step(do, where, format string, args ...any) {
	d.Steps = append(d.Steps, Step{do, where, fmt.Sprintf(format, args...)})
}

func (d *decider) files(found []origin.Finding) {
	for _, f := range found {
		switch f.Kind {
		case origin.Leftover:
			d.remove = append(d.remove, f.Where)
			d.step("remove", f.Where, "%s", f.Detail)
		case origin.ForeignNames, origin.Pickle, origin.LFSPointer, origin.LayerCount, origin.ExpertCount, origin.MTPShape, origin.TwoRopeBases, origin.Vocabulary:
			d.Broken = append(d.Broken, f.Error()+"; "+f.Hint())
		}
	}
}

func (d *decider) staleConfig(found []origin.Finding) {
	if !slices.ContainsFunc(found, func(f origin.Finding) bool { return f.Kind == origin.StaleConfig }) {
		return
	}
	text, err := withoutKeys(d.cfg.Raw, "quantization_config", "compression_config")
	if err != nil {
		d.Broken = append(d.Broken, "config.json: "+err.Error())
		return
	}
	d.config = text
	d.step("config", "config.json", "quantization_config goes: no tensor is quantised")
}

func (d *decider) set(file, tensor string, s *source) {
	if d.change[file] == nil {
		d.change[file] = map[string]*source{}
	}
	d.change[file][tensor] = s
}

func (d *decider) duplicates() {
	for _, pr := range d.ckpt.Problems() {
		var e *safetensors.Error
		if pr.Kind == safetensors.ProblemError && errors.As(pr.Err, &e) && e.Kind == safetensors.ErrDuplicate && strings.HasSuffix(pr.File, ".safetensors") && pr.Tensor != "" {
			if kept, ok := d.ckpt.Info(pr.Tensor); ok && kept.File != pr.File {
				d.set(pr.File, pr.Tensor, nil)
				d.step("duplicate", pr.Tensor, "dropped from %s, kept in %s", pr.File, kept.File)
			}
		}
	}
}

// tensors decides on what is missing, recast or stale.
func (d *decider) tensors() {
	m := glm.Survey(d.cfg, d.ckpt.Tensors())
	embed, head := d.cfg.MTPNames(d.cfg.Layers)
	own := map[string]string{embed: d.cfg.EmbeddingName(), head: d.cfg.HeadName()}
	for _, e := range m.Misfits {
		if from, ok := own[e.Name]; ok {
			if t, ok := d.ckpt.Info(from); ok && slices.Equal(t.Shape, e.Shape) {
				d.set(e.Source.File, e.Name, &source{info: t, as: e.Name})
				d.step("tensor", e.Name, "renewed from %s: it was of another vocabulary", from)
			}
		}
	}
	for _, row := range m.Missing {
		if slices.ContainsFunc(m.Misfits, func(e glm.Entry) bool { return e.Name == row.Name }) {
			continue
		}
		if t, ok := d.baseOf[row.Name]; ok && slices.Equal(t.Shape, row.Shape) && d.cfg.Quantization == "" {
			d.extra = append(d.extra, source{base: true, info: t, as: row.Name})
			d.step("tensor", row.Name, "taken from the base model")
			continue
		}
		d.Broken = append(d.Broken, row.Name+": missing, and no base model has it in this shape and precision (--from BASE)")
	}
	for _, e := range m.Entries {
		if e.Role != glm.RouterBias || e.Source.DType == safetensors.F32 {
			continue
		}
		if t, ok := d.baseOf[e.Name]; ok && t.DType == safetensors.F32 && slices.Equal(t.Shape, e.Source.Shape) {
			d.set(e.Source.File, e.Name, &source{base: true, info: t, as: e.Name})
			d.step("tensor", e.Name, "taken from the base model in F32, it was %s", e.Source.DType)
		}
	}
}

// finish turns changes into files and decides whether the index changes.
func (d *decider) finish() {
	for _, pr := range d.ckpt.Problems() {
		switch pr.Kind {
		case safetensors.ProblemUnindexed, safetensors.ProblemTotalSize, safetensors.ProblemNoIndex:
			d.index = true
		case safetensors.ProblemUnlisted:
			d.index = d.index || pr.File == safetensors.MTPName
		case safetensors.ProblemError:
			d.index = d.index || strings.HasSuffix(pr.File, ".safetensors") || strings.HasSuffix(pr.File, ".json")
		}
	}
	if d.index {
		d.step("index", d.indexAs, "written anew from what the files hold")
	}
	all := d.ckpt.Tensors()
	for _, t := range all {
		change, ok := d.change[t.File]
		if !ok {
			d.kept = append(d.kept, t)
			continue
		}
		switch s, listed := change[t.Name]; {
		case !listed:
			d.shards[t.File] = append(d.shards[t.File], source{info: t, as: t.Name})
		case s != nil:
			d.shards[t.File] = append(d.shards[t.File], *s)
		}
	}
	for file := range d.change { // a file of duplicates alone
		if _, ok := d.shards[file]; !ok {
			d.remove = append(d.remove, file)
		}
	}
	if len(d.extra) > 0 {
		d.shards[NewFile] = d.extra
	}
	d.index = d.index || len(d.shards) > 0
}

// withoutKeys takes keys out of a JSON object's text, everything else as it is
// by value.
func withoutKeys(raw []byte, keys ...string) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	for _, k := range keys {
		delete(m, k)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

// Text says for a person what Apply will do.
func (p *Plan) Text() string {
	var b strings.Builder
	for _, s := range p.Steps[:min(len(p.Steps), 20)] {
		fmt.Fprintf(&b, "  %-9s %s: %s\n", s.Do, s.Where, s.Why)
	}
	if n := len(p.Steps); n > 20 {
		fmt.Fprintf(&b, "  and %d more\n", n-20)
	}
	if len(p.Steps) == 0 {
		b.WriteString("nothing to repair\n")
	}
	for _, x := range p.Broken[:min(len(p.Broken), 10)] {
		fmt.Fprintf(&b, "  stays     %s\n", x)
	}
	return b.String()
}
