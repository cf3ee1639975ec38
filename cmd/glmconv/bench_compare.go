package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/safetext"
)

// benchCompare sets the runs of files beside those of a base.
func benchCompare(c *cli.Context, base string, files []string) error {
	cmp, err := benchComparison(c)
	if err != nil {
		return err
	}
	page, err := openOutput("html", c.String("html"))
	if err != nil {
		return err
	}
	old, err := benchFile(base, bench.ReadRuns)
	if err != nil {
		return err
	}
	if c.Bool("steps") {
		err = benchSteps(cmp, base, old, files)
	} else {
		err = benchCases(c, cmp, old, files)
	}
	if err != nil {
		return err
	}
	write := cmp.WriteMarkdown
	switch {
	case c.Bool("csv"):
		write = cmp.WriteCSV
	case c.Bool("json"):
		write = cmp.WriteJSON
	}
	if err := write(c.App.Writer); err != nil {
		return err
	}
	return page.put(func(w io.Writer) error { return cmp.WriteHTML(w, "Comparison with "+filepath.Base(base)) })
}

// benchComparison is a comparison without cases, as the flags have it.
func benchComparison(c *cli.Context) (*bench.Comparison, error) {
	a, b, ok := strings.Cut(c.String("gpus"), ",")
	n, err := strconv.Atoi(a)
	m, err2 := strconv.Atoi(b)
	switch {
	case !ok || err != nil || err2 != nil || n < 1 || m < 1:
		return nil, usagef("--gpus %q: write the devices of base and new, such as 4,8", c.String("gpus"))
	case c.Bool("csv") && c.Bool("json"):
		return nil, usagef("--csv and --json exclude each other")
	}
	cmp := &bench.Comparison{BaseGPUs: n, NewGPUs: m}
	if s := c.String("metric"); s != "" {
		if cmp.Metrics, err = bench.ParseMetrics(s); err != nil {
			return nil, usagef("--metric: %w", err)
		}
	}
	return cmp, nil
}

// benchCases pairs the runs of each file with those of the base, in their order.
func benchCases(c *cli.Context, cmp *bench.Comparison, old []bench.Figures, files []string) error {
	for _, path := range files {
		list, err := benchFile(path, bench.ReadRuns)
		if err != nil {
			return err
		}
		if len(list) != len(old) {
			fmt.Fprintf(c.App.ErrWriter, "note: %s has %d runs and the base %d: the first %d are compared\n", safetext.Line(path), len(list), len(old), min(len(list), len(old)))
		}
		for i := range min(len(old), len(list)) {
			name := fmt.Sprintf("%s %d", filepath.Base(path), i+1)
			cmp.Cases = append(cmp.Cases, bench.Case{Name: name, Base: old[i], New: list[i]})
			for _, d := range bench.Differences(&old[i], &list[i]) {
				fmt.Fprintf(c.App.ErrWriter, "note: %s: %s\n", safetext.Line(name), safetext.Line(d))
			}
		}
	}
	return nil
}

// benchSteps reads the runs of a search, STEP=FILE each: a step's runs follow
// each other, and the base belongs to the first.
func benchSteps(cmp *bench.Comparison, base string, old []bench.Figures, files []string) error {
	one := func(path string, list []bench.Figures) (bench.Figures, error) {
		if len(list) != 1 {
			return bench.Figures{}, usagef("%s has %d runs: with --steps a file has one", path, len(list))
		}
		return list[0], nil
	}
	first, err := one(base, old)
	if err != nil {
		return err
	}
	var steps []bench.Step
	for _, word := range files {
		name, path, ok := strings.Cut(word, "=")
		if !ok || name == "" || path == "" {
			return usagef("--steps takes STEP=FILE, such as engine=sglang.txt, not %q", word)
		}
		list, err := benchFile(path, bench.ReadRuns)
		if err != nil {
			return err
		}
		f, err := one(path, list)
		if err != nil {
			return err
		}
		if len(steps) == 0 {
			steps = append(steps, bench.Step{Name: name, Total: first.Throughput()})
		}
		steps = append(steps, bench.Step{Name: name, Total: f.Throughput()})
		cmp.Cases = append(cmp.Cases, bench.Case{Name: name + ": " + filepath.Base(path), Base: first, New: f})
	}
	cmp.Steps = bench.Steps(steps)
	return nil
}
