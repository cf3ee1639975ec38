package main

import (
	"fmt"
	"io"

	"github.com/glmconv/glmconv/internal/bench/limits"
)

// figure is a line of the table: a rate, the limit that bounds it and how close
// it comes. Rate and limit are medians, the ratio is the median of the ratios
// of rates that were measured one after the other.
type figure struct {
	Name      string  `json:"name"`
	Path      string  `json:"path"` // as GLMCONV_CPU names it
	Threads   int     `json:"threads"`
	Unit      string  `json:"unit"`
	Value     float64 `json:"value"`
	Limit     string  `json:"limit,omitempty"`
	LimitRate float64 `json:"limit_rate,omitempty"` // in the unit
	Ratio     float64 `json:"ratio,omitempty"`
	// Slower is, in plain Go, how many times the best path's rate is higher.
	Slower float64 `json:"slower,omitempty"`
}

// pairs measures limit and value in turn, after one turn that does not count.
func (f *figure) pairs(runs int, value, limit func() (float64, error)) error {
	var v, l, q []float64
	for i := range max(runs, 1) + 1 {
		b, err := limit()
		if err != nil {
			return err
		}
		a, err := value()
		if err != nil {
			return err
		}
		if i == 0 && runs > 1 {
			continue
		}
		v, l = append(v, a), append(l, b)
		if b > 0 {
			q = append(q, a/b)
		}
		if runs == 1 {
			break
		}
	}
	f.Value, f.LimitRate = limits.MedianOf(v), limits.MedianOf(l)
	if len(q) > 0 {
		f.Ratio = limits.MedianOf(q)
	}
	return nil
}

// compare fills in how much slower plain Go is.
func compare(figures []figure) {
	for i := range figures {
		f := &figures[i]
		if f.Path != "purego" {
			continue
		}
		for _, o := range figures {
			if o.Name == f.Name && o.Unit == f.Unit && o.Path != f.Path && f.Value > 0 {
				f.Slower = max(f.Slower, o.Value/f.Value)
			}
		}
	}
}

func showLimits(w io.Writer, l limits.Limits) {
	fmt.Fprintf(w, "%-66s %8s %10s\n", "limit", "threads", "rate")
	for _, x := range l {
		fmt.Fprintf(w, "%-66s %8d %10.2f %s\n", x.Name, x.Threads, x.Rate, x.Unit)
	}
}

func showFigures(w io.Writer, figures []figure) {
	fmt.Fprintf(w, "\n%-44s %-7s %7s %10s %10s %7s\n", "figure", "path", "threads", "value", "limit", "ratio")
	for _, f := range figures {
		fmt.Fprintf(w, "%-44s %-7s %7d %10.2f", f.Name, f.Path, f.Threads, f.Value)
		if f.LimitRate > 0 {
			fmt.Fprintf(w, " %10.2f %7.2f  %s, %s", f.LimitRate, f.Ratio, f.Unit, f.Limit)
		} else {
			fmt.Fprintf(w, " %10s %7s  %s", "-", "-", f.Unit)
		}
		if f.Slower > 0 {
			fmt.Fprintf(w, ", %.1f times slower", f.Slower)
		}
		fmt.Fprintln(w)
	}
}
