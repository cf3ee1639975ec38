package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/verify"
)

// partFlags divide a verification between machines.
func partFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "index", Usage: "do only part `I`, counted from 1: its sequences, weights and hashes; auto: the task of a Slurm array or of an indexed Kubernetes job"},
		countFlag(),
		&cli.StringFlag{Name: "partial", Usage: "`FILE` for what that part has seen"},
		&cli.BoolFlag{Name: "merge", Usage: "make the verdict of the files of all parts, which are the arguments"},
	}
}

// ownToParts are the flags that say what is compared and how: a merge takes them
// from its parts.
var ownToParts = []string{"index", "count", "partial", "tol", "reference", "all-tokens", "tokens", "seq-len", "text", "token-ids", "max-memory", "state", "workers", "skip-forward"}

// partialVersion is what parts of one verification have in common.
func partialVersion() string {
	b := currentBuild()
	return b.Version + " (" + b.Commit + ")"
}

// verifyPart reads the flags of a part: 0 and 0 for the whole.
func verifyPart(c *cli.Context) (index, count int, err error) {
	index, count, err = partOf(c)
	switch {
	case err != nil:
	case count == 0 && c.IsSet("index"), count < 0, count > 0 && (index < 1 || index > count):
		err = usagef("part %d of %d does not exist: --index 1 --count 4 is the first of four parts", index, count)
	case count > 0 && c.String("partial") == "":
		err = usagef("a part needs --partial FILE for what it has seen; --merge makes a verdict of the files of all parts")
	case count == 0 && c.IsSet("partial"):
		err = usagef("--partial needs --index and --count: --index 1 --count 4 is the first of four parts")
	case count > 0:
		for _, f := range reportFlags {
			if c.IsSet(f.name) {
				err = usagef("a part has no verdict: --%s belongs to verify --merge", f.name)
			}
		}
	}
	return index, count, err
}

// runPart does one part of a verification.
func runPart(c *cli.Context, src, dst string, o verify.Options, index, count int) error {
	name := c.String("partial")
	out, err := openOutput("partial", name)
	if err != nil {
		return err
	}
	bar, err := newProgress(c, "verify")
	if err != nil {
		return err
	}
	o.Progress = verifyProgress(bar)
	p, err := verify.ComparePart(c.Context, src, dst, o, index, count, partialVersion())
	bar.Close()
	if err != nil {
		return stopped(err, &o)
	}
	if err := settleRemotes(c); err != nil {
		return err
	}
	err = out.put(func(w io.Writer) error {
		_, err := p.WriteTo(w)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "part %d of %d is in %s; glmconv verify --merge with the files of all parts makes the verdict\n", index, count, name)
	return err
}

// runMerge makes the verdict of parts.
func runMerge(c *cli.Context) error {
	names := c.Args().Slice()
	if len(names) == 0 {
		return usagef("verify --merge needs the files of all parts")
	}
	for _, f := range ownToParts {
		if c.IsSet(f) {
			return usagef("--%s was said to the parts; --merge takes reports only", f)
		}
	}
	files, err := reportFiles(c)
	if err != nil {
		return err
	}
	var list []*verify.Partial
	for _, name := range names {
		p, err := verify.ReadPartial(name, partialVersion())
		if err != nil {
			return refused(err, "", "", files)
		}
		list = append(list, p)
	}
	r, err := verify.Merge(list)
	if err != nil {
		src, dst := list[0].Folders()
		return refused(err, src, dst, files)
	}
	return sayVerdict(c, r, files)
}

// stopped says how a verification that was interrupted goes on.
func stopped(err error, o *verify.Options) error {
	if errors.Is(err, context.Canceled) && o.State != "" && !o.SkipForward {
		return &exitError{code: exitInterrupted, err: errors.New("verify was stopped; the same command goes on from the last layer that it noted")}
	}
	return err
}
