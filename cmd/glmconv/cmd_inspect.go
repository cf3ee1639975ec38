package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/verify/check"
)

func cmdInspect() *cli.Command {
	return &cli.Command{
		Name:        "inspect",
		Usage:       "say what a checkpoint is",
		ArgsUsage:   "DIR",
		Description: "Family, layers, experts, MTP state, dtypes, quantisation, sizes, what is missing or\nunexpected. Reads config.json and headers only, with --weights every weight.",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "weights", Usage: "read every weight as well: NaN, infinities, zeros where weights should be"},
			&cli.BoolFlag{Name: "tensors", Usage: "one line a tensor"},
		},
		Action: func(c *cli.Context) error {
			args, err := paths(c, "DIR")
			if err != nil {
				return err
			}
			in, err := check.Inspect(args[0])
			if err == nil && c.Bool("weights") {
				err = in.ReadWeights(c.Context)
			}
			if err != nil {
				return err
			}
			switch {
			case c.Bool("json"):
				return writeJSON(c, in)
			case c.Bool("tensors"):
				for _, t := range in.List {
					fmt.Fprintf(c.App.Writer, "%s\t%s\t%v\t%d\t%s\t%s\n", safetext.Line(t.Name), t.DType, t.Shape, t.Bytes, safetext.Line(t.File), t.Role)
				}
			default:
				_, err = fmt.Fprint(c.App.Writer, in.Text())
			}
			return err
		},
	}
}
