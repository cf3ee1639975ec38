package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/internal/safetext"
)

// CompareSchema names the JSON form of a Comparison.
const CompareSchema = "glmconv.compare/1"

// Gain is a difference in tokens a second for each device, in percent with a
// sign and one decimal; "–" where there is none to speak of.
func Gain(base, now float64, baseGPUs, nowGPUs int) string {
	return percent(change(base/float64(max(baseGPUs, 1)), now/float64(max(nowGPUs, 1))))
}

// change is by how much now is more than base, in percent; NaN where one of
// them is no figure.
func change(base, now float64) float64 {
	if !(base > 0) || !(now > 0) || math.IsInf(base, 0) || math.IsInf(now, 0) {
		return math.NaN()
	}
	return 100 * (now/base - 1)
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%+.1f%%", v)
}

// Case is a row of a comparison.
type Case struct {
	Name      string
	Base, New Figures
}

// failed is what a run that measured nothing said.
func (f *Figures) failed() string {
	if f.Completed > 0 || f.FirstError == "" {
		return ""
	}
	return f.FirstError
}

// Throughput is the total of tokens a second; 0 of a run that failed.
func (f *Figures) Throughput() float64 {
	if f.failed() != "" || !(f.Total > 0) {
		return 0
	}
	return f.Total
}

// Comparison sets runs beside those of a base, case by case.
type Comparison struct {
	Cases             []Case
	Steps             []StepGain // of a search; nil: none was made
	BaseGPUs, NewGPUs int        // devices; 0: 1
	Metrics           []Metric   // besides throughput and time per token
}

// columns are the figures of a case, in their order.
func (c *Comparison) columns() []Metric { return append(slices.Clone(always), c.Metrics...) }

// changes is by how much a figure of a case changed, in percent.
func (c *Comparison) changes(m *Metric, k *Case) float64 {
	b, n := 1, 1
	if m.rate {
		b, n = max(c.BaseGPUs, 1), max(c.NewGPUs, 1)
	}
	if k.Base.failed() != "" || k.New.failed() != "" {
		return math.NaN()
	}
	return change(m.of(&k.Base)/float64(b), m.of(&k.New)/float64(n))
}

// Table are the lines of a comparison, its head first: of the case, then base,
// new and the change of every figure. A failed run shows its first error.
func (c *Comparison) Table() [][]string {
	list := c.columns()
	head := []string{"case"}
	for i := range list {
		head = append(head, "base "+list[i].Title, "new "+list[i].Title, list[i].change())
	}
	out := [][]string{head}
	for i := range c.Cases {
		k := &c.Cases[i]
		row := []string{k.Name}
		for j := range list {
			m := &list[j]
			row = append(row, m.cell(&k.Base, j == 0), m.cell(&k.New, j == 0), percent(c.changes(m, k)))
		}
		out = append(out, row)
	}
	return out
}

// WriteMarkdown writes the table, and behind it that of the steps.
func (c *Comparison) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	for i, t := range c.tables() {
		if i > 0 {
			b.WriteByte('\n')
		}
		for j, l := range t {
			for _, word := range l {
				b.WriteString("| " + strings.ReplaceAll(word, "|", "\\|") + " ")
			}
			b.WriteString("|\n")
			if j == 0 {
				b.WriteString(strings.Repeat("|---", len(l)) + "|\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tables are the tables that have lines.
func (c *Comparison) tables() (out [][][]string) {
	if len(c.Cases) > 0 {
		out = append(out, c.Table())
	}
	if len(c.Steps) > 0 {
		out = append(out, c.stepTable())
	}
	for _, t := range out {
		for _, l := range t {
			for i := range l {
				l[i] = safetext.Line(l[i])
			}
		}
	}
	return out
}

func (c *Comparison) stepTable() [][]string {
	out := [][]string{{"step", "gain"}}
	for _, s := range c.Steps {
		out = append(out, []string{s.Name, s.Gain})
	}
	return out
}

// WriteCSV writes the tables as comma-separated values (RFC 4180), with an empty
// line between them.
func (c *Comparison) WriteCSV(w io.Writer) error {
	for i, t := range c.tables() {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if err := csv.NewWriter(w).WriteAll(t); err != nil {
			return err
		}
	}
	return nil
}

// WriteJSON writes one object: schema, devices, cases with the figures of both
// runs under the names of vLLM's client and the changes in percent (null where
// there is none), and the steps.
func (c *Comparison) WriteJSON(w io.Writer) error {
	type side struct {
		Figures map[string]*float64 `json:"figures"`
		Error   string              `json:"error,omitempty"`
	}
	type row struct {
		Case    string              `json:"case"`
		Base    side                `json:"base"`
		New     side                `json:"new"`
		Changes map[string]*float64 `json:"change_percent"`
		Notes   []string            `json:"notes"`
	}
	list := c.columns()
	of := func(f *Figures) side {
		s := side{Figures: map[string]*float64{}, Error: f.failed()}
		for i := range list {
			s.Figures[list[i].key] = orNull(list[i].of(f), s.Error != "")
		}
		return s
	}
	rows := []row{}
	for i := range c.Cases {
		k := &c.Cases[i]
		r := row{Case: k.Name, Base: of(&k.Base), New: of(&k.New), Changes: map[string]*float64{}, Notes: Differences(&k.Base, &k.New)}
		if r.Notes == nil || r.Base.Error != "" || r.New.Error != "" {
			r.Notes = []string{}
		}
		for j := range list {
			r.Changes[list[j].key] = orNull(c.changes(&list[j], k), false)
		}
		rows = append(rows, r)
	}
	steps := []map[string]string{}
	for _, s := range c.Steps {
		steps = append(steps, map[string]string{"step": s.Name, "gain": s.Gain})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"schema": CompareSchema, "gpus": []int{max(c.BaseGPUs, 1), max(c.NewGPUs, 1)}, "cases": rows, "steps": steps})
}

// orNull is a figure of JSON; null for none.
func orNull(v float64, failed bool) *float64 {
	if failed || math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
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
	if a.failed() != "" || b.failed() != "" {
		return nil
	}
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
			differ(c.what, strconv.FormatFloat(x, 'f', 1, 64), strconv.FormatFloat(y, 'f', 1, 64))
		}
	}
	return out
}
