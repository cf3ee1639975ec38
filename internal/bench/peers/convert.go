package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// conversion compares one scheme.
type conversion struct {
	*workspace
	env, pkg        string // the peer's environment and package
	scheme, format  string
	arith           string // "" is the default
	peer            string // the peer's name of the scheme
	wall, cpu, peak float64
	command         func(c *conversion, src, dst, ours string) (env []string, args []string, err error)
}

func conversions(w *workspace) (out []task) {
	for _, s := range [][2]string{{"w8a8", "W8A8"}, {"fp8", "FP8_DYNAMIC"}, {"fp8-block", "FP8_BLOCK"}, {"w4a16", "W4A16"}, {"w4a8", "W4A8"}} {
		out = append(out, &conversion{workspace: w, env: "core", pkg: "llmcompressor", scheme: s[0], format: "compressed-tensors", peer: s[1],
			wall: 12, cpu: 10, peak: 10, command: modelFree})
	}
	for _, s := range [][2]string{{"w4a16", "W4A16"}, {"w4a8", "W4A8"}} { // no search for scales: the peer's own bytes
		out = append(out, &conversion{workspace: w, env: "core", pkg: "llmcompressor", scheme: s[0], format: "compressed-tensors", arith: "compat", peer: s[1],
			wall: 12, cpu: 10, peak: 10, command: modelFree})
	}
	return append(out,
		&conversion{workspace: w, env: "ascend", pkg: "msmodelslim", scheme: "w8a8", format: "ascend", peer: "W8A8_DYNAMIC", wall: 12, command: modelslim},
		&conversion{workspace: w, env: "autoround", pkg: "auto-round", scheme: "w4a16", format: "compressed-tensors", peer: "W4A16", wall: 8,
			command: autoRound},
	)
}

func (c *conversion) rows() []Row {
	name := c.scheme + " " + c.format
	if c.arith != "" {
		name += " --arith " + c.arith
	}
	peer := c.version(c.env, c.pkg) + " " + c.peer
	return []Row{
		{Figure: name + ": wall", Peer: peer, Unit: "s", Lower: true, Target: c.wall},
		{Figure: name + ": processor time", Peer: peer, Unit: "s", Lower: true, Target: c.cpu},
		{Figure: name + ": peak memory", Peer: peer, Unit: "GB", Lower: true, Target: c.peak},
	}
}

func (c *conversion) open(ctx context.Context) error {
	if err := c.install(ctx, c.env); err != nil {
		return err
	}
	src, err := c.source(ctx)
	if err != nil {
		return err
	}
	if c.pkg == "auto-round" { // compiles kernels when it first runs
		if _, err := os.Stat(c.inductor()); errors.Is(err, fs.ErrNotExist) {
			if _, _, err := c.pair(ctx); err != nil {
				return err
			}
		}
	}
	return warm(src)
}

func (c *conversion) close() error { return nil }

func (c *conversion) pair(ctx context.Context) (ours, theirs []float64, err error) {
	src, err := c.source(ctx)
	if err != nil {
		return nil, nil, err
	}
	a, b := filepath.Join(c.dir, "glmconv"), filepath.Join(c.dir, "peer")
	defer func() { _ = os.RemoveAll(a); _ = os.RemoveAll(b) }()
	u, err := measured(ctx, a, nil, c.binary(), "quantize", "--scheme", c.scheme, "--format", c.format, "--arith", cmp.Or(c.arith, "best"), "--progress",
		"none", src, a)
	if err != nil {
		return nil, nil, err
	}
	env, args, err := c.command(c, src, b, a)
	if err != nil {
		return nil, nil, err
	}
	v, err := measured(ctx, b, env, c.python(c.env), args...)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range [][2]string{{a, "glmconv"}, {b, c.pkg}} {
		if m, err := filepath.Glob(filepath.Join(n[0], "*.safetensors")); err != nil || len(m) == 0 {
			return nil, nil, fmt.Errorf("%s wrote no weights (%w)", n[1], err)
		}
	}
	return u.values(), v.values(), nil
}

// values are what the rows of a conversion hold.
func (u usage) values() []float64 {
	return []float64{u.wall.Seconds(), u.cpu.Seconds(), float64(u.peak) / 1e9}
}

func modelFree(c *conversion, src, dst, ours string) ([]string, []string, error) {
	return nil, []string{c.driver("model_free_ptq.py"), src, dst, c.peer, ours}, nil
}

// inductor is where PyTorch keeps compiled kernels.
func (w *workspace) inductor() string { return filepath.Join(w.dir, "inductor") }

func autoRound(c *conversion, src, dst, _ string) ([]string, []string, error) {
	return []string{"AR_MODEL_FREE_SHARD_PARALLELISM=1", "TORCHINDUCTOR_CACHE_DIR=" + c.inductor()}, []string{"-m", "auto_round", "--model", src,
		"--model_free", "--scheme", c.peer, "--output_dir", dst}, nil
}

// recipe quantises what our w8a8 does: attention and MLPs of the trunk, int8
// weights by channel, activations by token, no calibration.
const recipe = `apiversion: modelslim_v1
metadata:
  config_id: w8a8-dynamic
  score: 90
  verified_model_types: [GLM-4.7]
  label: {w_bit: 8, a_bit: 8, is_sparse: False, kv_cache: False}
spec:
  process:
    - type: "linear_quant"
      qconfig:
        act: {scope: "per_token", dtype: "int8", symmetric: True, method: "minmax"}
        weight: {scope: "per_channel", dtype: "int8", symmetric: True, method: "minmax"}
      include: ["*self_attn*", "*mlp*"]
      exclude: ["model.layers.%d.*"]
  save:
    - type: "ascendv1_saver"
      part_file_size: 4
`

func modelslim(c *conversion, src, dst, _ string) ([]string, []string, error) {
	raw, err := os.ReadFile(filepath.Join(src, "config.json"))
	if err != nil {
		return nil, nil, err
	}
	var cfg struct {
		Layers int `json:"num_hidden_layers"`
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, nil, err
	}
	file := filepath.Join(c.dir, "recipe.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, recipe, cfg.Layers), 0o600); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(dst, 0o700); err != nil {
		return nil, nil, err
	}
	args := strings.Fields("quant --device cpu --model_type GLM-4.7 --trust_remote_code False")
	return nil, append(append([]string{c.driver("modelslim.py")}, args...), "--model_path", src, "--save_path", dst, "--config_path", file), nil
}
