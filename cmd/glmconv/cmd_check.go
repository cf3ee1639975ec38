package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/verify/check"
)

func cmdCheck() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "judge a checkpoint by itself: is it intact, and what would each engine make of it",
		ArgsUsage: "DIR",
		Description: "Manifest, hashes, header rules, configuration against tensors, scales, stale files.\n" +
			"Works on the files of other tools too. For each engine it says what would be\n" +
			"loaded, refused, or swallowed in silence.\n\nExit codes: 0 good, 1 not good, 3 not judged, 65 not a checkpoint.",
		Flags: append(engineFlags(),
			&cli.BoolFlag{Name: "no-hashes", Usage: "do not compare SHA-256 sums with the manifest"},
			&cli.BoolFlag{Name: "weights", Usage: "read every weight as well: NaN, infinities, codes out of range, holes, sizes that no weight has"},
			workersFlag("reading"),
			jsonFlag(),
		),
		Action: func(c *cli.Context) error {
			args, err := paths(c, "DIR")
			if err != nil {
				return err
			}
			bar, err := newProgress(c, "check")
			if err != nil {
				return err
			}
			rep, err := check.Run(c.Context, args[0], check.Options{Engines: c.StringSlice("engine"), Hardware: c.String("hardware"), NoHashes: c.Bool("no-hashes"),
				Weights: c.Bool("weights"), Workers: c.Int("workers"), Progress: bar.Update})
			bar.Close()
			if err == nil && c.Bool("weights") {
				err = settleRemotes(c)
			}
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = writeJSON(c, rep)
			} else {
				_, err = fmt.Fprint(c.App.Writer, rep.Text(), moreOn(rep))
			}
			if err != nil {
				return err
			}
			if rep.Verdict == nil {
				return &exitError{code: exitUndecided, silent: true}
			}
			return verdict(rep.OK)
		},
	}
}

// moreOn says where a newcomer finds what the first error means.
func moreOn(rep *check.Report) string {
	for _, f := range rep.Findings {
		if f.Severity == check.Error {
			return fmt.Sprintf("\nglmconv explain %s says what leads to this and what to do\n", f.Code)
		}
	}
	return ""
}

// verdict is the exit code of a judgement that has been printed.
func verdict(good bool) error {
	if good {
		return nil
	}
	return &exitError{code: exitNegative, silent: true}
}
