package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/pprof"
	"slices"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// costs measures what calibration costs at a model's true widths, in processor
// time, which other work on the machine changes little: statistics beside the
// forward pass that they are gathered in, taking turns, and learning beside its
// multiplications at the rate of one core (docs/performance.md).
type costs struct {
	source              synth.Options
	tokens, pairs, rows int
	narrowest, widest   int    // columns; other weights are left out
	profile             string // of learning
	only                string // "statistics" or "learning"; "": both
}

func (c *costs) run(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "glmconv-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plan, err := synth.NewPlan(c.source)
	if err != nil {
		return err
	}
	if c.only != "statistics" {
		if err := c.learning(ctx, plan.Config, w); err != nil || c.only != "" {
			return err
		}
	}
	src := filepath.Join(dir, "source")
	if err := plan.Write(ctx, src); err != nil {
		return err
	}
	ckpt, err := safetensors.OpenDir(src)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	return c.statistics(ctx, plan.Config, ckpt, w)
}

// statistics measures collecting beside the bare pass.
func (c *costs) statistics(ctx context.Context, cfg *glm.Config, ckpt *safetensors.Checkpoint, w io.Writer) error {
	seqs, r := [][]int{}, rand.New(rand.NewPCG(1, 2))
	for n := c.tokens; n > 0; n -= 128 {
		ids := make([]int, min(n, 128))
		for i := range ids {
			ids[i] = r.IntN(cfg.VocabSize)
		}
		seqs = append(seqs, ids)
	}
	var pass, gather, ratio []float64
	for range c.pairs {
		a, err := processor(func() error { return forward(ctx, cfg, ckpt, seqs) })
		if err != nil {
			return err
		}
		b, err := processor(func() error {
			_, err := calib.Collect(ctx, cfg, ckpt, seqs, calib.CollectOptions{MaxMemory: 4 << 30})
			return err
		})
		if err != nil {
			return err
		}
		pass, gather, ratio = append(pass, a), append(gather, b), append(ratio, b/a)
	}
	_, err := fmt.Fprintf(w, "statistics of %d tokens: %.1f s of processor time, the forward pass alone %.1f s, ratio %.2f (median of %d pairs, target 1.25)\n",
		c.tokens, limits.MedianOf(gather), limits.MedianOf(pass), limits.MedianOf(ratio), c.pairs)
	return err
}

// forward takes all tokens through all layers, weights streamed.
func forward(ctx context.Context, cfg *glm.Config, ckpt *safetensors.Checkpoint, seqs [][]int) error {
	p, err := runtime.NewStreaming(cfg, ckpt, 0)
	if err != nil {
		return err
	}
	defer p.Stop()
	m, err := runtime.New(cfg, p, runtime.Options{})
	if err != nil {
		return err
	}
	var ids []int
	var spans []runtime.Span
	for _, s := range seqs {
		ids, spans = append(ids, s...), append(spans, runtime.Span{N: len(s)})
	}
	x, err := m.Embed(ids)
	if err != nil {
		return err
	}
	for l := range cfg.Layers {
		for i := range spans {
			spans[i].Cache = new(runtime.LayerCache)
		}
		if err := m.Layer(ctx, l, x, spans, nil); err != nil {
			return err
		}
	}
	return nil
}

// class are weights of a model with inputs of one width and as many rows for each
// basis: bases of them, and rows in all.
type class struct{ cols, bases, rows int }

// shared is the role whose basis a role's weights have, as learning shares bases: one
// for each distinct input (docs/facts/accuracy.md 3.1).
func shared(r glm.Role) glm.Role {
	switch r {
	case glm.AttnK, glm.AttnV:
		return glm.AttnQ
	case glm.AttnKVA, glm.IndexerK:
		return glm.AttnQA
	case glm.IndexerQB:
		return glm.AttnQB
	case glm.DenseUp:
		return glm.DenseGate
	case glm.SharedUp:
		return glm.SharedGate
	case glm.ExpertUp:
		return glm.ExpertGate
	}
	return r
}

