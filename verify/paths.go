package verify

import (
	"context"
	"fmt"
	goruntime "runtime"
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
// something else.
func (c *comparison) forward(ctx context.Context, src, dst string) ([]*forward, error) {
	threads := c.o.Workers
	if threads <= 0 {
		threads = goruntime.GOMAXPROCS(0)
	}
	c.f = &forward{Threads: threads}
	if err := c.run(ctx, src, dst); err != nil {
		return nil, err
	}
	all := []*forward{c.f}
	for i := 1; i < len(c.paths); i++ {
		next := *c
		next.state, next.from, next.path = nil, nil, c.paths[i]
		next.f = &forward{Path: next.path, Threads: threads}
		if err := next.run(ctx, src, dst); err != nil {
			return nil, err
		}
		all = append(all, next.f)
	}
	return all, nil
}

// judgeForwards judges each path and returns the result of the worst.
func (r *Result) judgeForwards(passes []*forward, allTokens bool) (*Result, error) {
	var all []*Result
	var list []Path
	worst, read := 0, r.Bytes
	for i, f := range passes {
		x := r.fork()
		if err := x.judgeForward(f, allTokens); err != nil {
			return nil, err
		}
		all, list = append(all, x), append(list, Path{f.Path.String(), x.KL.Mean, x.KL.Upper95, len(x.Failed)})
		read += f.Read
		if x.worse(all[worst]) {
			worst = i
		}
	}
	out := all[worst]
	if len(all) == 1 {
		return out, nil
	}
	out.Bytes, out.Paths, out.Path = read, list, list[worst].Name
	if len(out.Failed) > len(r.Failed) && out.Cause == "" {
		out.Cause = fmt.Sprintf("on the NPU's path %s: %s", out.Path, out.likelyCause())
	}
	return out, nil
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
