package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// learnFlags choose what quantize learns from text.
func learnFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "calib", Usage: "`DIR` of calibrate: learn codes from its statistics"},
		&cli.StringFlag{Name: "method", Usage: "with --calib: auto, search (scales weighted by activations) or gptq (default: auto)"},
		&cli.StringFlag{Name: "scratch", Usage: "`DIR` for states, codes and folds while they are learnt (default: in the folder of --calib)"},
	}, budgetFlags()...)
}

// methods are the values of --method.
var methods = map[string]bool{"": true, "auto": true, "search": true, "gptq": true}

// statistics reads those that --calib names, of this source; nil without.
func statistics(c *cli.Context, src *safetensors.Checkpoint) (*calib.Statistics, error) {
	dir := c.String("calib")
	if !methods[c.String("method")] {
		return nil, usagef("--method must be auto, search or gptq, not %q", c.String("method"))
	}
	if dir == "" {
		for _, f := range []string{"method", "scratch"} {
			if c.IsSet(f) {
				return nil, usagef("--%s needs --calib: statistics of activations", f)
			}
		}
		return nil, nil
	}
	if c.String("arith") == "compat" {
		return nil, usagef("--calib learns codes, --arith compat writes those of another tool")
	}
	id, err := calib.SourceID(src)
	if err != nil {
		return nil, err
	}
	st, err := calib.Read(dir)
	if err == nil && id != st.Source {
		_ = st.Close()
		err = fmt.Errorf("%w: %s was gathered from another checkpoint or tokenizer than %s", calib.ErrStatistics, dir, src.Dir())
	}
	return st, err
}

// fewTokens is how many tokens for a column of the hidden state gptq wants: with
// fewer, codes follow the sample (docs/facts/accuracy.md).
const fewTokens = 2

// learner plans, and learns from statistics if there are some.
type learner struct {
	c      *cli.Context
	src    *safetensors.Checkpoint
	scheme layout.Scheme
	format layout.Format
	o      quant.Options
	recipe *quant.Recipe
	static bool // inputs of attention
	turn   bool // rotate the source

	st      *calib.Statistics // nil: rounding
	plan    *quant.Plan
	rotated *quant.Rotated // nil: the source as it is
	done    func()         // removes what learning left on disk
	release func()         // unlocks it

	goal    *goal      // of a budget; nil: none
	mix     *calib.Mix // how it is shared out
	measure calib.MeasureOptions
}

// open plans and returns the checkpoint that the plan is of.
func (l *learner) open(dir string) (out *opened, err error) {
	l.done, l.release = l.closeStatistics, func() {}
	defer func() {
		if err != nil {
			l.closeStatistics()
			l.release()
		}
	}()
	if l.goal, err = goalOf(l.c); err != nil {
		return nil, err
	}
	if l.st, err = statistics(l.c, l.src); err != nil {
		return nil, err
	}
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	if l.recipe != nil {
		if err := l.recipe.Apply(cfg, &l.o); err != nil {
			return nil, err
		}
	}
	if l.st != nil && l.o.KV != "" {
		if l.o.CacheRanges, err = calib.CacheRanges(cfg, nil, l.st); err != nil {
			return nil, err
		}
	}
	if l.o.Requantize = l.o.Requantize || l.turn; l.turn && l.scheme == layout.BF16 && l.format == layout.Ascend {
		l.format = "" // which is what it becomes once it is rotated
	}
	if l.plan, err = quant.NewPlan(l.src, l.scheme, l.format, l.o); err != nil {
		return nil, err
	}
	if l.c.IsSet("group-size") {
		if err := layout.CheckGroups(l.scheme, l.plan.Format, l.o.GroupSize); err != nil {
			return nil, err
		}
	}
	if l.st != nil {
		err = l.folds()
	}
	if err == nil && l.st != nil {
		err = l.budget()
	}
	if err == nil && l.turn {
		err = l.rotate(dir)
	}
	if err == nil && l.st != nil {
		err = l.codes()
	}
	if err == nil && l.goal != nil {
		err = l.confirm()
	}
	if err == nil && l.st != nil && l.st.Tokens() > 0 {
		l.plan.Calibration = quant.NewCalibration(l.st.Sequences)
	}
	switch {
	case err != nil && l.rotated != nil:
		_ = l.rotated.Close()
		return nil, err
	case err != nil:
		return nil, err
	case l.rotated != nil:
		l.src.Close()
		return &opened{l.rotated.Checkpoint, l.rotated, l.done, l.release}, nil
	}
	return &opened{l.src, nil, l.done, l.release}, nil
}

// closeStatistics closes the files of moments, which nothing asks for any more.
func (l *learner) closeStatistics() {
	if l.st != nil {
		_ = l.st.Close()
	}
}

// dry reports whether nothing is to be converted.
func (l *learner) dry() bool { return l.c.Bool("dry-run") || l.c.Command.Name == "plan" }

