package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/internal/synth"
)

// workspace is what the comparisons share: the root of the project, the folder
// for data, the peers' environments.
type workspace struct {
	root, dir string
	bytes     int64 // of the source of conversions
	threads   int
}

func (w *workspace) python(env string) string {
	return filepath.Join(w.root, "interop", ".venv-"+env, "bin", "python")
}

func (w *workspace) driver(name string) string {
	return filepath.Join(w.root, "internal", "bench", "peers", "drivers", name)
}

func (w *workspace) binary() string { return filepath.Join(w.root, "bin", "glmconv") }

// version returns the package and the version that its requirement file pins.
func (w *workspace) version(env, pkg string) string {
	files, _ := filepath.Glob(filepath.Join(w.root, "interop", "requirements-"+env+"*.txt"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), pkg+"=="); ok {
				return pkg + " " + v
			}
		}
	}
	return pkg
}

// install sets an environment up, unless it is there.
func (w *workspace) install(ctx context.Context, env string) error {
	return w.run(ctx, filepath.Join(w.root, "interop", "run"), "setup", env)
}

// run runs a program of the preparation and shows its output if it fails.
func (w *workspace) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = w.root
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, lastError(log.String()))
	}
	return nil
}

// source writes the checkpoint of the conversions once: GLM-4.5-Air's widths,
// three shards, as the peers' memory grows with the largest.
func (w *workspace) source(ctx context.Context) (string, error) {
	o, err := synth.ScaleTo(synth.Options{Preset: "glm-4.5-air"}, w.bytes)
	if err != nil {
		return "", err
	}
	o.ShardBytes = w.bytes * 36 / 100
	return w.write(ctx, fmt.Sprintf("source-%d", w.bytes), o)
}

// write writes a synthetic checkpoint, unless it is there.
func (w *workspace) write(ctx context.Context, name string, o synth.Options) (string, error) {
	dst := filepath.Join(w.dir, name)
	if _, err := os.Stat(dst); err == nil {
		return dst, nil
	}
	p, err := synth.NewPlan(o)
	if err != nil {
		return "", err
	}
	tmp := dst + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := p.Write(ctx, tmp); err != nil {
		return "", err
	}
	// msmodelslim pads a text, whatever the recipe; any token will do.
	tok := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": p.Config.MaxPositions, "pad_token": "!"}
	if b, err := json.Marshal(tok); err != nil {
		return "", err
	} else if err := os.WriteFile(filepath.Join(tmp, "tokenizer_config.json"), b, 0o600); err != nil {
		return "", err
	}
	return dst, os.Rename(tmp, dst)
}
