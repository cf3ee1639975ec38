package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/stats"
)

// Charts are drawn with x in percent of the width and y in pixels, so that text
// keeps its size on a phone. Curves live in a nested SVG that stretches.

// tick is a label on an axis: X in percent, or Y in pixels.
type tick struct {
	X, Y  float64
	Label string
}

type bar struct {
	X, Y, W, H float64
	Class, Tip string
}

type mark struct {
	X     float64
	Label string
	Class string
	End   bool // the label stands left of the mark
	Row   float64
}

type chart struct {
	Height   float64
	Bars     []bar
	Marks    []mark
	X, Y     []tick
	Dots     []bar
	Own, All string // paths in a 100 × Height box
	Note     string
}

const plotHeight = 190

// histogram draws log10 KL per token with the budget, the mean and its bound.
func histogram(r *verify.Result) *chart {
	bins, infinite := binned(r)
	if len(bins) == 0 && infinite == 0 {
		return nil
	}
	c := &chart{Height: plotHeight}
	if infinite > 0 {
		c.Note = plural(infinite, "position") + " with logits that are not finite cannot be drawn"
	}
	if len(bins) == 0 {
		return c
	}
	lo, hi, most := bins[0].Lo, bins[len(bins)-1].Hi, 1
	for _, b := range bins {
		lo, hi, most = min(lo, b.Lo), max(hi, b.Hi), max(most, b.Count)
	}
	for _, v := range []float64{r.Tol, r.KL.Upper95} {
		if v > 0 && !math.IsInf(v, 0) {
			lo, hi = min(lo, math.Log10(v)-0.5), max(hi, math.Log10(v)+0.5)
		}
	}
	at := func(x float64) float64 { return 100 * (x - lo) / (hi - lo) }
	for _, b := range bins {
		if b.Count == 0 {
			continue
		}
		h := max(float64(b.Count)/float64(most)*(plotHeight-34), 1.5)
		class := "under"
		if r.Tol > 0 && b.Lo >= math.Log10(r.Tol)-1e-9 {
			class = "over"
		}
		c.Bars = append(c.Bars, bar{at(b.Lo) + 0.12, plotHeight - h, max(at(b.Hi)-at(b.Lo)-0.24, 0.2), h, class,
			fmt.Sprintf("%s between %s and %s nats", plural(b.Count, "token"), num(math.Pow(10, b.Lo)), num(math.Pow(10, b.Hi)))})
	}
	step := max(1, math.Ceil((hi-lo)/6))
	for e := math.Ceil(lo); e <= hi; e += step {
		c.X = append(c.X, tick{X: at(e), Label: num(math.Pow(10, e))})
	}
	add := func(v float64, name, class string) {
		if v > 0 && !math.IsInf(v, 0) && !math.IsNaN(v) {
			x := at(math.Log10(v))
			c.Marks = append(c.Marks, mark{X: x, Label: name + " " + num(v), Class: class, End: x > 50})
		}
	}
	add(r.Tol, "budget", "budget")
	add(r.KL.Mean, "mean", "mean")
	for i := range c.Marks {
		c.Marks[i].Row = 10 + 15*float64(i)
	}
	// Labels point away from each other, and away from the edges.
	if len(c.Marks) == 2 {
		left, right := &c.Marks[0], &c.Marks[1]
		if left.X > right.X {
			left, right = right, left
		}
		left.End, right.End = left.X > 30, right.X > 70
	}
	c.Y = []tick{{Y: plotHeight, Label: "0"}, {Y: 34, Label: count(most)}}
	return c
}

// binned returns the bins of log10 KL per token, and how many are not finite.
func binned(r *verify.Result) (bins []stats.Bin, infinite int) {
	if len(r.Logits.PerToken) == 0 {
		for _, b := range r.Logits.Histogram {
			if math.IsNaN(b.Lo) || math.IsInf(b.Lo, 0) || math.IsNaN(b.Hi) || math.IsInf(b.Hi, 0) || b.Hi <= b.Lo {
				infinite += b.Count
				continue
			}
			bins = append(bins, b)
		}
		return bins, infinite
	}
	return stats.Histogram(r.Logits.PerToken)
}

