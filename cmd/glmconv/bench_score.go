package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/urfave/cli/v2"
)

// benchScores reads what --against names.
func benchScores(c *cli.Context) ([]bench.Score, error) {
	how := c.String("score")
	switch {
	case how != "" && !slices.Contains(bench.Scorings, bench.Scoring(how)):
		return nil, usagef("--score must be exact, number or choice, not %q", how)
	case how != "" && c.String("dataset") != "jsonl":
		return nil, usagef("--score needs --dataset jsonl, whose lines have answers")
	case c.String("against") == "":
		return nil, nil
	case how == "":
		return nil, usagef("--against compares scores: --score says how answers are judged")
	}
	data, err := fsx.ReadRegular(c.String("against"), fsx.MaxInput)
	if err != nil {
		return nil, err
	}
	list, err := bench.ReadScores(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.String("against"), err)
	}
	return list, nil
}

// benchAccuracy scores a run, where that is asked for; NaN: it is not.
func benchAccuracy(c *cli.Context, r *bench.Result, other []bench.Score) (percent float64, err error) {
	how := bench.Scoring(c.String("score"))
	if how == "" {
		return math.NaN(), nil
	}
	for i := range r.Load.Prompts {
		if r.Load.Prompts[i].Answer == "" {
			return 0, fmt.Errorf("%s: question %s has no answer", c.String("dataset-path"), r.Load.Prompts[i].ID)
		}
	}
	a := r.Accuracy(how)
	r.Scores = a.Scores
	return showAccuracy(c, a, other)
}

// showAccuracy prints how many answers are right, in percent, and the comparison
// with another run.
func showAccuracy(c *cli.Context, a bench.Accuracy, other []bench.Score) (percent float64, err error) {
	var with *bench.Paired
	if other != nil {
		p := a.Against(other)
		with = &p
	}
	return 100 * float64(a.Right) / float64(max(len(a.Scores), 1)), bench.WriteAccuracy(c.App.Writer, a, with)
}
