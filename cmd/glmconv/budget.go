package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/verify/corpus"
)

// budgetFlags let formats differ between layers.
func budgetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "budget", Usage: "with --calib: the most accurate result of at most this `SIZE` (60GB): --scheme, and richer formats" +
			" that engines load beside it where they gain most"},
		&cli.Float64Flag{Name: "target-kl", Usage: "with --calib: the smallest such result whose mean KL from SRC is at most `T` nats per token" +
			" on verify's own text"},
	}
}

// goal is what --budget or --target-kl asks for; nil without.
type goal struct {
	bytes int64
	kl    float64
}

// goalOf reads them.
func goalOf(c *cli.Context) (*goal, error) {
	bytes, kl := c.IsSet("budget"), c.IsSet("target-kl")
	switch {
	case !bytes && !kl:
		return nil, nil
	case bytes && kl:
		return nil, usagef("--budget and --target-kl exclude each other: one asks for a size, the other for an accuracy")
	case c.String("calib") == "":
		return nil, usagef("--budget and --target-kl need --calib: statistics of activations")
	case c.Bool("rotate") || c.String("recipe") != "":
		return nil, usagef("--budget and --target-kl cannot be had with --rotate or --recipe")
	case c.Bool("no-forward"):
		return nil, usagef("--budget and --target-kl measure with forward passes: leave --no-forward out")
	}
	g := &goal{kl: c.Float64("target-kl")}
	if kl {
		if !(g.kl > 0) {
			return nil, usagef("--target-kl must be more than 0: nothing that is quantized has the source's logits")
		}
		return g, nil
	}
	var err error
	if g.bytes, err = size(c, "budget"); err == nil && g.bytes <= 0 {
		err = usagef("--budget must be more than 0")
	}
	return g, err
}

// measured are sequences that sensitivities are measured on, and their name.
func (l *learner) measured() ([][]int, string, error) {
	tok, err := tokenizer.Load(l.src.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		var seqs [][]int
		for left, i := inputTokens, 0; i < len(l.st.Sequences) && left > 1; i++ {
			s := l.st.Sequences[i]
			seqs = append(seqs, s[:min(len(s), left)])
			left -= len(s)
		}
		return seqs, "the text that codes are learnt from: SRC has no tokenizer for another", nil
	}
	if err != nil {
		return nil, "", tokenizerError(l.src.Dir(), err)
	}
	seqs, err := corpusIDs(l.c.Context, tok, l.src.Dir(), l.plan.Config.VocabSize)
	return seqs, corpus.Name, err
}

// budget gives units of weights richer formats, as --budget or --target-kl asks.
func (l *learner) budget() error {
	g := l.goal
	if g == nil {
		return nil
	}
	q, err := engineQuery(l.c)
	if err != nil {
		return err
	}
	mix, err := calib.NewMix(l.plan, l.src, q)
	if err != nil {
		return err
	}
	o, text, err := l.measureOptions()
	if err != nil {
		return err
	}
	bar, err := newProgress(l.c, "measure")
	if err != nil {
		return err
	}
	defer bar.Close()
	o.Progress = bar.Update
	whole, err := mix.Whole(l.c.Context, l.plan, l.st, o)
	if err != nil {
		return err
	}
	if g.bytes == 0 || mix.Fits(g.bytes) { // else no measurement helps
		if err := mix.Measure(l.c.Context, l.st, o); err != nil {
			return err
		}
	}
	path := mix.Walk(whole)
	measure := func(p *quant.Plan) (float64, error) { return mix.Whole(l.c.Context, p, l.st, o) }
	var chosen *quant.Mixed
	if g.bytes > 0 {
		if l.plan, chosen, err = path.Within(g.bytes); err == nil {
			chosen.Measured, err = measure(l.plan)
		}
	} else {
		l.plan, chosen, err = path.Nearest(l.c.Context, g.kl, measure)
	}
	if err != nil {
		return err
	}
	chosen.Text, l.mix, l.measure = text, mix, o
	if l.o = l.plan.Options; l.static || l.o.KV != "" { // scales of inputs, of the plan that was chosen
		if err := l.ranges(); err != nil {
			return err
		}
	}
	l.plan.Mixed = chosen
	l.plan.Notes = append(l.plan.Notes, fmt.Sprintf("%d fused groups have something richer than %s; KL of all weights together %.3g on %s, scales searched",
		len(l.plan.Options.Lifted), l.plan.Scheme, chosen.Measured, text))
	return nil
}

// confirm measures the model of the chosen plan once more, with the codes that were
// learnt for it.
func (l *learner) confirm() error {
	if c := l.plan.Codes(); c == nil || c.Method() != "gptq" {
		return nil // what was measured is what is written
	}
	kl, err := l.mix.Whole(l.c.Context, l.plan, l.st, l.measure)
	if err != nil {
		return err
	}
	l.plan.Mixed.Measured = kl
	l.plan.Notes = append(l.plan.Notes, fmt.Sprintf("KL with the codes that were learnt: %.3g on %s", kl, l.plan.Mixed.Text))
	if l.goal.kl > 0 && kl > l.goal.kl {
		return &calib.UnreachableError{Asked: fmt.Sprintf("a KL of %.3g with learnt codes", l.goal.kl), Nearest: quant.MixPoint{Bytes: l.plan.ResultBytes, KL: kl}}
	}
	return nil
}

// measureOptions says what is measured on, and keeps what was measured beside the
// statistics: quantize after plan, and its parts, need not measure again.
func (l *learner) measureOptions() (calib.MeasureOptions, string, error) {
	seqs, text, err := l.measured()
	if err != nil {
		return calib.MeasureOptions{}, "", err
	}
	mem, err := size(l.c, "max-memory")
	if err != nil {
		return calib.MeasureOptions{}, "", err
	}
	known := map[string]float64{}
	scratch := scratchDir(l.c, l.c.String("calib"))
	name := filepath.Join(scratch, "sensitivity.json")
	if raw, err := fsx.ReadRegular(name, fsx.MaxText); err == nil {
		_ = json.Unmarshal(raw, &known) // what is damaged is measured again
	}
	return calib.MeasureOptions{Sequences: seqs, Workers: l.c.Int("workers"), MaxMemory: mem, Scratch: scratch, FS: disk,
		Known: func(id string) (float64, bool) { kl, ok := known[id]; return kl, ok && kl >= 0 },
		Keep: func(found map[string]float64) error {
			maps.Copy(known, found)
			raw, err := json.Marshal(known)
			if err != nil {
				return err
			}
			if err := fsx.Or(disk).MkdirAll(filepath.Dir(name)); err != nil {
				return err
			}
			return fsx.WriteFile(fsx.Or(disk), name, raw)
		}}, text, nil
}
