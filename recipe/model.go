package recipe

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify/check"
)

// Weights are bytes by how ranks share them.
type Weights struct {
	Routed     int64 `json:"routed"`     // experts
	Attention  int64 `json:"attention"`  // projections that are split by heads
	Dense      int64 `json:"dense"`      // dense MLPs and shared experts
	Vocab      int64 `json:"vocab"`      // embedding and head
	Replicated int64 `json:"replicated"` // latents, indexer, norms, router, eh_proj
	Vision     int64 `json:"vision"`
}

// Total is the sum.
func (w Weights) Total() int64 {
	return w.Routed + w.Attention + w.Dense + w.Vocab + w.Replicated + w.Vision
}

func (w *Weights) add(r glm.Role, n int64) {
	switch {
	case r.IsExpert():
		w.Routed += n
	case r == glm.AttnQA || r == glm.AttnKVA:
		w.Replicated += n
	case r.IsAttention():
		w.Attention += n
	case r.IsShared() || r.IsDense():
		w.Dense += n
	case r == glm.Embedding || r == glm.Head || r == glm.MTPEmbedding || r == glm.MTPHead:
		w.Vocab += n
	case r.IsVision():
		w.Vision += n
	default:
		w.Replicated += n
	}
}

func (w Weights) plus(o Weights) Weights {
	return Weights{w.Routed + o.Routed, w.Attention + o.Attention, w.Dense + o.Dense, w.Vocab + o.Vocab, w.Replicated + o.Replicated, w.Vision + o.Vision}
}

// Model is a checkpoint as a recipe needs it.
type Model struct {
	Name    string // among glm.Presets, "" for another
	Unsure  string // another published name that it may have, with another parser
	Path    string // what commands call it
	Config  *glm.Config
	Subject engine.Subject
	Quant   string  // in the words of the tables: "bf16", "fp8", "w8a8", …
	Trunk   Weights // without the MTP layer
	Draft   Weights // the MTP layer
	Copies  bool    // the MTP layer has its own embedding and head

	asked string // flags that name it, where it is no folder
}

// BadModelError is a folder that no recipe is made of, with what `check` found.
type BadModelError struct {
	Dir   string
	Cause string
}

func (e *BadModelError) Error() string { return e.Dir + ": " + e.Cause }

// Hint names the command that says more.
func (e *BadModelError) Hint() string {
	return "glmconv check lists every finding; glmconv repair puts some right"
}

