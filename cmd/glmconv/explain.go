package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/repair"
	"github.com/glmconv/glmconv/source"
)

// explained wraps a command that reads checkpoints: where it ends with bad
// input, the reason that the folder itself gives takes the place of what
// followed from it, so that every command names one cause and one way out.
func explained(action cli.ActionFunc, sources int) cli.ActionFunc {
	return func(c *cli.Context) error {
		err := action(c)
		if err == nil || codeOf(err) != exitBadInput {
			return err
		}
		var said *origin.Finding
		var own *quant.NonFiniteError
		var ee *exitError
		if errors.As(err, &said) || errors.As(err, &own) || errors.As(err, &ee) && ee.silent || errors.Is(err, repair.ErrNoUndo) || errors.Is(err, repair.ErrBase) {
			return err
		}
		var remote *source.Error
		if errors.As(err, &remote) {
			return err
		}
		if c.Command.Name == "verify" && c.Bool("merge") { // its arguments are files of parts
			return err
		}
		dirs := c.Args().Slice()
		dirs = dirs[:min(sources, len(dirs))]
		if c.Command.Name == "repair" && c.String("from") != "" {
			dirs = append(dirs, c.String("from"))
		}
		for _, dir := range dirs {
			if s := remotesOf(c).open[dir]; s != nil {
				dir = s.Name()
			}
			if why := origin.Explain(dir, nil); why != nil {
				return fmt.Errorf("%s: %w", dir, why)
			}
			if why := noCheckpoint(dir); why != nil {
				return why
			}
		}
		return err
	}
}

// guarded wraps a command that runs a checkpoint: what the runtime would not
// notice by itself is refused first.
func guarded(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		dir, err := readable(c, 0, c.Args().First())
		if err != nil {
			return err
		}
		if found, err := origin.Look(dir); err == nil {
			if why := origin.Refuse(found); why != nil {
				return fmt.Errorf("%s: %w", dir, why)
			}
		}
		return action(c)
	}
}
