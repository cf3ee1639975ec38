package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// The lengths of a prompt and of what is decoded after it.
const promptTokens, decodeTokens = 512, 64

// generation compares the runtime with llama.cpp: a prompt, then decoding.
type generation struct {
	*workspace
	scheme  string // of glmconv; "" is the BF16 source
	outtype string // of llama.cpp's converter
	extra   bool   // llama.cpp's extra buffer types
	prompt  float64
	decode  float64 // targets

	model  *runtime.Model
	srv    *server
	ids    []int
	active [2]float64 // bytes of weights that a token reads
}

func generations(w *workspace) (out []task) {
	out = append(out, &generation{workspace: w, scheme: "w8a8", outtype: "q8_0", extra: true, prompt: 3, decode: 1})
	if hasAMX() {
		out = append(out, &generation{workspace: w, scheme: "w8a8", outtype: "q8_0", prompt: 3, decode: 1})
	}
	return append(out,
		&generation{workspace: w, scheme: "w8a8", outtype: "bf16", extra: true, prompt: 1.2},
		&generation{workspace: w, outtype: "bf16", extra: true},
	)
}

func (g *generation) rows() []Row {
	ours, peer := "int8", g.version("llamacpp", "llama-cpp-python")+" "+strings.ToUpper(g.outtype)
	if g.scheme == "" {
		ours = "BF16"
	}
	if !g.extra {
		peer += ", AMX off"
	}
	return []Row{
		{Figure: fmt.Sprintf("prompt of %d tokens, %s", promptTokens, ours), Peer: peer, Unit: "tok/s", Target: g.prompt},
		{Figure: "decode, " + ours, Peer: peer, Unit: "tok/s"},
		{Figure: "decode, weights read, " + ours, Peer: peer, Unit: "GB/s", Target: g.decode},
	}
}

// model writes the checkpoint: two layers with 16 experts and none without, as
// layers without experts would hide what these cost.
func (g *generation) checkpoint(ctx context.Context) (string, error) {
	p, err := glm.LookupPreset("glm-4.5-air")
	if err != nil {
		return "", err
	}
	var cfg map[string]any
	if err := json.Unmarshal(p.JSON, &cfg); err != nil {
		return "", err
	}
	cfg["first_k_dense_replace"] = 0
	raw, err := json.Marshal(cfg)
	if err != nil {
		return "", err
	}
	return g.write(ctx, "model", synth.Options{Config: raw, Layers: 2, Experts: 16, Vocab: 4096, MTP: synth.MTPNone})
}

func (g *generation) open(ctx context.Context) error {
	if err := g.install(ctx, "llamacpp"); err != nil {
		return err
	}
	src, err := g.checkpoint(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(g.dir, "model-"+g.outtype+".gguf")
	llamacpp := filepath.Join(g.root, "interop", ".cache", "llama.cpp")
	if _, err := os.Stat(file); err != nil {
		convert := filepath.Join(g.root, "interop", "tests", "llamacpp", "convert.py")
		if err := g.run(ctx, g.python("llamacpp"), convert, llamacpp, src, file+".tmp", g.outtype); err != nil {
			return err
		}
		if err := os.Rename(file+".tmp", file); err != nil {
			return err
		}
	}
	if g.scheme != "" {
		dst := filepath.Join(g.dir, "model-"+g.scheme)
		if err := g.run(ctx, g.binary(), "quantize", "--resume", "--scheme", g.scheme, "--progress", "none", src, dst); err != nil {
			return err
		}
		src = dst
	}
	if g.model, err = runtime.Load(src, runtime.Options{Threads: g.threads}); err != nil {
		return err
	}
	cfg := g.model.Config()
	if g.active[0], err = readPerToken(src, cfg); err != nil {
		return err
	}
	g.ids = nil
	for i := range promptTokens {
		g.ids = append(g.ids, i*7919%(cfg.VocabSize-3)+3)
	}
	extra := "1"
	if !g.extra {
		extra = "0"
	}
	var hello struct{ Active float64 }
	g.srv, err = start(&hello, []string{"GGUF_PY=" + filepath.Join(llamacpp, "gguf-py")}, g.python("llamacpp"), g.driver("llamacpp.py"), file,
		strconv.Itoa(g.threads), extra)
	if err != nil {
		return err
	}
	g.active[1] = hello.Active
	_, _, err = g.pair(ctx) // both have now read all their weights
	return err
}

func (g *generation) close() (err error) {
	if g.srv != nil {
		err = g.srv.close()
	}
	if g.model != nil {
		_ = g.model.Close()
		g.model = nil
	}
	return err
}

// readPerToken is the size of the weights that a token passes through: every
// matrix but the embedding, experts by the share that is chosen.
func readPerToken(dir string, cfg *glm.Config) (float64, error) {
	c, err := safetensors.OpenDir(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	sum, share := 0., float64(cfg.ExpertsPerToken)/float64(cfg.Experts)
	for _, t := range c.Tensors() {
		switch n := float64(t.Size); {
		case len(t.Shape) < 2 || strings.HasSuffix(t.Name, "embed_tokens.weight"):
		case strings.Contains(t.Name, ".experts."):
			sum += n * share
		default:
			sum += n
		}
	}
	return sum, nil
}

func (g *generation) pair(ctx context.Context) (ours, theirs []float64, err error) {
	s := g.model.NewSession()
	step := func(ids []int) error {
		h, err := s.Forward(ctx, ids)
		if err == nil {
			_, err = g.model.Logits(ctx, h[len(h)-g.model.Config().HiddenSize:])
		}
		return err
	}
	start := time.Now()
	if err := step(g.ids); err != nil {
		return nil, nil, err
	}
	prompt := time.Since(start)
	start = time.Now()
	for i := range decodeTokens {
		if err := step(g.ids[i : i+1]); err != nil {
			return nil, nil, err
		}
	}
	decode := time.Since(start)
	p, err := g.srv.seconds(map[string]int{"prompt": promptTokens})
	if err != nil {
		return nil, nil, err
	}
	d, err := g.srv.seconds(map[string]int{"decode": decodeTokens})
	if err != nil {
		return nil, nil, err
	}
	return g.values(0, prompt, decode), g.values(1, p, d), nil
}

func (g *generation) values(side int, prompt, decode time.Duration) []float64 {
	d := decodeTokens / decode.Seconds()
	return []float64{promptTokens / prompt.Seconds(), d, d * g.active[side] / 1e9}
}
