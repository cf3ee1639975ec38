package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// learnFlags choose what quantize learns from text.
func learnFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "calib", Usage: "`DIR` of calibrate: learn codes from its statistics"},
		&cli.StringFlag{Name: "method", Usage: "with --calib: auto, search (scales weighted by activations) or gptq (default: auto)"},
		&cli.StringFlag{Name: "scratch", Usage: "`DIR` for states and codes while they are learnt (default: in the folder of --calib)"},
	}
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
	st, err := calib.Read(dir)
	if err != nil {
		return nil, err
	}
	id, err := calib.SourceID(src)
	if err == nil && id != st.Source {
		err = fmt.Errorf("%w: %s was gathered from another checkpoint or tokenizer than %s", calib.ErrStatistics, dir, src.Dir())
	}
	return st, err
}

// fewTokens is how many tokens for a column of the hidden state gptq wants: with
// fewer, codes follow the sample (docs/facts/accuracy.md).
const fewTokens = 2

// learned makes the plan that learns: folds first, then codes. done removes what
// lies on disk of them.
func learned(c *cli.Context, p *quant.Plan, src *safetensors.Checkpoint, st *calib.Statistics, scheme layout.Scheme, format layout.Format, o quant.Options) (*quant.Plan, func(), error) {
	done := func() {}
	if c.String("fold") == "" || c.String("fold") == "search" {
		set, err := calib.SearchFolds(c.Context, p, src, st, c.Int("workers"))
		if err != nil {
			return nil, nil, err
		}
		o.Fold, o.Folds = quant.FoldSearch, set
		if p, err = quant.NewPlan(src, scheme, format, o); err != nil {
			return nil, nil, err
		}
	}
	method := c.String("method")
	if method == "" || method == "auto" {
		if method = "gptq"; st.Tokens() < fewTokens*p.Config.HiddenSize {
			method = "search"
			p.Notes = append(p.Notes, fmt.Sprintf("%d tokens are too few to learn codes from: scales are searched, weighted by activations", st.Tokens()))
		}
		if !learnable(p) {
			return p, done, nil
		}
	}
	p.Notes = append(p.Notes, fmt.Sprintf("codes are learnt from %d tokens (%s)", st.Tokens(), method))
	if method == "search" {
		codes, err := calib.Weighted(p, st)
		if err != nil {
			return nil, nil, err
		}
		return p, done, p.Learn(codes)
	}
	if c.Bool("dry-run") || c.Command.Name == "plan" {
		p.Notes = append(p.Notes, fmt.Sprintf("learning takes %d MiB of memory", calib.Need(p, st.Tokens())>>20))
		return p, done, nil
	}
	mem, err := size(c, "max-memory")
	if err != nil {
		return nil, nil, err
	}
	bar, err := newProgress(c, "learn")
	if err != nil {
		return nil, nil, err
	}
	scratch := filepath.Join(scratchDir(c, c.String("calib")), "gptq-"+p.Fingerprint[:12])
	sol, err := calib.Solve(c.Context, p, src, calib.SolveOptions{Sequences: st.Sequences, Scratch: scratch, Workers: c.Int("workers"),
		MaxMemory: mem, FS: disk, Progress: bar.Update})
	bar.Close()
	if err != nil {
		return nil, nil, err
	}
	p.Notes = append(p.Notes, learntNotes(sol.Layers)...)
	done = func() { _ = sol.Close(); _ = os.RemoveAll(scratch) }
	return p, done, p.Learn(sol.Codes())
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
			if some = true; !p.Learnable(it) || it.Stored != nil {
				return false
			}
		}
	}
	return some
}