// Open reads the headers of a checkpoint. The error is that of package check,
// a *glm.ConfigError, or a *BadModelError for one that contradicts itself.
func Open(ctx context.Context, dir string) (*Model, error) {
	s, err := check.Serve(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, f := range s.Report.Findings {
		if f.Severity == check.Error {
			why := s.Report.Cause
			if why == "" {
				why = f.Where + ": " + f.Detail
			}
			return nil, &BadModelError{dir, why}
		}
	}
	if s.Config == nil || len(s.Stored) == 0 {
		return nil, &BadModelError{dir, "holds no weights of a known model"}
	}
	m := &Model{Path: dir, Config: s.Config, Subject: s.Subject}
	for _, t := range s.Stored {
		if t.MTP {
			m.Draft.add(t.Role, t.Bytes)
		} else {
			m.Trunk.add(t.Role, t.Bytes)
		}
		m.Copies = m.Copies || t.Role == glm.MTPEmbedding
	}
	m.Quant = quantOf(&m.Subject)
	m.identify(filepath.Base(filepath.Clean(dir)))
	return m, nil
}

// Published is a published checkpoint, as it is ("bf16" or "") or as a scheme
// and format of quant would leave it. Nothing is read from disk. The error is
// that of glm.LookupPreset or package quant.
func Published(name, scheme, form string) (*Model, error) {
	info, err := glm.LookupPreset(name)
	if err != nil {
		return nil, usage("glmconv recipe knows "+strings.Join(glm.Presets(), ", "), "--model %q is no published checkpoint", name)
	}
	m := &Model{Name: name, Path: name, Copies: info.MTPCopies, asked: "--model " + name}
	for _, f := range [][2]string{{" --scheme ", scheme}, {" --format ", form}} {
		if f[1] != "" {
			m.asked += f[0] + shell(f[1])
		}
	}
	if scheme == "" || scheme == "bf16" {
		cfg, err := glm.ParseConfig(info.JSON)
		if err != nil {
			return nil, err
		}
		m.Config, m.Subject, m.Quant = cfg, engine.Subject{Config: cfg}, "bf16"
		if cfg.MTPLayers > 0 {
			m.Subject.Draft = engine.HasDraft
		}
		for _, t := range cfg.Table() {
			if !t.Optional || info.MTPCopies {
				m.weights(&t).add(t.Role, elements(t.Shape)*int64(t.DType.Bits())/8)
			}
		}
		return m, nil
	}
	s, err := layout.ParseScheme(scheme)
	if err != nil {
		return nil, err
	}
	f, err := layout.ParseFormat(form)
	if err != nil {
		return nil, err
	}
	p, err := quant.PlanPublished(name, s, f, quant.Options{})
	if err != nil {
		return nil, err
	}
	m.Path = name + "-" + scheme
	m.Config, m.Subject = p.Config, p.Subject()
	for i := range p.Items {
		t := p.Items[i].Weight.Tensor
		m.weights(t).add(t.Role, p.Items[i].Written)
	}
	m.Quant = quantOf(&m.Subject)
	return m, nil
}

func (m *Model) weights(t *glm.Tensor) *Weights {
	if t.MTP {
		return &m.Draft
	}
	return &m.Trunk
}

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// quantOf names what the experts are stored as, as the tables do.
func quantOf(s *engine.Subject) string {
	w, a := s.Experts.Weight, s.Experts.Acts
	c8 := ""
	if s.CacheC8 || s.IndexerC8 {
		c8 = "c8"
	}
	scheme := s.Experts.Scheme
	switch {
	case strings.HasPrefix(scheme, "W8A8"):
		return "w8a8" + c8
	case strings.HasPrefix(scheme, "W4A8"):
		return "w4a8" + c8
	case w.Type == format.None:
		return "bf16"
	case w.SameCodes(format.NVFP4):
		return "nvfp4"
	case w.SameCodes(format.MXFP4):
		return "mxfp4"
	case w.Type == format.Float && w.Bits == 8:
		return "fp8"
	case w.Bits == 8 && a.Quantized():
		return "w8a8"
	case w.Bits == 4 && a.Type == format.Float:
		return "w4a8-fp8"
	case w.Bits == 4 && a.Quantized():
		return "w4a8"
	case w.Bits == 4:
		return "w4a16"
	}
	return w.String()
}

// identify finds the published model that a config is of. Some share every
// number that config.json has; the folder's name decides, or the older is
// taken and Unsure says so.
func (m *Model) identify(hint string) {
	var same []string
	for _, name := range glm.Presets() {
		p, err := glm.Preset(name)
		if err == nil && alike(p, m.Config) {
			same = append(same, name)
		}
	}
	if len(same) == 0 {
		return
	}
	m.Name = same[0]
	hint = strings.ToLower(strings.ReplaceAll(hint, "_", "-"))
	// the longer name first: glm-4.5-air is no glm-4.5
	byLength := slices.SortedFunc(slices.Values(same), func(a, b string) int { return len(b) - len(a) })
	for _, name := range byLength {
		if strings.Contains(hint, name) || strings.Contains(hint, strings.ReplaceAll(name, "glm-", "glm")) {
			m.Name = name
			return
		}
	}
	for _, other := range same[1:] {
		if table().VLLM.Models[other].Tool != table().VLLM.Models[m.Name].Tool {
			m.Unsure = other
		}
	}
}

func alike(a, b *glm.Config) bool {
	return a.Family == b.Family && a.Layers == b.Layers && a.HiddenSize == b.HiddenSize && a.Experts == b.Experts && a.Heads == b.Heads &&
		a.VocabSize == b.VocabSize && a.MaxPositions == b.MaxPositions && a.SharedSelection() == b.SharedSelection() && a.MTPLayers == b.MTPLayers
}

// parsers are the names of the parsers for tool calls and reasoning.
func (m *Model) parsers() (tool, reasoning string) {
	if p, ok := table().VLLM.Models[m.Name]; ok {
		return p.Tool, p.Reasoning
	}
	if m.Config.LatentAttention() {
		return "glm47", "glm45"
	}
	return "glm45", "glm45"
}
