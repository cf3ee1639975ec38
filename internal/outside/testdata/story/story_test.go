// Package story uses glmconv as a library.
package story

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/diff"
	"github.com/glmconv/glmconv/verify/report"
)

// model returns a copy of the checkpoint that GLMCONV_MODEL names.
func model(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(os.Getenv("GLMCONV_MODEL"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// progress is one callback for every job. It checks what all of them promise.
func progress(t *testing.T, seen *int64) func(done, total int64, detail string) {
	return func(done, total int64, detail string) {
		if done > total || detail == "" {
			t.Errorf("progress %d of %d, %q", done, total, detail)
		}
		*seen = max(*seen, done)
	}
}

func TestStory(t *testing.T) {
	src := model(t)
	describe(t, src)
	remap(t, src)
	dst := converted(t, src)
	judge(t, src, dst)
	generate(t, src)
	generate(t, dst)
}

// describe opens a checkpoint and says what it is.
func describe(t *testing.T, dir string) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.RequireUnquantized(); err != nil {
		t.Fatal(err)
	}
	c, err := safetensors.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, err := glm.Describe(cfg, c.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	if m.Config.Family != glm.GlmMoeDsa || len(m.Missing)+len(m.Unexpected) > 0 {
		t.Errorf("family %s, missing %v, unexpected %v", m.Config.Family, m.Missing, m.Unexpected)
	}
	if s := mtp.StateOf(m); s == nil || s.Ready() || len(s.Lacks) != 2 {
		t.Errorf("state of the MTP layer: %+v", s)
	}
	embedding, ok := c.Info(cfg.EmbeddingName())
	if !ok || !slices.Equal(embedding.Shape, []int64{int64(cfg.VocabSize), int64(cfg.HiddenSize)}) {
		t.Errorf("embedding %+v", embedding)
	}
	row := make([]byte, embedding.RowSize())
	if err := c.ReadRows(embedding.Name, 1, 2, row); err != nil {
		t.Error(err)
	}
}

// remap gives the MTP layer what it lacks, in place.
func remap(t *testing.T, dir string) {
	var seen int64
	r, err := mtp.NewRemap(dir, mtp.Options{Progress: progress(t, &seen)})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if seen != r.Bytes || len(r.Copies) != 2 {
		t.Errorf("%d bytes seen of %d, copies %v", seen, r.Bytes, r.Copies)
	}
	if r, err = mtp.NewRemap(dir, mtp.Options{}); err != nil || !r.Done {
		t.Errorf("again: %+v, %v", r, err)
	}
}

// converted plans and carries out a conversion; interrupted, it goes on.
func converted(t *testing.T, src string) string {
	c, err := safetensors.OpenDir(src)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	plan, err := quant.NewPlan(c, quant.W8A8, layout.Ascend, quant.Options{ShardSize: 300_000})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Summary() == "" || len(plan.Files) < 2 || plan.ResultBytes >= plan.SourceBytes {
		t.Errorf("plan: %s", plan.Summary())
	}
	dst := filepath.Join(t.TempDir(), "result")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := func(done, total int64, _ string) {
		if done > total/2 {
			cancel()
		}
	}
	if _, err := convert.Run(ctx, plan, c, dst, convert.Options{Workers: 1, Progress: stop}); err == nil {
		t.Fatal("the conversion was not stopped")
	}
	var seen int64
	res, err := convert.Run(t.Context(), plan, c, dst, convert.Options{Resume: true, Version: "story", Progress: progress(t, &seen)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := quant.ReadManifest(dst)
	if err != nil || m.Version != "story" || m.Fingerprint != plan.Fingerprint || len(res.Stats.Schemes) == 0 || seen == 0 {
		t.Errorf("manifest %+v, result %+v, %d bytes, %v", m, res, seen, err)
	}
	return dst
}

// judge checks the result by itself, compares it with its source, and runs both.
func judge(t *testing.T, src, dst string) {
	var checked, compared, verified int64
	c, err := check.Run(t.Context(), dst, check.Options{Weights: true, Progress: progress(t, &checked)})
	if err != nil {
		t.Fatal(err)
	}
	if !c.OK || !c.Manifest || checked != c.Read {
		t.Errorf("check: %s", c.Text())
	}
	d, err := diff.Run(t.Context(), src, dst, diff.Options{Progress: progress(t, &compared)})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Different || len(d.Modules) == 0 || compared == 0 {
		t.Errorf("diff: %s", d.Text())
	}
	r, err := verify.Compare(t.Context(), src, dst, verify.Options{Tokens: 768, SeqLen: 32, Progress: progress(t, &verified)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verify.Pass {
		t.Errorf("verify: %s", report.Text(r))
	}
	var out bytes.Buffer
	if err := report.JSON(&out, r); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("report: %v", err)
	}
}

// generate continues a text, plainly and with drafts: the same text.
func generate(t *testing.T, dir string) {
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := runtime.Load(dir, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	prompt := tok.Encode("The ")
	o := spec.Options{MaxTokens: 12, Stop: m.Config().EOS}
	plain, err := spec.Generate(t.Context(), m, prompt, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Drafts = 3
	drafted, err := spec.Generate(t.Context(), m, prompt, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(plain.Tokens) == 0 || !slices.Equal(plain.Tokens, drafted.Tokens) || drafted.Counters.Passes == 0 || tok.Decode(plain.Tokens) == "" {
		t.Errorf("%v, with drafts %v", plain.Tokens, drafted.Tokens)
	}
}
