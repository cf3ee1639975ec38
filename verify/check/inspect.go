package check

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

// InspectSchema names the JSON form of an Inspection.
const InspectSchema = "glmconv.inspect/1"

// Inspection is what a checkpoint is, read off its config and headers. Nothing
// is judged beyond what is missing, unexpected or unreadable; Run does that.
type Inspection struct {
	Schema       string           `json:"schema"`
	Dir          string           `json:"dir"`
	Family       string           `json:"family"`
	Architecture string           `json:"architecture"`
	Parameters   int64            `json:"parameters"` // of the model, MTP layer included; packed weights count unpacked
	Tensors      int              `json:"tensors"`
	Bytes        int64            `json:"bytes"` // of all tensors
	Layers       int              `json:"layers"`
	Dense        int              `json:"dense_layers"`
	Experts      int              `json:"experts"`
	Active       int              `json:"experts_per_token"`
	Shared       int              `json:"shared_experts"`
	Hidden       int              `json:"hidden_size"`
	Vocab        int              `json:"vocab_size"`
	VocabUsed    int              `json:"vocab_used"` // entries of tokenizer.json, 0 if it cannot be told
	MTP          *MTPState        `json:"mtp"`
	Quantization string           `json:"quantization"` // quant_method, "ascend", or "" for full precision
	Scheme       string           `json:"scheme"`       // how most linears are encoded
	Tool         string           `json:"tool"`         // who wrote it, where that shows
	DTypes       map[string]int64 `json:"dtypes"`       // bytes by element type
	Shards       int              `json:"shards"`
	Files        []string         `json:"files"` // beside the weights
	Missing      []string         `json:"missing"`
	Unexpected   []string         `json:"unexpected"`
	Problems     []string         `json:"problems"`
	List         []TensorLine     `json:"-"`

	cfg *glm.Config
}

// MTPState is the multi-token-prediction layer of an Inspection.
type MTPState struct {
	Layer       int    `json:"layer"`
	EmbedTokens bool   `json:"embed_tokens"` // it stores its own copy
	SharedHead  bool   `json:"shared_head"`  // it stores its own copy
	File        string `json:"file"`
	Complete    bool   `json:"complete"`
}

// TensorLine is one tensor.
type TensorLine struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
	Bytes int64   `json:"bytes"`
	File  string  `json:"file"`
	Role  string  `json:"role"`
}

// Inspect reads config.json and headers. The error is that of package glm for
// a config.json that is missing or of no known family, or of package
// safetensors for a directory without weights; damage to single files is
// listed in Problems.
func Inspect(dir string) (*Inspection, error) {
	cfg, err := glm.LoadConfig(dir)
	unread := errors.Is(err, glm.ErrUnsupported) && glm.AsConfigError(err) != nil && glm.AsConfigError(err).Field == "quantization_config"
	if err != nil && !unread {
		return nil, err
	}
	s, lerr := load(dir, Options{})
	if s != nil {
		defer s.close()
	}
	if lerr != nil {
		return nil, cmp.Or(err, lerr)
	}
	if unread { // a declaration of weights that are no longer quantised, if at all
		if cfg, err = glm.LoadConfigOf(dir, s.infos()); err != nil {
			return nil, err
		}
	}
	if s.noTensors != nil {
		return nil, s.noTensors
	}
	in := &Inspection{
		Schema: InspectSchema, Dir: dir, Family: string(cfg.Family), Architecture: cfg.Architecture,
		Tensors: len(s.tensors), Bytes: s.report.Bytes, Layers: cfg.Layers,
		Experts: cfg.Experts, Active: cfg.ExpertsPerToken, Shared: cfg.SharedExperts, Hidden: cfg.HiddenSize, Vocab: cfg.VocabSize,
		DTypes: map[string]int64{}, Shards: s.report.Files, Missing: []string{}, Unexpected: []string{}, Problems: []string{}, Files: []string{}, cfg: cfg,
	}
	for _, dense := range cfg.Dense {
		if dense {
			in.Dense++
		}
	}
	in.fill(s)
	if in.VocabUsed = s.used; s.used > cfg.VocabSize {
		in.Problems = append(in.Problems, fmt.Sprintf("tokenizer.json: it has ids up to %d, and vocab_size is %d", s.used-1, cfg.VocabSize))
	}
	return in, nil
}

