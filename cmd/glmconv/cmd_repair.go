package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/repair"
	"github.com/glmconv/glmconv/verify/check"
)

func cmdRepair() *cli.Command {
	return &cli.Command{
		Name:      "repair",
		Usage:     "put right what can be put right without converting",
		ArgsUsage: "DIR",
		Description: "Rebuilds the index, keeps one of two equal names, takes a lost MTP layer, missing\n" +
			"tensors and router biases in F32 from the base model, renews copies of embedding and\n" +
			"head that differ from the model's own and puts back those that an Ascend folder needs,\n" +
			"removes a stale quantization_config, completes an ignore list or an Ascend description,\n" +
			"drops adapters and what downloads left. The former files are kept in\n" +
			"DIR/.glmconv-repair until --undo puts them back or you delete it. What stays broken is said with the reason.\n\n" +
			"Exit codes: 0 done or nothing to do, 1 something stays broken, 2 usage or DIR2 is not\n" +
			"empty, 65 bad input or a base model of another family, shape or quantisation.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "folder of the base model to take tensors from: in full precision, or quantised as DIR is"},
			&cli.StringFlag{Name: "out", Usage: "make a repaired folder of hard links, or copies, and leave DIR as it is"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done"},
			&cli.BoolFlag{Name: "undo", Usage: "take the last repair back"},
			jsonFlag(),
		},
		Action: runRepair,
	}
}

// repairResult is the result of repair --json.
type repairResult struct {
	Schema string `json:"schema"`
	*repair.Plan
	Applied bool `json:"applied"`
	Errors  int  `json:"errors"` // of check, afterwards
}

func runRepair(c *cli.Context) error {
	args, err := paths(c, "DIR")
	if err != nil {
		return err
	}
	dir := args[0]
	if c.Bool("undo") {
		if err := repair.Undo(dir, disk); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.App.Writer, "undone: %s is as it was\n", dir)
		return err
	}
	p, err := repair.NewPlan(c.Context, dir, repair.Options{Base: c.String("from"), FS: disk})
	if err != nil {
		return err
	}
	if out := c.String("out"); out != "" && !c.Bool("dry-run") {
		if err := p.Into(c.Context, out); errors.Is(err, repair.ErrNotEmpty) {
			return usagef("--out %w", err)
		} else if err != nil {
			return err
		}
		dir = out
	}
	if !c.Bool("json") {
		if _, err := fmt.Fprint(c.App.Writer, p.Text()); err != nil {
			return err
		}
	}
	applied := !c.Bool("dry-run") && (len(p.Steps) > 0 || c.String("out") != "")
	if applied {
		if err := p.Apply(c.Context); err != nil {
			return err
		}
	}
	left, err := faults(c.Context, dir)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if err := writeJSON(c, repairResult{"glmconv.repair/1", p, applied, len(left)}); err != nil {
			return err
		}
	}
	if c.Bool("dry-run") || len(left) == 0 && len(p.Broken) == 0 {
		return nil
	}
	if !c.Bool("json") {
		for _, f := range left {
			fmt.Fprintf(c.App.Writer, "  stays     %s  %s: %s\n", f.Code, safetext.Line(f.Where), safetext.Line(f.Detail))
		}
	}
	return &exitError{code: exitNegative, silent: true}
}

// faults are the errors that check finds.
func faults(ctx context.Context, dir string) ([]check.Finding, error) {
	r, err := check.Run(ctx, dir, check.Options{})
	if err != nil {
		return nil, err
	}
	var out []check.Finding
	for _, f := range r.Findings {
		if f.Severity == check.Error {
			out = append(out, f)
		}
	}
	return out, nil
}
