package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"time"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// The model of the end-to-end figures: two layers with experts at the widths of
// GLM-4.5-Air, sixteen experts of which eight are chosen, a small vocabulary.
// llama.cpp is measured on the same (peers).
const (
	modelLayers, modelExperts, modelVocab = 2, 16, 4096
	promptTokens, decodeTokens            = 512, 64
)

// writeModel writes the BF16 checkpoint of a preset's widths to dir/bf16 and its
// int8 form to dir/w8a8. Without experts its layers are dense.
func writeModel(ctx context.Context, dir, name string, layers, experts int) error {
	src, dst := filepath.Join(dir, "bf16"), filepath.Join(dir, "w8a8")
	preset, err := glm.LookupPreset(name)
	if err != nil {
		return err
	}
	cfg := map[string]any{}
	if err := json.Unmarshal(preset.JSON, &cfg); err != nil {
		return err
	}
	if cfg["first_k_dense_replace"] = 0; experts == 0 {
		cfg["first_k_dense_replace"] = layers
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	plan, err := synth.NewPlan(synth.Options{Config: text, Layers: layers, Experts: experts, Vocab: modelVocab, MTP: synth.MTPNone})
	if err != nil {
		return err
	}
	if err := plan.Write(ctx, src); err != nil {
		return err
	}
	ckpt, err := safetensors.OpenDir(src)
	if err != nil {
		return err
	}
	defer func() { _ = ckpt.Close() }()
	p, err := quant.NewPlan(ckpt, quant.W8A8, layout.CompressedTensors, quant.Options{})
	if err != nil {
		return err
	}
	_, err = convert.Run(ctx, p, ckpt, dst, convert.Options{})
	return err
}

// The names of the figures of a whole model.
const (
	promptName = "prompt of 512 tokens, int8"
	decodeName = "decoding one sequence, int8"
)

// measureModel measures a prompt and the decoding of tokens after it, beside
// what multiplies and what reads the weights.
func measureModel(ctx context.Context, dir string, threads, runs int) (out []figure, err error) {
	dir = filepath.Join(dir, "w8a8")
	m, err := runtime.Load(dir, runtime.Options{Threads: threads})
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := m.Close(); err == nil {
			err = e
		}
	}()
	path, tokens, steps := cpu.Current(), promptTokens, decodeTokens
	if path < cpu.AVX2 {
		tokens, steps = 4, 4
	}
	ids := make([]int, promptTokens)
	for i := range ids {
		ids[i] = (i*7919)%4000 + 3
	}
	var session *runtime.Session
	prompt := func() (float64, error) {
		session = m.NewSession()
		start := time.Now()
		h, err := session.Forward(ctx, ids[:tokens])
		if err == nil {
			_, err = m.Logits(ctx, h[len(h)-m.Config().HiddenSize:])
		}
		return float64(tokens) / time.Since(start).Seconds(), err
	}
	if _, err := prompt(); err != nil { // reads the weights
		return nil, err
	}
	macs, weights, err := active(dir)
	if err != nil {
		return nil, err
	}
	peak := int8Limit(path.String())
	f := figure{Name: promptName, Path: path.String(), Threads: threads, Unit: "tokens/s", Limit: peak}
	if err := f.pairs(runs, prompt, func() (float64, error) { return limits.Peak(peak, threads, 1<<19) * 1e9 / macs, nil }); err != nil {
		return nil, err
	}
	g := figure{Name: decodeName, Path: path.String(), Threads: threads, Unit: "GB/s of weights", Limit: limits.MemoryRead}
	stream := limits.NewReader(threads)
	err = g.pairs(runs, func() (float64, error) {
		session.Truncate(tokens)
		start := time.Now()
		for i := range steps {
			h, err := session.Forward(ctx, ids[i:i+1])
			if err != nil {
				return 0, err
			}
			if _, err := m.Logits(ctx, h); err != nil {
				return 0, err
			}
		}
		return float64(steps) * weights / float64(time.Since(start).Nanoseconds()), nil
	}, func() (float64, error) { return stream(), nil })
	return []figure{f, g}, err
}

// active returns the multiply-accumulates of a token in its matrices and the
// bytes of weights that it reads: everything but the embedding, and of the
// experts those that are chosen. Attention over earlier tokens is not counted.
func active(dir string) (macs, size float64, err error) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return 0, 0, err
	}
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = ckpt.Close() }()
	for _, t := range ckpt.Tensors() {
		share := 1.0
		if t.Name == "model.embed_tokens.weight" {
			continue
		}
		if strings.Contains(t.Name, ".mlp.experts.") {
			share = float64(cfg.ExpertsPerToken) / float64(cfg.Experts)
		}
		size += share * float64(t.Size)
		if strings.HasSuffix(t.Name, ".weight") && len(t.Shape) == 2 {
			macs += share * float64(t.Elements())
		}
	}
	return macs, size, nil
}
