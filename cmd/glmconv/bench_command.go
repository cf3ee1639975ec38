package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/safetext"
)

// benchCommands prints the commands of an engine's own client that send the load
// of each cell. What it has no flag for is said in a comment.
func benchCommands(c *cli.Context, kind string, l *bench.Load, cells []bench.Cell) error {
	if open := redacted(l.URL); open != l.URL {
		l.URL = open
		fmt.Fprintln(c.App.Writer, "# the user and password of the URL are left out")
	}
	notes := map[string]bool{}
	for i := range cells {
		o := bench.CommandOptions{Load: l, Cell: cells[i], Dataset: c.String("dataset"), Path: c.String("dataset-path"), Tokenizer: c.String("tokenizer"),
			Ratio: c.Float64("range-ratio"), SGLang: c.String("range-style") == "sglang", Prefix: c.Int("prefix-len"), Images: c.Int("image-count"), Goodput: c.String("goodput"), Save: c.String("save-json") != ""}
		if o.Dataset == "image" {
			w, h, err := bench.ParseImageSize(c.String("image-size"))
			if err != nil {
				return usagef("--image-size: %w", err)
			}
			o.Width, o.Height = w, h
		}
		args, missing, err := bench.Command(kind, o)
		if err != nil {
			return usagef("--print-command %s: %w", kind, err)
		}
		for _, m := range missing {
			if !notes[m] {
				notes[m] = true
				fmt.Fprintf(c.App.Writer, "# %s\n", safetext.Line(m))
			}
		}
		var b strings.Builder
		for j, a := range args {
			switch {
			case j == 0:
			case strings.HasPrefix(a, "--"):
				b.WriteString(" \\\n  ")
			default:
				b.WriteByte(' ')
			}
			b.WriteString(shellQuote(a))
		}
		fmt.Fprintln(c.App.Writer, safetext.Text(b.String()))
	}
	return nil
}
