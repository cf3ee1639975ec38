package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/glm"
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
			&cli.BoolFlag{Name: "tensors", Usage: "one line per tensor"},
		},
		Action: func(c *cli.Context) error {
			asked := c.Args().First()
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
				_, err = fmt.Fprintf(c.App.Writer, "%s  %-9s %s\n", in.Text(), "next", next(in, shellWord(asked)))
			}
			return err
		},
	}
}

// next is the one command that most people want after inspect.
func next(in *check.Inspection, dir string) string {
	switch {
	case len(in.Missing)+len(in.Problems) > 0:
		return "glmconv check " + dir + " says what is wrong, and what to do"
	case in.Quantization != "":
		return "glmconv check " + dir + " says what each engine makes of it"
	case in.Family == string(glm.GlmMoeDsa):
		return "glmconv plan --scheme w4a8 " + dir + " (Ascend NPUs), or --scheme fp8-block (H100 and newer)"
	default:
		return "glmconv plan --scheme w8a8 " + dir + " (A100), or --scheme fp8 (H100 and newer)"
	}
}

// shellWord writes a path as a shell takes it.
func shellWord(s string) string {
	s = safetext.Line(s)
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:@+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
