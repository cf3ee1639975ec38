package repair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/internal/undo"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

// Errors of this package; all of them are bad input.
var (
	ErrBase     = errors.New("unsuitable base model") // another family, shape or quantization
	ErrNoUndo   = errors.New("nothing to undo")
	ErrNotEmpty = errors.New("the folder is not empty")
	// ErrInterrupted: a repair of the folder was begun and not completed.
	ErrInterrupted = errors.New("a repair was interrupted")
)

// NewFile is the name of the file that takes tensors which were missing.
const NewFile = "glmconv-repair.safetensors"

// Options say how to repair.
type Options struct {
	Base   string // folder of the base model to take tensors from; "": none
	Copies bool   // renew the MTP layer's copies of embedding and head, and nothing else
	FS     safetensors.FS
}

// Step is one thing that is put right.
type Step struct {
	Do    string `json:"do"`    // "undo", "index", "config", "description", "tensor", "duplicate", "remove"
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
	Notes  []string `json:"notes"`  // what is in order, and what another command may do of it

	options     Options
	interrupted bool // an earlier repair has to be put back before anything is decided
	base        string
	fs          fsx.FS
	shards      map[string][]source // files to write anew or newly
	remove      []string
	config      []byte // new config.json, nil: as it is
	description []byte // new quant_model_description.json, nil: as it is
	beside      []byte // new hf_quant_config.json, nil: as it is
	index       bool   // write a new index
	indexAs     string
	kept        []safetensors.Info // of files that stay
	unread      map[string]string  // tensor → file that stays and cannot be read, as the index has them
	fresh       bool               // Dir is a new folder, which needs no undoing
	source      string             // what a new folder was made of
}

// NewPlan reads headers, router biases and the MTP layer's copies and decides
// what to do. Errors: ErrBase, and those of packages glm and safetensors for a
// folder or base that cannot be read. Of a folder in which a repair was
// interrupted the plan is to put it back, and to decide then.
func NewPlan(ctx context.Context, dir string, o Options) (*Plan, error) {
	p := &Plan{Dir: dir, Steps: []Step{}, Broken: []string{}, Notes: []string{}, options: o, base: o.Base, fs: fsx.Or(o.FS), shards: map[string][]source{}, unread: map[string]string{}}
	var err error
	if p.interrupted, err = undo.Interrupted(p.fs, dir); err != nil {
		return nil, err
	} else if p.interrupted {
		p.Steps = append(p.Steps, Step{"undo", undo.StateDir, "a repair was interrupted; the folder is put back first, and then what is to be done is decided"})
		return p, nil
	}
	ckpt, err := safetensors.OpenDirOptions(dir, safetensors.Options{AllErrors: true})
	if ckpt != nil {
		defer ckpt.Close()
	}
	if err != nil {
		if _, cerr := glm.LoadConfig(dir); cerr != nil {
			return nil, cerr
		}
		return nil, err
	}
	cfg, err := glm.LoadConfigOf(dir, ckpt.Tensors())
	if err != nil {
		return nil, err
	}
	d := &decider{Plan: p, cfg: cfg, ckpt: ckpt, change: map[string]map[string]*source{}, lost: map[string]int{}, adopted: map[string]safetensors.Info{}}
	if d.text, err = fsx.ReadIn(dir, declaration.DescriptionName, fsx.MaxText); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if d.found, err = origin.Look(dir); err != nil {
		return nil, err
	}
	if o.Base != "" {
		if d.from, err = openBase(cfg, d.text, dir, o.Base, d.stale()); err != nil {
			return nil, err
		}
		defer d.from.ckpt.Close()
	}
	if p.indexAs = ckpt.IndexName(); p.indexAs == "" {
		p.indexAs = safetensors.IndexName
	}
	return p, d.decide(ctx, o.Copies)
}

// decider makes a plan.
type decider struct {
	*Plan
	cfg    *glm.Config
	ckpt   *safetensors.Checkpoint
	text   []byte // quant_model_description.json, nil if there is none
	found  []origin.Finding
	from   *base                         // nil: none
	change map[string]map[string]*source // file → tensor → replacement, nil: dropped
	extra  []source
	still  int            // tensors that stay missing
	lost   map[string]int // files that stay unreadable → tensors of the table in them

	listed  []string                    // files that no index names and that hold what the model lacks
	adopted map[string]safetensors.Info // their tensors
}

