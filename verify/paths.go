package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/runtime"
)

// Path is what a result gives on one of the ways in which an NPU computes static
// W8A8 (docs/facts/ascend.md 2.4).
type Path struct {
	Name   string  `json:"name"` // "plain", "MLAPO", "consumer"
	Mean   float64 `json:"mean"` // KL, nats per token
	Upper  float64 `json:"upper95"`
	Failed int     `json:"failed"` // predicates that do not hold
}

// fork is a copy that a forward pass may fill.
func (r *Result) fork() *Result {
	out := *r
	out.Failed, out.Notes, out.Layers, out.Tensors = slices.Clone(r.Failed), slices.Clone(r.Notes), slices.Clone(r.Layers), slices.Clone(r.Tensors)
	out.Logits.PerToken = slices.Clone(r.Logits.PerToken)
	return &out
}

// forward runs both models, the result on every path on which it computes
// something else, and returns the figures of the worst.
func (c *comparison) forward(ctx context.Context, src, dst string) (*Result, error) {
	before := c.r.fork()
	if err := c.run(ctx, src, dst); err != nil || len(c.paths) < 2 {
		return c.r, err
	}
	all := []*Result{c.r}
	for _, p := range c.paths[1:] {
		next := comparison{r: before.fork(), o: c.o, folders: c.folders, basis: c.basis, path: p}
		if err := next.run(ctx, src, dst); err != nil {
			return nil, err
		}
		all = append(all, next.r)
	}
	worst, read := 0, before.Bytes
	var list []Path
	for i, r := range all {
		list = append(list, Path{c.paths[i].String(), r.KL.Mean, r.KL.Upper95, len(r.Failed)})
		read += r.Bytes - before.Bytes
		if r.worse(all[worst]) {
			worst = i
		}
	}
	r := all[worst]
	r.Bytes, r.Paths, r.Path = read, list, list[worst].Name
	if len(r.Failed) > len(before.Failed) && r.Cause == "" {
		r.Cause = fmt.Sprintf("on the NPU's path %s: %s", r.Path, r.likelyCause())
	}
	return r, nil
}

// worse orders results of one comparison on different paths.
func (r *Result) worse(than *Result) bool {
	if a, b := len(r.Failed), len(than.Failed); a != b {
		return a > b
	}
	if a, b := r.Verdict == Undecided, than.Verdict == Undecided; a != b {
		return a
	}
	return r.KL.Upper95 > than.KL.Upper95
}

// SayPaths says what the result gives on each path, "" where there is but one.
func (r *Result) SayPaths() string {
	var parts []string
	for _, p := range r.Paths {
		parts = append(parts, fmt.Sprintf("%s %.3g", p.Name, p.Mean))
	}
	return strings.Join(parts, " · ")
}

// npuPaths lists the paths of the result's model, once.
func (c *comparison) npuPaths() (err error) {
	if c.path == runtime.Plain {
		c.paths, err = c.res.m.NPUPaths()
	}
	return err
}
