package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/glmconv/glmconv/internal/bench/limits"
)

// Row is one figure of both sides; Ours[i] and Theirs[i] are a pair.
type Row struct {
	Figure  string    `json:"figure"`
	Peer    string    `json:"peer"` // package and version
	Unit    string    `json:"unit"`
	Lower   bool      `json:"lower_is_better"`
	Target  float64   `json:"target,omitempty"` // the ratio asked for
	Ours    []float64 `json:"glmconv"`
	Theirs  []float64 `json:"theirs"`
	Problem string    `json:"problem,omitempty"` // why it could not be measured, in the peer's words
}

// add appends a pair.
func (r *Row) add(ours, theirs float64) {
	r.Ours, r.Theirs = append(r.Ours, ours), append(r.Theirs, theirs)
}

// Ratio is the median over the pairs, above 1 where glmconv is better; 0
// without pairs.
func (r *Row) Ratio() float64 {
	q := make([]float64, len(r.Ours))
	for i := range q {
		q[i] = r.Ours[i] / r.Theirs[i]
		if r.Lower {
			q[i] = r.Theirs[i] / r.Ours[i]
		}
	}
	return limits.MedianOf(q)
}

// Results are all rows of a run, and where they were taken.
type Results struct {
	Schema  string `json:"schema"`
	Machine string `json:"machine"`
	Threads int    `json:"threads"`
	Kernels string `json:"kernels"` // glmconv's instruction set
	Rows    []*Row `json:"rows"`
}

const schema = "glmconv.bench-peers/1"

// row returns the row of the same figure and peer, a new one if there is none.
func (r *Results) row(want Row) *Row {
	for _, x := range r.Rows {
		if x.Figure == want.Figure && x.Peer == want.Peer {
			x.Unit, x.Lower, x.Target = want.Unit, want.Lower, want.Target
			return x
		}
	}
	r.Rows = append(r.Rows, &want)
	return &want
}

// load reads earlier results; a file that does not exist has none.
func load(name string) (*Results, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &Results{}, nil
	}
	if err != nil {
		return nil, err
	}
	r := new(Results)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Schema != schema {
		return nil, fmt.Errorf("%s: schema %q, want %q", name, r.Schema, schema)
	}
	return r, nil
}

func (r *Results) store(name string) error {
	r.Schema = schema
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o600)
}

// table writes the medians as a Markdown table.
func (r *Results) table(w io.Writer) (err error) {
	p := func(format string, a ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, a...)
		}
	}
	p("%s; %d threads; glmconv's kernels: %s\n\n", r.Machine, r.Threads, r.Kernels)
	p("| figure | peer | unit | glmconv | peer's | ratio | target | pairs |\n|---|---|---|---|---|---|---|---|\n")
	for _, x := range r.Rows {
		target, ratio := "", fmt.Sprintf("%.2f", x.Ratio())
		if x.Target > 0 {
			target = fmt.Sprintf("≥ %g", x.Target)
		}
		if x.Problem != "" && len(x.Ours) == 0 {
			p("| %s | %s | %s | | | not run: %s | %s | 0 |\n", x.Figure, x.Peer, x.Unit, x.Problem, target)
			continue
		}
		p("| %s | %s | %s | %.4g | %.4g | %s | %s | %d |\n", x.Figure, x.Peer, x.Unit, limits.MedianOf(x.Ours), limits.MedianOf(x.Theirs), ratio, target,
			len(x.Ours))
	}
	return err
}