func (d *decider) decide(ctx context.Context, copies bool) error {
	if !copies {
		d.staleConfig()
		d.duplicates()
		d.adopt()
		d.missing()
		if err := d.routerBiases(); err != nil {
			return err
		}
	}
	if err := d.copies(ctx); err != nil {
		return err
	}
	if !copies {
		d.files()
		d.unlisted()
		d.unreadable()
		if err := d.leftovers(ctx); err != nil {
			return err
		}
		d.needIndex()
	}
	d.arrange()
	if copies {
		return nil
	}
	return d.declaration()
}

func (d *decider) step(do, where, format string, args ...any) {
	d.Steps = append(d.Steps, Step{do, where, fmt.Sprintf(format, args...)})
}

func (d *decider) stays(format string, args ...any) {
	d.Broken = append(d.Broken, fmt.Sprintf(format, args...))
}

func (d *decider) drop(file, format string, args ...any) {
	if !slices.Contains(d.remove, file) {
		d.remove = append(d.remove, file)
		d.step("remove", file, format, args...)
	}
}

func (d *decider) set(file, tensor string, s *source) {
	if d.change[file] == nil {
		d.change[file] = map[string]*source{}
	}
	d.change[file][tensor] = s
}

// arrange turns changes into files.
func (d *decider) arrange() {
	for _, t := range d.ckpt.Tensors() {
		if slices.Contains(d.remove, t.File) {
			continue
		}
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
	for _, t := range d.adopted {
		d.kept = append(d.kept, t)
	}
	for file := range d.change { // a file of duplicates alone
		if _, ok := d.shards[file]; !ok && !slices.Contains(d.remove, file) {
			d.remove = append(d.remove, file)
		}
	}
	for tensor, file := range d.ckpt.LostTensors() {
		if d.lost[file] > 0 && !slices.Contains(d.remove, file) {
			d.unread[tensor] = file
		}
	}
	if len(d.extra) > 0 {
		d.shards[NewFile] = append(d.shards[NewFile], d.extra...)
	}
	d.index = d.index || len(d.shards) > 0 || slices.ContainsFunc(d.remove, func(f string) bool { return strings.HasSuffix(f, ".safetensors") })
}

// tensors are those of the result, by the names that they will have.
func (p *Plan) tensors() (out []safetensors.Info) {
	out = slices.Clone(p.kept)
	for file, list := range p.shards {
		for _, s := range list {
			t := s.info
			t.Name, t.File = s.as, file
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b safetensors.Info) int { return strings.Compare(a.Name, b.Name) })
	return out
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
	if text, ok := m["text_config"]; ok && len(text) > 0 && text[0] == '{' {
		inner, err := withoutKeys(text, keys...)
		if err != nil {
			return nil, err
		}
		m["text_config"] = inner
	}
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

// Text says for a person what Apply will do.
func (p *Plan) Text() string {
	var b strings.Builder
	for _, s := range p.Steps[:min(len(p.Steps), 20)] {
		fmt.Fprintf(&b, "  %-11s %s: %s\n", s.Do, safetext.Line(s.Where), safetext.Line(s.Why))
	}
	if n := len(p.Steps); n > 20 {
		fmt.Fprintf(&b, "  and %d more\n", n-20)
	}
	switch {
	case len(p.Steps) > 0:
	case len(p.Broken) > 0:
		b.WriteString("nothing that can be repaired here\n")
	default:
		b.WriteString("nothing to repair\n")
	}
	for _, x := range p.Broken[:min(len(p.Broken), 10)] {
		fmt.Fprintf(&b, "  stays       %s\n", safetext.Line(x))
	}
	if n := len(p.Broken); n > 10 {
		fmt.Fprintf(&b, "  and %d more stay\n", n-10)
	}
	for _, x := range p.Notes[:min(len(p.Notes), 10)] {
		fmt.Fprintf(&b, "  note        %s\n", safetext.Line(x))
	}
	return b.String()
}
