package endpoint

import (
	_ "embed"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"math"
	"reflect"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/verify"
)

// Text is the result for a terminal: what was found first, then the verdict and
// a line a check.
func (r *Result) Text() string {
	var b strings.Builder
	for i := range r.Servers {
		b.WriteString(r.Servers[i].line() + "\n")
	}
	b.WriteString("\n" + r.headline() + "\n\n")
	row := func(state, name, text string) {
		mark := map[string]string{failed: "✗", undecided: "?", none: "?"}[state]
		if mark == "" {
			mark = " "
		}
		fmt.Fprintf(&b, "  %s %-11s %s\n", mark, safetext.Line(name), safetext.Line(text))
	}
	if r.Cause != "" {
		row(passed, "cause", r.Cause)
	}
	for _, a := range r.Advice {
		row(passed, "try", a)
	}
	for i := range r.Servers {
		s := &r.Servers[i]
		if len(r.Servers) > 1 {
			row(passed, "server", s.URL)
		}
		for _, c := range s.Checks {
			row(c.State, c.ID, c.Line)
		}
		if s.Original != nil {
			row(passed, "original", fmt.Sprintf("mean KL from the original %.3g nats/token, from what should be served %.3g", s.Original.KL, s.Figures.KL))
		}
		for _, x := range s.Signs[:min(3, len(s.Signs))] {
			row(passed, "tried", fmt.Sprintf("as if %s: mean KL %.3g", x.Name, x.KL))
		}
		if s.Drafts != nil {
			row(s.Drafts.State, "drafts", s.Drafts.Line)
		}
	}
	if r.File != nil {
		state := map[verify.Verdict]string{verify.Pass: passed, verify.Fail: failed}[r.File.Verdict]
		if state == "" {
			state = undecided
		}
		line := fmt.Sprintf("the served folder against its original: %s, mean KL %.3g", r.File.Verdict, r.File.MeanKL)
		if r.File.Cause != "" {
			line += ": " + r.File.Cause
		}
		row(state, "file", line)
	}
	for _, p := range append(append([]Probe{}, r.Chat...), r.Probes...) {
		row(p.State, p.Name, p.Line)
	}
	for _, n := range r.Notes {
		row(passed, "note", n.Where+": "+n.Detail)
	}
	return b.String()
}

// line is what a server is.
func (s *Server) line() string {
	drafts := "off"
	if s.hasDrafts {
		drafts = "on"
	}
	parts := []string{safetext.Line(s.URL), strings.TrimSpace(string(s.Kind) + " " + safetext.Line(s.Version)), "model " + safetext.Line(s.Model)}
	if s.Context > 0 {
		parts = append(parts, fmt.Sprintf("context %d", s.Context))
	}
	if s.Cache != "" && s.Cache != "auto" {
		parts = append(parts, "cache "+safetext.Line(s.Cache))
	}
	return strings.Join(append(parts, "drafts "+drafts), " · ")
}

func (r *Result) headline() string {
	tokens := 0
	for i := range r.Servers {
		tokens += r.Servers[i].Figures.Tokens
	}
	switch r.Verdict {
	case verify.Pass:
		return fmt.Sprintf("PASS  the server computes what the file says, on %d tokens", tokens)
	case verify.Fail:
		what := fmt.Sprintf("%d checks failed", len(r.Failed))
		if len(r.Failed) == 1 {
			what = "1 check failed"
		}
		if r.Fault == NoFault {
			return "FAIL  " + what
		}
		return fmt.Sprintf("FAIL  %s: %s", r.Fault, what)
	}
	return "UNDECIDED  " + safetext.Line(r.Reason)
}

// JSON writes the result; in place of infinities and NaN, which JSON has not,
// stands the largest number.
func JSON(w io.Writer, r *Result) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(finite(reflect.ValueOf(r)).Interface())
}

