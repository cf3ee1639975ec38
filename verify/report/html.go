package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"path/filepath"
	"sync"

	stdbytes "bytes"

	"github.com/glmconv/glmconv/verify"
)

//go:embed report.gohtml
var pageText string

// page is parsed when the first report is written: most runs of the command write
// none.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("report").Funcs(template.FuncMap{
		"num": num, "percent": percent, "count": count, "bytes": bytes, "clean": clean,
	}).Parse(pageText))
})

// worst is how many tensors the page shows.
const worst = 20

// row is one weight in the list of the worst; widths in percent.
type row struct {
	Name, Encoding, Relative, Own, Max string
	Width, OwnAt                       float64
	Bad                                bool
}

type pair struct{ Name, Value, Means string }

type view struct {
	R                      *verify.Result
	Title, Word, Lead      string
	Class                  string
	Checks                 []check
	Failed                 []failure
	More                   int
	Histogram, Curve       *chart
	Routers                []strip
	RouterTicks            []tick
	Drafts                 []draft
	Length                 string
	Tensors                []row
	Figures, Rails, Origin []pair
	JSON                   template.JS
}

type failure struct{ Check, Where, Detail string }

// HTML writes r as one page that needs no network and no script: verdict,
// checks, plots as inline SVG, and r as JSON in the element with id "result".
func HTML(w io.Writer, r *verify.Result) error {
	raw, err := encode(r)
	if err != nil {
		return err
	}
	var safe stdbytes.Buffer
	json.HTMLEscape(&safe, raw) // no "</script>", no "<!--"
	v := view{R: r, Class: string(r.Verdict), Checks: checks(r), Histogram: histogram(r), Curve: curve(r), Drafts: drafts(r.MTP), Tensors: rows(r),
		JSON: template.JS(safe.String())} //nolint:gosec // JSON with <, > and & escaped
	switch r.Verdict {
	case verify.Pass, verify.Fail:
	default:
		v.Class = string(verify.Undecided)
	}
	v.Word, v.Title, v.Lead = words(r)
	for i, f := range r.Failed {
		if i == 30 {
			v.More = len(r.Failed) - i
			break
		}
		v.Failed = append(v.Failed, failure{clean(f.Check), clean(f.Where), clean(f.Detail)})
	}
	v.Routers, v.RouterTicks = routers(r)
	if r.MTP != nil {
		v.Length = fmt.Sprintf("Expected tokens per step: %s with the result, %s with the source.", num(r.MTP.Result.Length), num(r.MTP.Source.Length))
	}
	v.Figures, v.Rails, v.Origin = figures(r), limits(r), origin(r)
	var out stdbytes.Buffer
	if err := page().Execute(&out, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = out.WriteTo(w)
	return err
}

// words says the verdict: one word, a sentence, and what it rests on.
func words(r *verify.Result) (word, title, lead string) {
	result := clean(filepath.Base(r.Identity.Result))
	if r.Identity.Result == "" {
		result = "The result"
	}
	switch r.Verdict {
	case verify.Pass:
		word, title = "Pass", result+" answers like its source."
	case verify.Fail:
		word, title = "Fail", result+" is not what its source says."
		if r.Tokens > 0 && len(r.Failed) > 0 && onlyBudget(r) {
			title = result + " strays further from its source than the budget allows."
		}
	default:
		word, title = "Undecided", "Not enough to judge "+result+" by."
	}
	if r.Tokens == 0 {
		if r.Verdict == verify.Pass {
			title = result + " holds what its source says."
		}
		return word, title, "Exact checks and weight errors only: the forward pass was skipped."
	}
	lead = fmt.Sprintf("On %s tokens the mean KL divergence is %s nats per token; with 95 %% confidence it is below %s, and the budget is %s.",
		count(r.Tokens), num(r.KL.Mean), num(r.KL.Upper95), num(r.Tol))
	if math.IsInf(r.KL.Mean, 1) || r.Logits.NonFinite > 0 {
		lead = fmt.Sprintf("On %s of %s tokens the result's logits are not finite numbers.", count(r.Logits.NonFinite), count(r.Tokens))
	}
	return word, title, lead
}

// onlyBudget reports whether nothing but the quality of the logits failed.
func onlyBudget(r *verify.Result) bool {
	for _, f := range r.Failed {
		if h := home(r, f); h != "kl" && h != "rails" {
			return false
		}
	}
	return true
}

func rows(r *verify.Result) (out []row) {
	top := 0.0
	list := r.Tensors[:min(worst, len(r.Tensors))]
	for _, t := range list {
		for _, v := range []float64{t.Relative, t.Own} {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				top = max(top, v)
			}
		}
	}
	for _, t := range list {
		x := row{Name: clean(t.Name), Encoding: clean(t.Encoding), Relative: fine(t.Relative), Own: fine(t.Own), Max: num(t.Max), OwnAt: -1,
			Bad: math.IsNaN(t.Relative) || t.Relative > 1.5*t.Own+1e-6}
		switch {
		case math.IsNaN(t.Relative) || math.IsInf(t.Relative, 0):
			x.Width = 100
		case top > 0:
			x.Width = 100 * t.Relative / top
		}
		if top > 0 && !math.IsNaN(t.Own) && !math.IsInf(t.Own, 0) {
			x.OwnAt = 100 * t.Own / top
		}
		out = append(out, x)
	}
	return out
}
