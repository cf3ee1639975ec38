package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/mtp"
)

func cmdMTPRemap() *cli.Command {
	return &cli.Command{
		Name:      "mtp-remap",
		Usage:     "give the MTP layer its embed_tokens and shared_head.head (the adjust_weight step)",
		ArgsUsage: "DIR",
		Description: "Adds copies of model.embed_tokens and lm_head under the MTP layer's names, in place\n" +
			"(one new file and a new index, nothing else changes) or, with --out, in a new\n" +
			"directory of hard links. A second run does nothing. --undo takes it back.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "build this directory of hard links instead of changing DIR"},
			&cli.IntFlag{Name: "layer", Usage: "index of the MTP layer", DefaultText: "the one config.json implies"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done"},
			&cli.BoolFlag{Name: "undo", Usage: "take an earlier remapping back"},
			&cli.BoolFlag{Name: "json", Usage: "the result as JSON"},
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
		if err := mtp.Undo(args[0], disk); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.App.Writer, "undone: %s is as it was\n", args[0])
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