// fill takes over what the subject knows.
func (in *Inspection) fill(s *subject) {
	explained := in.fillOrigin(s)
	for _, p := range s.ckpt.Problems() {
		where := p.File
		if where != "" {
			where += ": "
		}
		detail := p.Detail
		if e := (*safetensors.Error)(nil); errors.As(p.Err, &e) {
			detail = e.Reason
			if advice := e.Hint(); advice != "" {
				detail += " (" + advice + ")"
			}
		}
		in.Problems = append(in.Problems, where+detail)
	}
	for _, f := range s.report.Findings {
		if f.Code == "description-invalid" {
			in.Problems = append(in.Problems, f.Where+": "+f.Detail)
		}
	}
	if n, first := s.codes(); n > 0 && s.decl == nil && !s.ascend && in.cfg.Quantization == "" {
		lost := "config.json has no quantization_config"
		if s.ascendShaped() {
			lost = declaration.DescriptionName + " is not there"
		}
		if name, d := s.declaredBeside(); d != nil {
			in.Problems = append(in.Problems, fmt.Sprintf("%s hold codes (%s), and config.json has no quantization_config: %s declares %s, which engines do not read there (%s)",
				plural(n, "module"), first.row.Module, name, d.Method, d.MoveInto(name)))
		} else {
			in.Problems = append(in.Problems, fmt.Sprintf("%s hold codes (%s is %s), and no file says how they are quantised: %s", plural(n, "module"), first.row.Module, first.form, lost))
		}
	}
	in.Problems = append(in.Problems, s.cfg.Notes...)
	in.fillTensors(s, explained)
	if m := s.model.MTP; m != nil {
		in.MTP = &MTPState{Layer: m.Layer, EmbedTokens: m.EmbedTokens, SharedHead: m.SharedHead, File: m.File, Complete: m.MissingCount == 0}
	}
	in.Quantization = s.cfg.Quantization
	switch {
	case s.ascend:
		in.Quantization = "ascend"
	case in.Quantization == "" && s.decl != nil: // of a file beside config.json
		in.Quantization = s.decl.method
	}
	in.Scheme = s.layoutName()
	in.Tool = s.tool()
	for n := range s.files {
		if filepath.Ext(n) != ".safetensors" && n != safetensors.IndexName && n != safetensors.AscendIndexName {
			in.Files = append(in.Files, n)
		}
	}
	slices.Sort(in.Files)
}

// fillTensors lists the tensors, and those that the family's table has or has not;
// explained: it has been said why they differ.
func (in *Inspection) fillTensors(s *subject, explained bool) {
	for _, t := range s.ckpt.Tensors() {
		in.DTypes[t.DType.String()] += t.Size
		line := TensorLine{Name: t.Name, DType: t.DType.String(), Shape: t.Shape, Bytes: t.Size, File: t.File}
		if row := s.cfg.Lookup(t.Name); row != nil {
			line.Role = row.Role.String()
		} else if mod, _ := glm.ModuleOf(t.Name); s.byName[mod] != nil {
			line.Role = s.byName[mod].row.Role.String()
		}
		in.List = append(in.List, line)
	}
	for i := range s.rows {
		row := &s.rows[i]
		if m := s.byName[row.Module]; row.Param == "weight" && m.form.kind != absent {
			in.Parameters += row.Elements()
		} else if _, ok := s.tensors[row.Name]; ok && row.Param != "weight" {
			in.Parameters += row.Elements()
		}
	}
	misfits := map[string]bool{}
	for _, e := range s.model.Misfits {
		misfits[e.Name] = true
	}
	for _, row := range s.model.Missing {
		if misfits[row.Name] || explained {
			continue
		}
		if m := s.byName[row.Module]; m == nil || row.Param != "weight" || m.form.kind == absent {
			in.Missing = append(in.Missing, row.Name)
		}
	}
	for _, t := range s.model.Unexpected {
		if explained {
			break
		}
		in.Unexpected = append(in.Unexpected, t.Name)
	}
}

// tool guesses who wrote the checkpoint from what only one of them leaves.
func (s *subject) tool() string {
	if s.has("glmconv-manifest.json") {
		return "glmconv"
	}
	for n := range s.files {
		if ok, _ := filepath.Match("*_best_practice.yaml", n); ok {
			return "msmodelslim"
		}
	}
	if s.decl == nil || s.decl.Declaration == nil || s.ascend {
		return ""
	}
	switch m := s.decl.Method; m {
	case declaration.CompressedTensors:
		for i := range s.decl.Groups {
			if name := s.decl.Groups[i].Name; name != "group_0" && name != "group_1" {
				return "llm-compressor (model_free_ptq)" // names the group after the scheme
			}
		}
	case declaration.AutoRound, declaration.GPTQ, declaration.AWQ, declaration.ModelOpt, declaration.Quark:
		return string(m)
	}
	return ""
}

// vocabulary counts the entries of tokenizer.json, added tokens included.
// The error is a failed read.
func (s *subject) vocabulary() (int, error) {
	if size, ok := s.files["tokenizer.json"]; !ok || size > fsx.MaxText {
		return 0, nil
	}
	raw, err := s.read("tokenizer.json")
	if fsx.IsIO(err) {
		return 0, err
	}
	if err != nil {
		return 0, nil //nolint:nilerr // check says what is wrong with files
	}
	var t struct {
		Model struct {
			Vocab map[string]int `json:"vocab"`
		} `json:"model"`
		Added []struct {
			ID int `json:"id"`
		} `json:"added_tokens"`
	}
	if json.Unmarshal(raw, &t) != nil {
		return 0, nil
	}
	last := -1
	for _, id := range t.Model.Vocab {
		last = max(last, id)
	}
	for _, a := range t.Added {
		last = max(last, a.ID)
	}
	return last + 1, nil
}