// classes are those that w8a8 would learn.
func classes(cfg *glm.Config) (out []*class) {
	type key struct {
		layer, expert int
		role          glm.Role
	}
	rows, cols, order := map[key]int{}, map[key]int{}, []key{}
	for _, t := range cfg.Table() {
		if t.Param != "weight" || !t.Role.IsLinear() || t.Layer < 0 || len(t.Shape) != 2 || t.Role == glm.Router || t.Role == glm.AttnKVB {
			continue
		}
		k := key{t.Layer, t.Expert, shared(t.Role)}
		if rows[k] == 0 {
			order = append(order, k)
		}
		rows[k] += int(t.Shape[0])
		cols[k] = int(t.Shape[1])
	}
	for _, k := range order {
		at := slices.IndexFunc(out, func(c *class) bool { return c.cols == cols[k] && c.rows == c.bases*rows[k] })
		if at < 0 {
			at = len(out)
			out = append(out, &class{cols: cols[k]})
		}
		out[at].bases++
		out[at].rows += rows[k]
	}
	return out
}

// learning measures each class: moments and a basis once, codes of some rows.
func (c *costs) learning(ctx context.Context, cfg *glm.Config, w io.Writer) error {
	workers := &kernel.Workers{N: goruntime.GOMAXPROCS(0)}
	if c.profile != "" {
		f, err := os.Create(c.profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Fprintln(w, "| columns | bases | rows | moments | basis | codes | all | work at the core's rate | ratio |\n|---|---|---|---|---|---|---|---|---|")
	var all, ideal float64
	for _, x := range classes(cfg) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if x.cols < c.narrowest || x.cols > c.widest {
			continue
		}
		rate := rate()
		t, err := x.times(c.tokens, c.rows, workers)
		if err != nil {
			return err
		}
		n, rows := float64(x.cols), float64(x.rows)
		sum := float64(x.bases)*(t[0]+t[1]) + rows/float64(c.rows)*t[2]
		work := (float64(x.bases)*(3*float64(c.tokens)*n*n+4./3*n*n*n) + 7*rows*n*n) / rate
		all, ideal = all+sum, ideal+work
		fmt.Fprintf(w, "| %d | %d | %d | %.2f | %.2f | %.1f | %.1f | %.1f | %.2f |\n", x.cols, x.bases, x.rows,
			t[0], t[1], rows/float64(c.rows)*t[2], sum, work, sum/work)
	}
	_, err := fmt.Fprintf(w, "learning: %.0f s of processor time, the multiplications of its methods take %.0f s of one core, ratio %.2f (target 2)\n", all, ideal, all/ideal)
	return err
}

// rate is that of one core: the best of many, for other work on the machine takes
// its time from some.
func rate() (best float64) {
	for range 100 {
		best = max(best, calib.Rate(1))
	}
	return best
}

// times are the seconds of processor time that moments, a basis and the codes of
// some rows take.
func (x *class) times(tokens, rows int, workers *kernel.Workers) (t [3]float64, err error) {
	r := rand.New(rand.NewPCG(3, uint64(x.cols)))
	served, float := inputs(r, tokens, x.cols)
	w := make([]float32, rows*x.cols)
	for i := range w {
		w[i] = float32(0.02 * r.NormFloat64())
	}
	g := learn.NewGram(x.cols, true)
	if t[0], err = processor(func() error { g.Add(served, float, tokens, workers); g.Finish(workers); return nil }); err != nil {
		return t, err
	}
	var b *learn.Basis
	if t[1], err = processor(func() error { b, err = learn.NewBasis(g, learn.Options{}, x.rows/x.bases, workers); return err }); err != nil {
		return t, err
	}
	t[2], err = processor(func() error {
		group := 128
		for x.cols%group != 0 { // of a dense layer of GLM-4.5-Air
			group /= 2
		}
		_, _, err := b.Solve(numeric.Spec{Code: numeric.Int4, Rule: numeric.CompressedTensors, BlockRows: 1, BlockCols: group, Signed: true}, w, rows, workers)
		return err
	})
	return t, err
}

// inputs are tokens [tokens, cols] of a quantized and a float model: a few
// directions that most share, channels of different size, and noise.
func inputs(r *rand.Rand, tokens, cols int) (served, float []float32) {
	const shared = 64
	served, float = make([]float32, tokens*cols), make([]float32, tokens*cols)
	mix := make([]float32, shared*cols)
	for i := range mix {
		mix[i] = float32(r.NormFloat64() / 8)
	}
	size := make([]float32, cols)
	for i := range size {
		size[i] = float32(0.1 + r.ExpFloat64())
	}
	for t := range tokens {
		row := float[t*cols:][:cols]
		for range 8 {
			kernel.Axpy(row, float32(r.NormFloat64()), mix[r.IntN(shared)*cols:][:cols])
		}
		for c := range row {
			row[c] = (row[c] + float32(r.NormFloat64())) * size[c]
			served[t*cols+c] = row[c] + float32(0.02*r.NormFloat64())*size[c]
		}
	}
	return served, float
}