// curve draws the error by layer: bars are each layer's own share, the line is
// what has built up.
func curve(r *verify.Result) *chart {
	n := len(r.Layers)
	if n == 0 {
		return nil
	}
	top := 0.0
	lost := 0
	for _, l := range r.Layers {
		for _, v := range []float64{l.Error, l.Own} {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				top = max(top, v)
			}
		}
		if math.IsNaN(l.Error) || math.IsInf(l.Error, 0) {
			lost++
		}
	}
	c := &chart{Height: plotHeight}
	if lost > 0 {
		c.Note = plural(lost, "layer") + " with states that are not finite cannot be drawn"
	}
	top, ticks := scale(top)
	y := func(v float64) float64 { return plotHeight - (plotHeight-12)*v/top }
	for _, t := range ticks {
		c.Y = append(c.Y, tick{Y: y(t), Label: num(t)})
	}
	width := 100 / float64(n)
	var path strings.Builder
	pen := "M"
	for i, l := range r.Layers {
		x := (float64(i) + 0.5) * width
		tip := fmt.Sprintf("layer %d: error %s, own share %s", l.Layer, num(l.Error), num(l.Own))
		if !math.IsNaN(l.Own) && !math.IsInf(l.Own, 0) {
			c.Bars = append(c.Bars, bar{x - 0.32*width, y(l.Own), 0.64 * width, plotHeight - y(l.Own), "own", tip})
		}
		if math.IsNaN(l.Error) || math.IsInf(l.Error, 0) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%.3f %.2f", pen, x, y(l.Error))
		pen = "L"
		c.Dots = append(c.Dots, bar{X: x, Y: y(l.Error), Tip: tip})
	}
	c.All = path.String()
	c.X = layerTicks(r.Layers)
	return c
}

// layerTicks labels at most nine layers.
func layerTicks(list []verify.Layer) (out []tick) {
	n := len(list)
	step := 1
	for _, s := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		if step = s; n/s < 9 {
			break
		}
	}
	for i := 0; i < n; i += step {
		out = append(out, tick{X: (float64(i) + 0.5) * 100 / float64(n), Label: fmt.Sprint(list[i].Layer)})
	}
	return out
}

// scale rounds the top of an axis up to a figure people read, and gives ticks.
func scale(top float64) (float64, []float64) {
	if top <= 0 {
		return 1, []float64{0, 1}
	}
	unit := math.Pow(10, math.Floor(math.Log10(top)))
	for _, m := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8, 10} {
		if m*unit >= top*1.0001 {
			top = m * unit
			break
		}
	}
	var out []float64
	for _, f := range []float64{0, 0.5, 1} {
		out = append(out, top*f)
	}
	return top, out
}

// strip is one row of the router heat map.
type strip struct {
	Name  string
	Cells []cell
}

type cell struct {
	X, W  float64
	Heat  float64 // 0 none … 1 full, as opacity
	Dense bool
	Tip   string
}

// routers draws the overlap and the share of changed sets by layer.
func routers(r *verify.Result) (rows []strip, ticks []tick) {
	n := len(r.Layers)
	if n == 0 {
		return nil, nil
	}
	any := false
	rows = []strip{{Name: "experts that differ"}, {Name: "tokens with another set"}}
	for i, l := range r.Layers {
		dense := l.RouterSame == 1 && l.RouterFlip == 0 && l.Error > 0
		any = any || !dense
		x, w := 100*float64(i)/float64(n), 100/float64(n)
		for k, v := range []float64{1 - l.RouterSame, l.RouterFlip} {
			if math.IsNaN(v) {
				v = 1
			}
			rows[k].Cells = append(rows[k].Cells, cell{x + 0.06*w, 0.88 * w, math.Sqrt(min(max(v, 0), 1)), dense,
				fmt.Sprintf("layer %d: %s of the experts the same, %s of the tokens chose another set", l.Layer, percent(l.RouterSame), percent(l.RouterFlip))})
		}
	}
	if !any {
		return nil, nil
	}
	return rows, layerTicks(r.Layers)
}

// draft is one step of the MTP chart; widths in percent.
type draft struct {
	Step           int
	Source, Result float64
	SourceText     string
	ResultText     string
}

func drafts(m *verify.MTP) (out []draft) {
	if m == nil {
		return nil
	}
	for k := range max(len(m.Source.Agreement), len(m.Result.Agreement)) {
		d := draft{Step: k + 1, SourceText: "n/a", ResultText: "n/a"}
		if k < len(m.Source.Agreement) {
			d.Source, d.SourceText = wide(m.Source.Agreement[k]), percent(m.Source.Agreement[k])
		}
		if k < len(m.Result.Agreement) {
			d.Result, d.ResultText = wide(m.Result.Agreement[k]), percent(m.Result.Agreement[k])
		}
		out = append(out, d)
	}
	return out
}

// wide turns a share into a width in percent.
func wide(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return 100 * min(max(v, 0), 1)
}
