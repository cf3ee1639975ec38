package main

import (
	"context"
	"time"

	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/runtime"
)

// The figure of many sequences: passes of a row of each beside passes of one row,
// as a server makes them, with weights that no cache holds.
const (
	manyName      = "decoding 16 sequences, int8, beside one"
	denseLayers   = 3
	manySequences = 16
	manyTokens    = 16 // that a sequence begins with
	manySteps     = 8  // of a measurement
)

// measureMany measures the tokens a second that many sequences decode together
// beside those of one alone, with the model in dir.
func measureMany(ctx context.Context, dir string, threads, runs int) (f figure, err error) {
	m, err := runtime.Load(dir, runtime.Options{Threads: threads})
	if err != nil {
		return f, err
	}
	defer func() {
		if e := m.Close(); err == nil {
			err = e
		}
	}()
	vocab := m.Config().VocabSize
	token := func(i, t int) int { return (i*131 + t*7919) % vocab }
	steps := make([]runtime.Step, manySequences)
	for i := range steps {
		steps[i].Session = m.NewSession()
		for t := range manyTokens {
			steps[i].IDs = append(steps[i].IDs, token(i, t))
		}
	}
	if _, err := m.Forward(ctx, steps, nil); err != nil { // reads the weights
		return f, err
	}
	decode := func(n int) func() (float64, error) {
		return func() (float64, error) {
			start := time.Now()
			for t := range manySteps {
				for i := range n {
					steps[i].IDs = []int{token(i, t)}
				}
				h, err := m.Forward(ctx, steps[:n], nil)
				if err == nil {
					_, err = m.Logits(ctx, h)
				}
				if err != nil {
					return 0, err
				}
			}
			for i := range n {
				steps[i].Session.Truncate(manyTokens)
			}
			return float64(n*manySteps) / time.Since(start).Seconds(), nil
		}
	}
	f = figure{Name: manyName, Path: cpu.Current().String(), Threads: threads, Unit: "tokens/s", Limit: "those of one sequence"}
	return f, f.pairs(runs, decode(manySequences), decode(1))
}
