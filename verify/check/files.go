package check

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// checkFiles looks at names, headers and the index.
func (s *subject) checkFiles() {
	names := make([]string, 0, len(s.files))
	for n := range s.files {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		switch {
		case fsx.IsTemp(n), strings.HasPrefix(n, ".tmp"), strings.Contains(n, "-of-00000.safetensors"):
			s.add("temp-file", n, "left over from an interrupted run (%d bytes)", s.files[n])
		case strings.HasPrefix(n, "consolidated") && strings.HasSuffix(n, ".safetensors"):
			s.add("consolidated-file", n, "vLLM takes a directory with this file for another format")
		}
	}
	s.checkBeside()
	if s.ckpt == nil {
		return
	}
	for _, p := range s.ckpt.Problems() {
		s.fileProblem(p)
	}
	if s.ascend {
		s.checkAscendFiles()
	}
}

// checkBeside notices that what engines need beside the weights was not copied.
func (s *subject) checkBeside() {
	if s.ckpt == nil || s.cfg == nil {
		return
	}
	any := func(names ...string) bool { return slices.ContainsFunc(names, s.has) }
	if !any("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model") {
		s.add("file-missing", "tokenizer.json", "it is not there: engines start only when they are told to go without a tokenizer")
	}
	if s.cfg.Vision != nil && !any("preprocessor_config.json", "processor_config.json") {
		s.add("file-missing", "preprocessor_config.json", "it is not there: engines cannot prepare pictures, and refuse the model")
	}
}

// fileProblem turns what the reader noticed into a finding.
func (s *subject) fileProblem(p safetensors.Problem) {
	switch p.Kind {
	case safetensors.ProblemError:
		s.headerProblem(p)
	case safetensors.ProblemUnlisted:
		switch {
		case s.ascend: // checkAscendFiles
		case origin.IsAdapter(p.File): // checkOrigin
		case p.File == safetensors.MTPName:
			s.add("mtp-file-unlisted", p.File, "%s", p.Detail)
		default:
			f := s.add("shard-unlisted", p.File, "%s", p.Detail)
			if p.Repeats {
				f.hint("delete it: every tensor in it is in a listed file too")
			} else if n := s.lackedOf(p.File); n > 0 {
				f.hint(fmt.Sprintf("it holds %d of the tensors that the model lacks: glmconv repair lists it if all of it fits", n))
			}
		}
	case safetensors.ProblemUnindexed:
		s.add("index-tensor-unlisted", p.Tensor, "%s in %s", p.Detail, p.File)
	case safetensors.ProblemTotalSize:
		s.add("index-total-size", p.File, "%s", p.Detail)
	case safetensors.ProblemNoIndex:
		if !s.ascend {
			s.add("index-missing", s.dir, "%s", p.Detail)
		}
	case safetensors.ProblemSecondIndex:
		if !s.ascend {
			s.add("stale-index", p.File, "%s", p.Detail)
		}
	}
}

// lackedOf counts the tensors of an unlisted file that the family's table needs
// and no listed file has.
func (s *subject) lackedOf(file string) (n int) {
	if s.model == nil {
		return 0
	}
	f, err := safetensors.OpenFile(filepath.Join(s.dir, file))
	if err != nil {
		return 0
	}
	defer f.Close()
	for _, t := range f.Tensors() {
		module, _ := glm.ModuleOf(t.Name)
		if _, have := s.tensors[t.Name]; !have && s.byName[module] != nil {
			n++
		}
	}
	return n
}

func (s *subject) headerProblem(p safetensors.Problem) {
	where := p.File
	if p.Tensor != "" {
		where += ": " + p.Tensor
	}
	var e *safetensors.Error
	if !errors.As(p.Err, &e) {
		s.add("shard-invalid", where, "%s", p.Detail)
		return
	}
	detail := e.Reason
	if e.Err != nil && e.Kind != safetensors.ErrNotFound {
		detail += ": " + e.Err.Error()
	}
	var f *Finding
	switch {
	case e.Kind == safetensors.ErrTruncated, e.Kind == safetensors.ErrHeaderTooSmall:
		f = s.add("shard-truncated", where, "%s", detail)
	case e.Kind == safetensors.ErrNotFound:
		f = s.add("shard-missing", where, "%s", detail)
	case e.Kind == safetensors.ErrDuplicate && p.Tensor != "" && strings.HasSuffix(p.File, ".safetensors"):
		f = s.add("duplicate-tensor", where, "%s", detail)
		s.compareDuplicate(p.File, p.Tensor, f)
	case e.Kind == safetensors.ErrIndex && p.Tensor != "":
		f = s.add("index-tensor-missing", where, "%s", detail)
	case strings.HasSuffix(p.File, ".json"):
		f = s.add("index-invalid", where, "%s", detail)
	default:
		f = s.add("shard-invalid", where, "%s", detail)
	}
	if e.Advice != "" {
		f.hint(e.Advice)
	}
}

// checkAscendFiles looks for what hides or overlays the quantised shards:
// vLLM filters by model.safetensors.index.json only, and without one loads
// every file (docs/facts/ascend.md 1.2).
func (s *subject) checkAscendFiles() {
	if s.has(safetensors.IndexName) {
		s.add("stale-index", safetensors.IndexName, "vLLM reads only the files that this index lists, and the quantised shards are not among them or belong to another state")
	}
	if !s.has(safetensors.AscendIndexName) && len(s.ckpt.Files()) > 1 {
		s.add("index-missing", s.dir, "%d shards and no %s", len(s.ckpt.Files()), safetensors.AscendIndexName)
	}
	listed := map[string]bool{}
	for _, f := range s.ckpt.Files() {
		listed[f.Name] = true
	}
	var extra []string
	for n := range s.files {
		if strings.HasSuffix(n, ".safetensors") && !strings.HasPrefix(n, ".") && !origin.IsAdapter(n) && (!listed[n] || s.ckpt.IndexName() == "" && !strings.HasPrefix(n, "quant_model_weights")) && n != "rot.safetensors" {
			extra = append(extra, n)
		}
	}
	slices.Sort(extra)
	for _, n := range extra {
		s.add("leftover-shard", n, "the index does not list it, and vllm-ascend loads it all the same, over the quantised tensors")
	}
}