// folds searches for folds if that is asked for, and takes the ranges of inputs.
func (l *learner) folds() error {
	if err := l.ranges(); err != nil {
		return err
	}
	if f := l.c.String("fold"); f != "" && f != "search" {
		return nil
	}
	part, parts, err := partOf(l.c)
	if err != nil {
		return err
	}
	memory, err := size(l.c, "max-memory")
	if err != nil {
		return err
	}
	bar, err := newProgress(l.c, "fold")
	if err != nil {
		return err
	}
	set, err := calib.SearchFolds(l.c.Context, l.plan, l.src, l.st, calib.FoldOptions{Workers: l.c.Int("workers"), MaxMemory: memory, Part: part, Parts: parts,
		Dir: scratchDir(l.c, l.c.String("calib")), FS: disk, Progress: bar.Update})
	bar.Close()
	if err != nil {
		return err
	}
	l.o.Fold, l.o.Folds, l.o.Ranges = quant.FoldSearch, set, nil
	if l.plan, err = quant.NewPlan(l.src, l.scheme, l.format, l.o); err != nil {
		return err
	}
	return l.ranges()
}

// ranges plans with the ranges of inputs and caches, where scales are made of them.
func (l *learner) ranges() (err error) {
	if l.static {
		if l.o.Ranges, err = calib.Ranges(l.plan, l.st); err != nil {
			return err
		}
	}
	if l.o.KV != "" {
		if l.o.CacheRanges, err = calib.CacheRanges(l.plan.Config, l.plan.Folds, l.st); err != nil {
			return err
		}
	}
	if l.scheme.Calibrated() && l.rotated == nil {
		if l.o.Inputs, err = calib.Largest(l.plan, l.st); err != nil {
			return err
		}
	}
	if !l.static && l.o.KV == "" && l.o.Inputs == nil {
		return nil
	}
	if l.rotated != nil {
		err = l.rotated.Replan(l.o.Ranges, l.o.CacheRanges)
		l.plan = l.rotated.Plan
		return err
	}
	l.plan, err = quant.NewPlan(l.src, l.scheme, l.format, l.o)
	return err
}

// rotationShare is the part of --max-memory that weights take while they are rotated.
const rotationShare = 4

// rotate rotates the source. What its inputs are then the text shows once more.
func (l *learner) rotate(dir string) error {
	memory, err := size(l.c, "max-memory")
	if err != nil {
		return err
	}
	if l.rotated, err = quant.OpenRotated(l.c.Context, dir, l.scheme, l.format, l.o, memory/rotationShare); err != nil {
		return err
	}
	l.plan = l.rotated.Plan
	if l.st == nil || l.dry() {
		return nil
	}
	if l.c.Bool("no-forward") {
		return usagef("--calib with --rotate runs the rotated model over the text once: leave --no-forward out")
	}
	if err := l.again(memory); err != nil {
		return err
	}
	return l.ranges()
}

// again gathers statistics of the rotated model, in a folder of --scratch.
func (l *learner) again(memory int64) error {
	base := filepath.Join(scratchDir(l.c, l.c.String("calib")), "rotated-"+l.plan.Fingerprint[:12])
	if err := fsx.Or(disk).MkdirAll(filepath.Dir(base)); err != nil {
		return err
	}
	dir, unlock, err := "", func() error { return nil }, fsx.ErrLocked
	for i := 1; errors.Is(err, fsx.ErrLocked); i++ { // parts of a conversion that run at the same time have one each
		if dir = base; i > 1 {
			dir = fmt.Sprintf("%s-%d", base, i)
		}
		unlock, err = fsx.Lock(dir + ".lock")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	l.release = func() { _ = unlock() }
	bar, err := newProgress(l.c, "calibrate")
	if err != nil {
		return err
	}
	defer bar.Close()
	l.closeStatistics()
	o := calib.GatherOptions{CollectOptions: calib.CollectOptions{Workers: l.c.Int("workers"), MaxMemory: memory - memory/rotationShare, Progress: bar.Update},
		Dir: dir, Source: "rotated " + l.plan.Fingerprint, FS: disk}
	if l.st, err = l.st.Again(l.c.Context, l.plan.Config, l.rotated.Checkpoint, o); err != nil {
		return err
	}
	l.done = func() { l.closeStatistics(); _ = os.RemoveAll(dir) }
	return nil
}

// codes learns codes.
func (l *learner) codes() error {
	c, p, st := l.c, l.plan, l.st
	method := c.String("method")
	auto := method == "" || method == "auto"
	if auto {
		if method = "gptq"; st.Tokens() < fewTokens*p.Config.HiddenSize {
			method = "search"
			why := fmt.Sprintf("%d tokens are too few to learn codes from", st.Tokens())
			if st.Tokens() == 0 {
				why = "an imported matrix has no text to learn codes from"
			}
			p.Notes = append(p.Notes, why+": scales are searched, weighted by activations")
		}
		if !learnable(p) {
			p.Notes = append(p.Notes, "method auto: codes of this scheme are rounded, after the folds")
			return nil
		}
		p.Notes = append(p.Notes, autoNote(p, method))
	}
	from := fmt.Sprintf("%d tokens", st.Tokens())
	if st.Tokens() == 0 {
		if from = "an imported matrix"; method == "gptq" {
			return usagef("--method gptq learns from text, and an imported matrix has none: --method search weighs scales by it")
		}
	}
	p.Notes = append(p.Notes, fmt.Sprintf("codes are learnt from %s (%s)", from, method))
	if method == "search" {
		codes, err := calib.Weighted(p, st)
		if err != nil {
			return err
		}
		return p.Learn(codes)
	}
	if l.dry() {
		p.Notes = append(p.Notes, costNote(calib.CostOf(p, st.Sequences), calib.Rate(threads(c))))
		return nil
	}
	return l.solve()
}

// autoNote says what --method auto does for a plan and what that is expected to
// gain: figures of docs/accuracy.md.
func autoNote(p *quant.Plan, method string) string {
	if method == "search" {
		return "method auto: search; what that gains is not predicted, verify measures it"
	}
	gain := "KL about that of rounding, 0.03 to 0.12 of it where channels stick out"
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == quant.Quantize && it.Weight.Quant.Bits <= 4 {
			gain = "KL 0.4 to 0.7 of that of rounding, 0.08 to 0.25 where channels stick out"
			break
		}
	}
	folds := "without folds, as asked"
	if p.Folds != nil {
		folds = "after the folds"
	}
	return "method auto: gptq " + folds + "; expected: " + gain + " (small models; docs/accuracy.md)"
}

