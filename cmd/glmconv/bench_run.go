package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/safetext"
)

// sweep are the runs of one command: a cell each.
type sweep struct {
	c      *cli.Context
	load   bench.Load
	cells  []bench.Cell
	floors []bench.Floor
	other  []bench.Score
	made   *promptMaker
	file   *output
	page   *output
	saved  []bench.Saved // lines of file
	groups []bench.Group
	runs   []bench.Named
	failed bool
	half   bool // the last of runs broke off within
}

func benchRun(c *cli.Context, address string) error {
	other, err := benchScores(c)
	if err != nil {
		return err
	}
	load, cells, err := benchLoad(c, address)
	if err != nil {
		return err
	}
	s := &sweep{c: c, load: load, cells: cells, other: other}
	if s.floors, err = bench.ParseFloors(c.String("fail-under")); err != nil {
		return usagef("--fail-under: %w", err)
	}
	if err := floorsNeed(c, s.floors); err != nil {
		return err
	}
	if kind := c.String("print-command"); kind != "" {
		return benchCommands(c, kind, &s.load, cells)
	}
	if s.file, err = openOutput("save-json", c.String("save-json")); err != nil {
		return err
	}
	if s.page, err = openOutput("html", c.String("html")); err != nil {
		return err
	}
	if err := s.resume(); err != nil {
		return err
	}
	server, err := waitReady(c.Context, &s.load, c.Duration("ready-timeout"))
	if err != nil {
		return err
	}
	server.Model = s.load.Model
	fmt.Fprintf(c.App.ErrWriter, "%s: %s\n", safetext.Line(redacted(address)), safetext.Line(server.String()))
	if s.made, err = newPromptMaker(c, s.load.Backend, server.Root); err != nil {
		return err
	}
	if tok := s.made.tok; tok != nil {
		s.load.Count = func(text string) int { return len(tok.EncodeOrdinary(text)) }
	}
	if n := len(s.made.list); n > 0 {
		for i := range s.cells {
			s.cells[i].Prompts = n
		}
	}
	for i := range s.cells {
		if err := s.measure(i); err != nil {
			return s.finish(err)
		}
	}
	return s.finish(nil)
}

// floorsNeed refuses floors of figures that the run will not have.
func floorsNeed(c *cli.Context, floors []bench.Floor) error {
	for _, f := range floors {
		switch {
		case (f.Name == "goodput" || f.Name == "attainment") && c.String("goodput") == "":
			return usagef("--fail-under %s needs the limits of --goodput", f.Name)
		case f.Name == "accuracy" && c.String("score") == "":
			return usagef("--fail-under accuracy needs --score")
		}
	}
	return nil
}

