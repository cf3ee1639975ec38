package bench

import (
	"fmt"
	"math"
	"strings"
)

// Gain is a difference in tokens a second for each device, in percent with a
// sign and one decimal; "–" where there is none to speak of.
func Gain(base, now float64, baseGPUs, nowGPUs int) string {
	if !(base > 0) || !(now > 0) || math.IsInf(now, 0) {
		return "–"
	}
	b, n := base/float64(max(baseGPUs, 1)), now/float64(max(nowGPUs, 1))
	return fmt.Sprintf("%+.1f%%", 100*(n/b-1))
}

// Case is a row of a comparison.
type Case struct {
	Name      string
	Base, New Figures
}

// Compare is a table in Markdown: total tokens a second, mean time per output
// token, and the gain for each device.
func Compare(cases []Case, baseGPUs, newGPUs int) string {
	var b strings.Builder
	b.WriteString("| case | base tok/s | base TPOT (ms) | new tok/s | new TPOT (ms) | gain |\n|---|---|---|---|---|---|\n")
	cell := func(f *Figures) string {
		if f.Completed == 0 && f.FirstError != "" {
			return strings.ReplaceAll(f.FirstError, "|", "\\|") + " | –"
		}
		return fmt.Sprintf("%.2f | %.2f", f.Total, f.TPOT.Mean)
	}
	for i := range cases {
		c := &cases[i]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.ReplaceAll(c.Name, "|", "\\|"), cell(&c.Base), cell(&c.New), Gain(c.Base.Total, c.New.Total, baseGPUs, newGPUs))
	}
	return b.String()
}

// Step is a set-up that was tried while tuning; Total 0: it failed.
type Step struct {
	Name  string // of what was changed: "engine", "parallelism"
	Total float64
}

// StepGain is what the best of a step's set-ups gained on the best before.
type StepGain struct{ Name, Gain string }

// Steps sums up a search: the first set-up of all is the base, each step is
// compared with the best so far.
func Steps(list []Step) []StepGain {
	var out []StepGain
	best := 0.0
	for i := 0; i < len(list); {
		j, top := i, 0.0
		for ; j < len(list) && list[j].Name == list[i].Name; j++ {
			top = max(top, list[j].Total)
		}
		base := best
		if i == 0 {
			base = list[0].Total
		}
		g := "–"
		if top > base && base > 0 {
			g = Gain(base, top, 1, 1)
		}
		out = append(out, StepGain{list[i].Name, g})
		best = max(best, top)
		i = j
	}
	return out
}

// apart is by how much the tokens of a request may differ between runs that are
// compared.
const apart = 0.05

// Differences say why two runs are not of the same load.
func Differences(a, b *Figures) (out []string) {
	differ := func(what string, x, y any) { out = append(out, fmt.Sprintf("%s differ: %v and %v", what, x, y)) }
	if x, y := a.Shape, b.Shape; x.Dataset != "" && y.Dataset != "" {
		if x.Dataset != y.Dataset {
			differ("data sets", x.Dataset, y.Dataset)
		}
		if x.Out != y.Out && x.Out > 0 && y.Out > 0 {
			differ("output lengths asked for", x.Out, y.Out)
		}
		if x.Style != y.Style && x.Style != "" && y.Style != "" {
			differ("range styles", x.Style, y.Style)
		}
	}
	if a.Concurrency != b.Concurrency {
		differ("limits of requests at once", atOnce(a.Concurrency), atOnce(b.Concurrency))
	}
	for _, c := range []struct {
		what string
		x, y int
	}{{"tokens of a prompt", a.InputTokens, b.InputTokens}, {"tokens of an answer", a.OutTokens, b.OutTokens}} {
		x, y := float64(c.x)/float64(max(a.Completed, 1)), float64(c.y)/float64(max(b.Completed, 1))
		if x > 0 && y > 0 && math.Abs(x-y) > apart*max(x, y) {
			differ(c.what, fmt.Sprintf("%.1f", x), fmt.Sprintf("%.1f", y))
		}
	}
	return out
}
