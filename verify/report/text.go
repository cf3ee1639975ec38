package report

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/verify"
)

// shown is how many failed predicates of one check the text lists.
const shown = 5

// Text is the report for a terminal: the verdict first, then a line per check.
// It ends with a newline and holds no control characters but newlines.
func Text(r *verify.Result) string {
	var b strings.Builder
	b.WriteString(headline(r) + "\n\n")
	row := func(mark, name, text string) { fmt.Fprintf(&b, "  %s%-10s %s\n", mark, name, text) }
	anyFailed := len(r.Failed) > 0
	mark := func(m string) string {
		if anyFailed {
			return m + " "
		}
		return ""
	}
	list := checks(r)
	for _, c := range list {
		if c.State != failed {
			continue
		}
		if len(c.Failed) == 0 {
			row("✗ ", label(c.ID), c.Line)
		}
		for i, f := range c.Failed {
			if i == shown {
				row("  ", "", fmt.Sprintf("and %s more", count(len(c.Failed)-shown)))
				break
			}
			row("✗ ", label(c.ID), sentence(f))
		}
	}
	if r.Cause != "" {
		row("  ", "cause", clean(r.Cause))
	}
	if anyFailed {
		b.WriteByte('\n')
	}
	for _, c := range list {
		unknown := c.State == undecided || c.State == skipped && strings.HasPrefix(c.Line, "not measured")
		if c.State == passed || unknown {
			m := " "
			if unknown {
				m = "?"
			}
			row(mark(m), label(c.ID), c.Line)
		}
	}
	if paths := r.SayPaths(); paths != "" {
		row(mark(" "), "paths", "mean KL by the NPU's path: "+paths+" · the figures are those of "+clean(r.Path))
	}
	for i, n := range r.Notes {
		if i == shown {
			row(mark(" "), "", fmt.Sprintf("and %s more", count(len(r.Notes)-shown)))
			break
		}
		row(mark(" "), "note", clean(n.Where)+" "+clean(n.Detail))
	}
	row(mark(" "), "cost", fmt.Sprintf("%s · %s read · peak %s", duration(r.Seconds), bytes(r.Bytes), bytes(r.PeakRSS)))
	return b.String()
}

// label is a check's name in the text report.
func label(id string) string {
	switch id {
	case "kl":
		return "KL"
	case "rails":
		return "logits"
	case "mtp":
		return "MTP"
	}
	return clean(id)
}

func sentence(f verify.Failed) string {
	switch {
	case f.Where == "":
		return clean(f.Detail)
	case strings.Contains(f.Detail, f.Where):
		return clean(f.Detail)
	}
	return clean(f.Where) + ": " + clean(f.Detail)
}

// headline is the verdict in one line.
func headline(r *verify.Result) string {
	if r.Tokens == 0 {
		s := strings.ToUpper(string(r.Verdict)) + "  exact checks and weight errors only; forward pass skipped"
		switch {
		case len(r.Failed) > 0:
			s = fmt.Sprintf("FAIL  %s failed", plural(len(r.Failed), "check"))
		case r.Reason != "":
			s = strings.ToUpper(string(r.Verdict)) + "  " + clean(r.Reason)
		}
		return s
	}
	relation := "≤"
	if !(r.KL.Upper95 <= r.Tol) {
		relation = ">"
	}
	kl := fmt.Sprintf("mean KL %s nats/token (95 %% bound %s %s %s)", num(r.KL.Mean), num(r.KL.Upper95), relation, num(r.Tol))
	switch r.Verdict {
	case verify.Pass:
		return "PASS  " + kl + " on " + count(r.Tokens) + " tokens"
	case verify.Fail:
		return "FAIL  " + kl + "; " + plural(len(r.Failed), "check") + " failed"
	}
	s := "UNDECIDED  " + kl + " on " + count(r.Tokens) + " tokens"
	if r.Reason != "" {
		s += ": " + clean(r.Reason)
	}
	return s
}
