package bench

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/internal/safetext"
)

//go:embed page.gohtml
var pageText string

// Named are the figures of a run, with its name on a page.
type Named struct {
	Name string
	Figures
}

// point is a run in a plot, in the plot's own units.
type point struct {
	X, Y, Above  string
	Label, Short string
	Best         bool
	x, y         float64
}

// plot is a plot of one figure against another, from zero.
type plot struct {
	Name, XName, YName string
	MaxX, MaxY         string
	Path, Words        string
	Points             []point
}

// WriteHTML writes runs as one file that needs no network: throughput against the
// speed that one user sees with the runs that no other beats in both, TTFT and
// TPOT against the requests at once, and a table.
func WriteHTML(w io.Writer, title string, list []Named) error {
	return writePage(w, title, list, nil)
}

// WriteHTML writes the tables of a comparison, and plots and figures of its runs
// as the function WriteHTML does.
func (c *Comparison) WriteHTML(w io.Writer, title string) error {
	var list []Named
	add := func(name string, f Figures) {
		same := func(n Named) bool { return n.Name == name }
		if f.failed() == "" && !slices.ContainsFunc(list, same) {
			list = append(list, Named{Name: name, Figures: f})
		}
	}
	for i := range c.Cases {
		add("base of "+c.Cases[i].Name, c.Cases[i].Base)
		add(c.Cases[i].Name, c.Cases[i].New)
	}
	return writePage(w, title, list, c)
}

// writePage writes a page of runs, with a comparison of them or without.
func writePage(w io.Writer, title string, list []Named, c *Comparison) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	data := struct {
		Title    string
		Compared [][][]string
		Plots    []plot
		Rows     [][]string
		Notes    []string
	}{Title: safetext.Line(title)}
	if c != nil {
		data.Compared = c.tables()
	}
	for i := range list {
		f := &list[i]
		data.Rows = append(data.Rows, []string{safetext.Line(f.Name), atOnce(f.Concurrency), strconv.Itoa(f.Completed), failed(f.Failed), show(f.TTFT.Median), show(f.TPOT.Median),
			show(f.ITL.Median), show(f.Output), show(f.Total)})
		for _, n := range f.Warnings {
			if n = safetext.Line(n); !slices.Contains(data.Notes, n) {
				data.Notes = append(data.Notes, n)
			}
		}
	}
	speed := func(f *Named) float64 { return 1e3 / f.TPOT.Median }
	output := func(f *Named) float64 { return f.Output }
	load := func(f *Named) float64 { return float64(f.Concurrency) }
	for _, p := range []plot{
		draw("Throughput and speed", "tokens a second for one user (1/TPOT)", "tokens a second in all", list, speed, output, true),
		draw("Time to first token", "requests at once", "median TTFT, ms", list, load, func(f *Named) float64 { return f.TTFT.Median }, false),
		draw("Time per output token", "requests at once", "median TPOT, ms", list, load, func(f *Named) float64 { return f.TPOT.Median }, false),
	} {
		if len(p.Points) > 1 {
			data.Plots = append(data.Plots, p)
		}
	}
	return t.Execute(w, data)
}

func atOnce(n int) string {
	if n <= 0 {
		return "–"
	}
	return strconv.Itoa(n)
}

func failed(n int) string {
	if n < 0 {
		return "–"
	}
	return strconv.Itoa(n)
}

// show is a figure with three digits or more; "–" where there is none.
func show(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// draw places the runs that have both figures. front joins those that no other
// beats in both; otherwise all are joined in the order of x.
func draw(name, xName, yName string, list []Named, x, y func(*Named) float64, front bool) plot {
	p := plot{Name: name, XName: xName, YName: yName}
	mx, my := 0.0, 0.0
	for i := range list {
		f := &list[i]
		a, b := x(f), y(f)
		if !(a > 0) || !(b >= 0) || math.IsInf(a, 0) || math.IsInf(b, 0) {
			continue
		}
		mx, my = max(mx, a), max(my, b)
		p.Points = append(p.Points, point{x: a, y: b, Best: true, Short: atOnce(f.Concurrency), Label: fmt.Sprintf("%s: %s, %s", safetext.Line(f.Name), show(a), show(b))})
	}
	slices.SortStableFunc(p.Points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	var path, words []string
	for i := range p.Points {
		q := &p.Points[i]
		q.X, q.Y = fmt.Sprintf("%.1f", 48+290*q.x/mx), fmt.Sprintf("%.1f", 200-172*q.y/max(my, 1e-12))
		q.Above = fmt.Sprintf("%.1f", 192-172*q.y/max(my, 1e-12))
		if front {
			q.Best = !slices.ContainsFunc(p.Points, func(o point) bool { return o.x >= q.x && o.y >= q.y && (o.x > q.x || o.y > q.y) })
		}
		if q.Best {
			path = append(path, q.X+","+q.Y)
		}
		words = append(words, q.Label)
	}
	p.Path, p.Words, p.MaxX, p.MaxY = strings.Join(path, " "), strings.Join(words, "; "), show(mx), show(my)
	return p
}