// finite is a copy of what JSON writes of a value, in which every float is finite.
func finite(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Float64:
		if f := v.Float(); math.IsNaN(f) {
			out.SetFloat(math.MaxFloat64)
		} else if math.IsInf(f, 0) {
			out.SetFloat(math.Copysign(math.MaxFloat64, f))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(finite(v.Elem()))
		}
	case reflect.Slice:
		if v.IsNil() {
			break
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			out.Index(i).Set(finite(v.Index(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if t := v.Type().Field(i); t.IsExported() && t.Tag.Get("json") != "-" {
				out.Field(i).Set(finite(v.Field(i)))
			}
		}
	}
	return out
}

// testcase is a case of JUnit.
type testcase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Failure *problem `xml:"failure"`
	Error   *problem `xml:"error"`
	Skipped *problem `xml:"skipped"`
}

type problem struct {
	Message string `xml:"message,attr"`
}

// cases are all lines of the result.
func (r *Result) cases() (out []testcase) {
	put := func(class, name, state, line string) {
		t, p := testcase{Class: class, Name: clean(name)}, &problem{clean(line)}
		switch state {
		case failed:
			t.Failure = p
		case undecided:
			t.Error = p
		case none:
			t.Skipped = p
		}
		out = append(out, t)
	}
	for i := range r.Servers {
		s := &r.Servers[i]
		name := func(id string) string {
			if len(r.Servers) > 1 {
				return s.URL + " " + id
			}
			return id
		}
		for _, c := range s.Checks {
			put("glmconv.endpoint", name(c.ID), c.State, c.Line)
		}
		if s.Drafts != nil {
			put("glmconv.endpoint", name("drafts"), s.Drafts.State, s.Drafts.Line)
		}
	}
	if r.File != nil {
		state := map[verify.Verdict]string{verify.Pass: passed, verify.Fail: failed, verify.Undecided: undecided}[r.File.Verdict]
		put("glmconv.endpoint", "file", state, r.File.Cause)
	}
	for _, p := range r.Chat {
		put("glmconv.endpoint", p.Name, p.State, p.Line)
	}
	for _, p := range r.Probes {
		put("glmconv.functional", p.Name, p.State, p.Line)
	}
	return out
}

// clean makes text fit for XML and one line.
func clean(s string) string { return safetext.Line(strings.ToValidUTF8(s, "?")) }

// JUnit writes a test case a check: a failed one is a failure, an undecided one
// an error, one that was not judged skipped.
func JUnit(w io.Writer, r *Result) error {
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
		Out      string     `xml:"system-out"`
	}
	s := suite{Name: "glmconv verify --endpoint", Time: fmt.Sprintf("%.3f", r.Seconds), Cases: r.cases(), Out: r.Text()}
	for _, c := range s.Cases {
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
	if r.Verdict != verify.Pass && s.Failures+s.Errors == 0 { // it must not look like a pass
		s.Errors++
		s.Cases = append(s.Cases, testcase{Class: "glmconv.endpoint", Name: "verdict", Error: &problem{clean(string(r.Verdict) + ": " + r.Reason)}})
	}
	s.Tests = len(s.Cases)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(s); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

//go:embed report.gohtml
var pageText string

// page is parsed when the first report is written.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("endpoint").Funcs(template.FuncMap{"num": func(v float64) string { return fmt.Sprintf("%.3g", v) }, "clean": clean}).Parse(pageText))
})

// point is a dot of the plot over positions.
type point struct{ X, Y float64 }

// plot is mean |ln p − ln q| by position.
type plot struct {
	Points []point
	Line   string
	Top    string
	Last   int
}

// Width and height of a plot.
const (
	plotWidth  = 640
	plotHeight = 160
)

func (f *Figures) plot() *plot {
	sum, n := map[int]float64{}, map[int]float64{}
	last := 1
	for _, p := range f.Places {
		if d := abs(p.Delta); d < 1e6 {
			sum[p.Pos] += d
			n[p.Pos]++
			last = max(last, p.Pos)
		}
	}
	if len(n) < 2 {
		return nil
	}
	const bins = 64
	width := max(1, (last+bins)/bins)
	var mean [bins + 1]float64
	var count [bins + 1]float64
	for pos, s := range sum {
		mean[pos/width] += s
		count[pos/width] += n[pos]
	}
	top := 0.0
	for i := range mean {
		if count[i] > 0 {
			mean[i] /= count[i]
			top = max(top, mean[i])
		}
	}
	out := &plot{Top: fmt.Sprintf("%.2g", top), Last: last}
	for i := range mean {
		if count[i] == 0 {
			continue
		}
		p := point{float64(i*width) / float64(last+1) * plotWidth, plotHeight - mean[i]/max(top, 1e-12)*(plotHeight-8)}
		out.Points = append(out.Points, p)
		out.Line += fmt.Sprintf("%.1f,%.1f ", p.X, p.Y)
	}
	return out
}

// HTML writes the result as one page that needs no network and no script. folders
// is the page of the two folders, which is shown in a frame of this one; "" for
// none.
func HTML(w io.Writer, r *Result, folders string) error {
	type server struct {
		*Server
		Line string
		Plot *plot
	}
	v := struct {
		R       *Result
		Head    string
		Servers []server
		Probes  []Probe
		Folders string
	}{R: r, Folders: folders, Head: r.headline(), Probes: append(append([]Probe{}, r.Chat...), r.Probes...)}
	for i := range r.Servers {
		s := &r.Servers[i]
		v.Servers = append(v.Servers, server{s, s.line(), s.Figures.plot()})
	}
	return page().Execute(w, v)
}
