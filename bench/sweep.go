package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Scenario is a named pair of lengths, in tokens.
type Scenario struct {
	Name    string
	In, Out int
}

// Scenarios are those of SGLang's GLM-4.5V guide.
var Scenarios = []Scenario{{"chat", 1000, 1000}, {"reasoning", 1000, 8000}, {"summarization", 8000, 1000}}

// efforts are how many prompts a scenario sends for each request at once.
var efforts = map[string]int{"": 5, "quick": 1, "stable": 10}

// ParseScenarios reads "chat", "all", "chat,reasoning", each with @quick or
// @stable; times is the number of prompts for each request at once: 5, 1, 10.
func ParseScenarios(s string) (list []Scenario, times int, err error) {
	names, effort, _ := strings.Cut(s, "@")
	times, ok := efforts[effort]
	if !ok || strings.HasSuffix(s, "@") {
		return nil, 0, fmt.Errorf("%q: a scenario's effort is @quick or @stable", s)
	}
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(Scenarios, func(x Scenario) bool { return x.Name == name })
		switch {
		case name == "all":
			list = append(list, Scenarios...)
		case i < 0:
			return nil, 0, fmt.Errorf("%q is no scenario: chat, reasoning, summarization or all", name)
		default:
			list = append(list, Scenarios[i])
		}
	}
	return list, times, nil
}

// ScenarioPrompts is how many prompts a scenario sends: times the requests at
// once, ten at least.
func ScenarioPrompts(times, concurrency int) int { return max(10, times*concurrency) }

// Cell is one run of a sweep. Its text names it in JSON, so that a sweep that
// broke off goes on behind what it has.
type Cell struct {
	Scenario    string // "": none
	In, Out     int
	Prompts     int
	Concurrency int // 0: no limit
	Run         int // from 1
	Settings    string
}

// String is the cell's name in JSON.
func (c Cell) String() string {
	name := c.Scenario
	if name == "" {
		name = "load"
	}
	return fmt.Sprintf("%s in=%d out=%d prompts=%d concurrency=%d run=%d settings=%s", name, c.In, c.Out, c.Prompts, c.Concurrency, c.Run, c.Settings)
}

// Title is the cell's name for people, without the number of its run.
func (c Cell) Title() string {
	name := c.Scenario
	if name == "" {
		name = fmt.Sprintf("%d+%d", c.In, c.Out)
	}
	if c.Concurrency > 0 {
		name += fmt.Sprintf(", %d at once", c.Concurrency)
	}
	return name
}

// Saved is one run of a file of JSON lines.
type Saved struct {
	Cell   string // "": it names none
	Line   []byte
	Scores []Score // nil: answers were not scored, or the form has none
	Figures
}

// ReadSaved reads JSON lines that a sweep has written. The error matches
// ErrFormat.
func ReadSaved(data []byte) ([]Saved, error) {
	var list []Saved
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var m struct {
			Cell   string  `json:"cell"`
			Tag    string  `json:"tag"`
			Scores []Score `json:"scores"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("%w: no JSON object a line: %w", ErrFormat, err)
		}
		f, err := readJSON(line)
		if err != nil {
			return nil, err
		}
		if m.Cell == "" {
			m.Cell = m.Tag
		}
		list = append(list, Saved{Cell: m.Cell, Line: slices.Clone(line), Scores: m.Scores, Figures: f[0]})
	}
	return list, nil
}

// Group are the runs of one cell.
type Group struct {
	Title string
	Runs  []Figures
}

// Table is a table in Markdown with a row for each group; of several runs the
// median and the range.
func Table(list []Group) string {
	var b strings.Builder
	b.WriteString("| load | runs | requests | tok/s in all | tok/s out | TTFT (ms) | TPOT (ms) | ITL (ms) |\n|---|---|---|---|---|---|---|---|\n")
	for i := range list {
		g := &list[i]
		done := 0
		for j := range g.Runs {
			done += g.Runs[j].Completed
		}
		fmt.Fprintf(&b, "| %s | %d | %d |", strings.ReplaceAll(g.Title, "|", "\\|"), len(g.Runs), done)
		for _, value := range []func(*Figures) float64{
			func(f *Figures) float64 { return f.Total }, func(f *Figures) float64 { return f.Output },
			func(f *Figures) float64 { return f.TTFT.Median }, func(f *Figures) float64 { return f.TPOT.Median }, func(f *Figures) float64 { return f.ITL.Median },
		} {
			b.WriteString(" " + across(g.Runs, value) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// across is the median of a figure, with its range where there are several runs.
func across(runs []Figures, value func(*Figures) float64) string {
	var v []float64
	for i := range runs {
		if x := value(&runs[i]); !math.IsNaN(x) && !math.IsInf(x, 0) {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	if len(v) == 1 {
		return fmt.Sprintf("%.2f", v[0])
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", percentile(v, 50), v[0], v[len(v)-1])
}