// resume takes over the finished runs of a file.
func (s *sweep) resume() error {
	path := s.c.String("save-json")
	switch {
	case !s.c.Bool("resume"):
		return nil
	case path == "":
		return usagef("--resume goes on with the file of --save-json")
	}
	data, err := fsx.ReadRegular(path, fsx.MaxInput)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if s.saved, err = bench.ReadSaved(data); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// finished is the run of a cell that a file had; nil: it is to be measured, also
// where the file lacks figures that this command judges.
func (s *sweep) finished(cell *bench.Cell) *bench.Saved {
	for i := range s.saved {
		f := &s.saved[i]
		judged := (s.c.String("score") == "" || len(f.Scores) == cell.Prompts) && (s.load.Limits == bench.Limits{} || !math.IsNaN(f.Goodput))
		if f.Cell == cell.String() && f.Completed == cell.Prompts && judged {
			return f
		}
	}
	return nil
}

// take judges a run of the file as it was judged when it was measured.
func (s *sweep) take(cell *bench.Cell, f *bench.Saved) error {
	fmt.Fprintf(s.c.App.ErrWriter, "%s, run %d: in the file already\n", cell.Title(), cell.Run)
	accuracy := math.NaN()
	if s.c.String("score") != "" {
		var err error
		if accuracy, err = showAccuracy(s.c, bench.Sum(f.Scores), s.other); err != nil {
			return err
		}
	}
	s.keep(cell, &f.Figures)
	s.judge(&f.Figures, accuracy)
	return nil
}

// judge holds a run against the floors and limits.
func (s *sweep) judge(f *bench.Figures, accuracy float64) {
	s.failed = s.missed(f, accuracy) || f.Failed > 0 && !s.c.Bool("allow-failures") || s.load.Limits != bench.Limits{} && f.Goodput < f.Requests || s.failed
}

// measure runs a cell, or takes it from the file.
func (s *sweep) measure(i int) error {
	c, cell := s.c, &s.cells[i]
	if f := s.finished(cell); f != nil {
		return s.take(cell, f)
	}
	load := s.load
	load.Concurrency = cell.Concurrency
	var err error
	if load.Prompts, err = s.made.prompts(cell, i); err != nil {
		return err
	}
	load.Shape = s.made.shape(cell)
	fmt.Fprintf(c.App.ErrWriter, "%s, run %d: %d requests\n", cell.Title(), cell.Run, len(load.Prompts))
	r, stopped := bench.Run(c.Context, load)
	r.Cell = cell
	f := r.Figures()
	accuracy, line := math.NaN(), bytes.Buffer{}
	if f.Completed > 0 {
		if accuracy, err = benchAccuracy(c, r, s.other); err != nil {
			return err
		}
		if err := benchShow(c, r, f, &line); err != nil {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "%.1f tokens in and %.1f out on average\n", float64(f.InputTokens)/float64(f.Completed), float64(f.OutTokens)/float64(f.Completed))
	}
	for _, w := range f.Warnings {
		fmt.Fprintf(c.App.ErrWriter, "note: %s\n", safetext.Line(w))
	}
	lost := s.lost(r)
	if f.Completed > 0 {
		s.keep(cell, &f)
		if err := s.save(cell, line.Bytes(), i+1 == len(s.cells) || stopped != nil || lost != nil); err != nil {
			return err
		}
	}
	s.half = f.Completed > 0 && (stopped != nil || lost != nil)
	switch {
	case stopped != nil:
		return stopped
	case lost != nil:
		return &exitError{code: exitIO, err: fmt.Errorf("%s: lost after %d of %d requests: %w", redacted(s.load.URL), f.Completed, len(load.Prompts), lost)}
	case f.Completed == 0:
		return &exitError{code: exitIO, err: fmt.Errorf("%s: every request failed: %s", redacted(s.load.URL), f.FirstError)}
	}
	s.judge(&f, accuracy)
	return nil
}

// missed says which floors of --fail-under a run is under.
func (s *sweep) missed(f *bench.Figures, accuracy float64) bool {
	list := f.Missed(s.floors, accuracy)
	for _, m := range list {
		fmt.Fprintf(s.c.App.ErrWriter, "missed: %s\n", m)
	}
	return len(list) > 0
}

// lost is why a server is gone whose answers broke off; nil: it is there.
func (s *sweep) lost(r *bench.Result) error {
	if !slices.ContainsFunc(r.Requests, func(q bench.Request) bool { return q.Lost && !q.Unfinished }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.c.Context, 5*time.Second)
	defer cancel()
	_, err := bench.FindServer(ctx, &s.load)
	var status *bench.StatusError
	if errors.As(err, &status) || errors.Is(err, bench.ErrFormat) {
		return nil
	}
	return err
}

// keep adds a run to the tables.
func (s *sweep) keep(cell *bench.Cell, f *bench.Figures) {
	i := slices.IndexFunc(s.groups, func(g bench.Group) bool { return g.Title == cell.Title() })
	if i < 0 {
		i = len(s.groups)
		s.groups = append(s.groups, bench.Group{Title: cell.Title()})
	}
	s.groups[i].Runs = append(s.groups[i].Runs, *f)
	s.runs = append(s.runs, bench.Named{Name: s.load.Model + ", " + cell.Title(), Figures: *f})
}

// save writes the file anew with a run's line. A pipe gets all lines at the end.
func (s *sweep) save(cell *bench.Cell, line []byte, last bool) error {
	s.saved = slices.DeleteFunc(s.saved, func(x bench.Saved) bool { return x.Cell == cell.String() })
	s.saved = append(s.saved, bench.Saved{Cell: cell.String(), Line: bytes.TrimSpace(line)})
	if s.file == nil || !last && s.file.Streams() {
		return nil
	}
	return s.writeFile()
}

func (s *sweep) writeFile() error {
	return s.file.put(func(w io.Writer) error {
		for i := range s.saved {
			if _, err := fmt.Fprintf(w, "%s\n", s.saved[i].Line); err != nil {
				return err
			}
		}
		return nil
	})
}

// finish writes the table and the page, and gives the verdict. Of a sweep that
// broke off it shows what there is, marked as that, and the verdict is broke.
func (s *sweep) finish(broke error) error {
	if broke != nil && len(s.runs) == 0 {
		return broke
	}
	title, out := "Benchmark of "+s.load.Model, s.c.App.ErrWriter
	if len(s.runs) > 1 {
		fmt.Fprint(s.c.App.Writer, "\n"+safetext.Text(bench.Table(s.groups)))
	}
	switch {
	case broke != nil:
		part := fmt.Sprintf("broke off in run %d of %d", len(s.runs), len(s.cells))
		if !s.half {
			part = fmt.Sprintf("broke off after %d of %d runs", len(s.runs), len(s.cells))
		}
		title += ": " + part
		fmt.Fprintf(out, "note: %s; figures are of what was measured until then\n", part)
	case s.c.Int("repeat") == 1:
		fmt.Fprintln(out, "note: one run each has no interval; --repeat 3 gives median and range")
	}
	err := s.page.put(func(w io.Writer) error { return bench.WriteHTML(w, title, s.runs) })
	switch {
	case broke != nil && err != nil:
		fmt.Fprintf(out, "note: %s\n", safetext.Line(err.Error()))
		return broke
	case broke != nil:
		return broke
	case err != nil:
		return err
	}
	if s.failed {
		return &exitError{code: exitNegative, silent: true}
	}
	return nil
}

// benchShow prints a run and keeps its JSON.
func benchShow(c *cli.Context, r *bench.Result, f bench.Figures, saved io.Writer) error {
	style, release, _ := strings.Cut(c.String("report"), "@")
	var err error
	switch style {
	case "sglang":
		err = bench.WriteSGLang(c.App.Writer, f, release)
	case "table":
		_, err = fmt.Fprintln(c.App.Writer, benchLine(&f))
	default:
		err = bench.WriteVLLM(c.App.Writer, f, release, r.Load.Percentiles)
	}
	if err != nil {
		return err
	}
	if c.String("json-style") == "sglang" {
		return r.SaveSGLang(saved, f)
	}
	return r.SaveVLLM(saved, f, c.String("json-style") == "glmconv", time.Now())
}

// redacted is a URL without credentials.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the server"
	}
	u.User = nil
	return u.String()
}
