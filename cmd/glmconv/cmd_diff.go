package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/verify/diff"
)

func cmdDiff() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "say what changed between two checkpoints",
		ArgsUsage: "A B",
		Description: "Tensors added, removed, reshaped, retyped or changed, with error figures where both\n" +
			"can be dequantised, also across layouts.\n\nExit codes: 0 the same, 1 different.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "no-values", Usage: "names, types, shapes and bytes only, no error figures"},
			workersFlag("reading"),
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			args, err := paths(c, "A", "B")
			if err != nil {
				return err
			}
			bar, err := newProgress(c, "diff")
			if err != nil {
				return err
			}
			rep, err := diff.Run(c.Context, args[0], args[1], diff.Options{Workers: c.Int("workers"), NoValues: c.Bool("no-values"),
				Progress: bar.Update})
			bar.Close()
			if err == nil {
				err = settleRemotes(c)
			}
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = writeJSON(c, rep)
			} else {
				_, err = fmt.Fprint(c.App.Writer, rep.Text())
			}
			if err != nil {
				return err
			}
			return verdict(!rep.Different)
		},
	}
}