// costNote says what learning takes at a rate of floating-point operations a
// second.
func costNote(x calib.Cost, rate float64) string {
	whole := ""
	if x.Whole > x.Memory {
		whole = fmt.Sprintf(" (%d MiB keep moments out of files)", x.Whole>>20)
	}
	return fmt.Sprintf("learning takes about %.2g Tflop, %s at the %.0f Gflop/s of this machine, %d MiB of memory%s and %s of scratch",
		x.Work/1e12, duration(x.Work/rate), rate/1e9, x.Memory>>20, whole, progress.Bytes(x.Scratch))
}

// threads is --workers, or a thread for each CPU.
func threads(c *cli.Context) int {
	if n := c.Int("workers"); n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

// solve learns codes layer by layer.
func (l *learner) solve() error {
	c, p := l.c, l.plan
	mem, err := size(c, "max-memory")
	if err != nil {
		return err
	}
	bar, err := newProgress(c, "learn")
	if err != nil {
		return err
	}
	l.closeStatistics()
	src := l.src
	if l.rotated != nil {
		src, mem = l.rotated.Checkpoint, mem-mem/rotationShare
	}
	scratch := filepath.Join(scratchDir(c, c.String("calib")), "gptq-"+p.Fingerprint[:12])
	if err := fsx.Or(disk).MkdirAll(filepath.Dir(scratch)); err != nil {
		return err
	}
	unlock, err := fsx.Lock(scratch + ".lock")
	if err != nil {
		return fmt.Errorf("%s: %w", scratch, err)
	}
	done, release := l.done, l.release
	l.release = func() { _ = unlock(); release() }
	sol, err := calib.Solve(c.Context, p, src, calib.SolveOptions{Sequences: l.st.Sequences, Scratch: scratch, Workers: c.Int("workers"),
		MaxMemory: mem, FS: disk, Progress: bar.Update})
	bar.Close()
	if err != nil {
		return err
	}
	p.Notes = append(p.Notes, learntNotes(sol.Layers)...)
	l.done = func() { _ = sol.Close(); _ = os.RemoveAll(scratch); done() }
	return p.Learn(sol.Codes())
}

// learntNotes say what learning gained, and for what it had too little.
func learntNotes(layers []calib.LayerReport) (notes []string) {
	var all learn.Loss
	rare, failed := 0, 0
	for _, l := range layers {
		all.Add(l.Loss)
		rare += l.Rare
		failed += len(l.Failed)
	}
	if all.Plain > 0 {
		notes = append(notes, fmt.Sprintf("learnt codes leave %.0f %% of the output error of plain rounding, each layer on its own inputs", 100*all.Found/all.Plain))
	}
	if rare > 0 {
		notes = append(notes, fmt.Sprintf("%d experts saw fewer than 64 tokens: their codes follow those of all tokens", rare))
	}
	if failed > 0 {
		notes = append(notes, fmt.Sprintf("the inputs of %d modules say too little: they are rounded to nearest", failed))
	}
	return notes
}

// learnable reports whether all weights of a plan are of a kind that codes can be
// learnt for.
func learnable(p *quant.Plan) bool {
	some := false
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == quant.Quantize {
			if some = true; !p.Learnable(it) {
				return false
			}
		}
	}
	return some
}
