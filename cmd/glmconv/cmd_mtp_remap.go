package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/repair"
)

func cmdMTPRemap() *cli.Command {
	return &cli.Command{
		Name:      "mtp-remap",
		Usage:     "give the MTP layer its embed_tokens and shared_head.head (the adjust_weight step)",
		ArgsUsage: "DIR",
		Description: "Adds copies of model.embed_tokens and lm_head under the MTP layer's names, in place\n" +
			"(one new file and a new index, nothing else changes) or, with --out, in a new\n" +
			"directory of hard links. Copies that are there and differ from the model's own are\n" +
			"renewed; their former file is kept in DIR/.glmconv-repair. A second run does nothing.\n" +
			"--undo takes it back.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "build this directory of hard links instead of changing DIR"},
			&cli.IntFlag{Name: "layer", Usage: "index of the MTP layer", DefaultText: "the one config.json implies"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done"},
			&cli.BoolFlag{Name: "undo", Usage: "take an earlier remapping back"},
			jsonFlag(),
		},
		Action: remap,
	}
}

func remap(c *cli.Context) error {
	args, err := paths(c, "DIR")
	if err != nil {
		return err
	}
	if c.Bool("undo") {
		err := mtp.Undo(args[0], disk)
		if errors.Is(err, mtp.ErrNoUndo) { // copies that were renewed
			if rerr := repair.Undo(args[0], disk); !errors.Is(rerr, repair.ErrNoUndo) {
				err = rerr
			}
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.App.Writer, "undone: %s is as it was\n", args[0])
		return err
	}
	if c.IsSet("layer") && c.Int("layer") <= 0 {
		return usagef("--layer %d: the MTP layer comes after the decoder layers; leave the flag out for the one that config.json implies", c.Int("layer"))
	}
	bar, err := newProgress(c, "mtp-remap")
	if err != nil {
		return err
	}
	defer bar.Close()
	r, err := mtp.NewRemap(args[0], mtp.Options{Layer: c.Int("layer"), Out: c.String("out"), Progress: bar.Update, FS: disk})
	if errors.Is(err, mtp.ErrStale) || err == nil && r.Done {
		if renewed, rerr := renewCopies(c, args[0]); renewed || rerr != nil {
			return rerr
		}
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = writeJSON(c, r)
	} else {
		_, err = fmt.Fprint(c.App.Writer, r.Text())
	}
	if err != nil || c.Bool("dry-run") {
		return err
	}
	return r.Apply(c.Context)
}

// renewCopies takes the model's own embedding and head where the MTP layer's
// copies differ from them; false if none does.
func renewCopies(c *cli.Context, dir string) (bool, error) {
	p, err := repair.NewPlan(c.Context, dir, repair.Options{Copies: true, FS: disk})
	if err != nil || len(p.Steps)+len(p.Broken) == 0 {
		return false, err
	}
	if !c.Bool("dry-run") && len(p.Steps) > 0 {
		if out := c.String("out"); out != "" {
			err = p.Into(c.Context, out)
		}
		if err == nil {
			err = p.Apply(c.Context)
		}
		if err != nil {
			return true, err
		}
	}
	if c.Bool("json") {
		err = writeJSON(c, repairResult{"glmconv.repair/1", p, !c.Bool("dry-run") && len(p.Steps) > 0, len(p.Broken)})
	} else {
		_, err = fmt.Fprint(c.App.Writer, p.Text())
	}
	if err == nil && len(p.Broken) > 0 && !c.Bool("dry-run") {
		err = &exitError{code: exitNegative, silent: true}
	}
	return true, err
}
