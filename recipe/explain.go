package recipe

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/internal/progress"
)

// Explain is the arithmetic and the reasons, for a person.
func (r *Recipe) Explain() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		if len(name) > 16 {
			name += "  " // a flag, wider than the column
		}
		fmt.Fprintf(&b, "%-18s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("model", "%s, %s, %s", r.Query.Model.Path, r.Query.Model.Quant, progress.Bytes(r.Query.Model.Trunk.Total()+r.Query.Model.Draft.Total()))
	line("engine", "%s on %s, goal %s", r.Query.Release.Title(), r.Query.Hardware, r.Query.Goal)
	if r.Refused != nil {
		line("refused", "rule %d: %s (%s)", r.Refused.Rule, r.Refused.Detail, r.Refused.Source)
		line("nearest", "%s", r.Refused.Nearest)
	} else {
		r.explainMemory(line)
	}
	for _, x := range r.Rejected {
		line("not "+x.Degrees, "rule %d: %s", x.Rule, x.Detail)
	}
	if r.Refused != nil {
		return b.String()
	}
	for _, a := range r.Nodes[0].Args {
		if a.Flag != "" && a.Why != "" {
			line(a.Flag, "%s", a.Why)
		}
	}
	for _, w := range r.Warnings {
		line("note", "%s", w)
	}
	for _, s := range r.then() {
		line("then", "%s", s)
	}
	return b.String()
}

func (r *Recipe) explainMemory(line func(name, format string, args ...any)) {
	m, w := r.Memory, r.Memory.Weights
	line("degrees", "%s (%s: %s)", r.Degrees, r.Cell.Status, r.Cell.Source)
	if r.Cell.Note != "" {
		line("", "%s", r.Cell.Note)
	}
	line("a rank", "%s, usable %s", progress.Bytes(m.Device), progress.Bytes(m.Usable))
	line("  weights", "%s: experts %s, attention %s, dense and shared %s, vocabulary %s, replicated %s, vision %s", progress.Bytes(w.Total()),
		progress.Bytes(w.Routed), progress.Bytes(w.Attention), progress.Bytes(w.Dense), progress.Bytes(w.Vocab), progress.Bytes(w.Replicated), progress.Bytes(w.Vision))
	line("  working", "%s", progress.Bytes(m.Working))
	line("  cache", "%s, %s bytes a token; needed %s", progress.Bytes(m.Cache), progress.Thousands(m.PerToken), progress.Bytes(m.Needed))
	line("  error", "%s", progress.Bytes(m.Margin))
	line("capacity", "%s tokens, %s x %s", progress.Thousands(r.Capacity.Tokens), progress.Thousands(r.Capacity.Requests), progress.Thousands(int64(r.Capacity.Length)))
	if r.Tight {
		line("tight", "inside the error of these figures; safe with %s", r.Safer)
	}
}
