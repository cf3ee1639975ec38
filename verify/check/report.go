package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/quant/engine"
)

// Severity says what a finding means for the verdict.
type Severity string

// The severities. Only errors make a report negative.
const (
	Error   Severity = "error"   // the checkpoint is damaged, incomplete or would be served wrong
	Warning Severity = "warning" // it works, but not as one would wish
	Info    Severity = "info"    // worth knowing
)

// Schema names the JSON form of a Report.
const Schema = "glmconv.check/1"

// Finding is one thing that was found. Where names a file, a tensor or a
// config key; Count is the number of places a collapsed finding stands for.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	Where    string   `json:"where"`
	Detail   string   `json:"detail"`
	Engine   string   `json:"engine,omitempty"`
	Hint     string   `json:"hint,omitempty"`
	Count    int      `json:"count,omitempty"`
}

// EngineVerdict is what one engine would do with the directory as it is.
type EngineVerdict struct {
	Engine   string        `json:"engine"`
	Release  string        `json:"release"`
	Hardware string        `json:"hardware"` // ids of the devices that the answer is about, with commas
	Parallel string        `json:"parallel"` // the degrees that load: "TP1, TP2, TP2+EP"
	Loads    *bool         `json:"loads"`    // null: not judged
	Answer   engine.Answer `json:"answer"`
	Rule     string        `json:"rule"`  // why not, or a remark
	Flags    []string      `json:"flags"` // what the serve command must carry

	noDraft bool            // the MTP layer is not served
	matched map[string]bool // modules of which is known what the release builds in their place
}

// Report is the result of Run.
type Report struct {
	Schema   string          `json:"schema"`
	Dir      string          `json:"dir"`
	OK       bool            `json:"-"`     // good; false where nothing was judged
	Verdict  *bool           `json:"ok"`    // OK, or null where no engine asked for could be judged and nothing is wrong
	Cause    string          `json:"cause"` // one sentence naming what the directory is, "" when nothing is wrong
	Layout   string          `json:"layout"`
	Findings []Finding       `json:"findings"`
	Engines  []EngineVerdict `json:"engines"`
	Files    int             `json:"files"`
	Tensors  int             `json:"tensors"`
	Bytes    int64           `json:"bytes"`
	Hashed   int64           `json:"hashed_bytes"` // bytes compared with a manifest
	Manifest bool            `json:"manifest"`
	Rotated  bool            `json:"rotated"`    // QuaRot: norms are fused and weights rotated
	Read     int64           `json:"bytes_read"` // by hashing and by looking at values
	Found    []Finding       `json:"-"`          // all findings in the order they were found, before those that are alike are summed up
}

// keepAlike is how many findings of one kind are listed, keepCode how many of
// one code; the last of them sums up the rest.
const (
	keepAlike = 3
	keepCode  = 10
)

var digits = lazy.Regexp(`\d+`)

// kind is what makes two findings alike: the same code and engine, and places
// that differ in numbers only.
func (f *Finding) kind() string {
	return f.Code + "\x00" + f.Engine + "\x00" + string(f.Severity) + "\x00" + digits().ReplaceAllString(f.Where, "#")
}

// finish sorts the findings (errors first, then in the order they were
// found), sums up those that are alike and sets OK.
func (r *Report) finish() {
	r.Found = r.Findings
	kept := fold(r.Findings, keepAlike, (*Finding).kind)
	kept = fold(kept, keepCode, func(f *Finding) string { return f.Code + "\x00" + f.Engine + "\x00" + string(f.Severity) })
	for i := range kept {
		if f := &kept[i]; f.Count > 1 {
			f.Detail = fmt.Sprintf("%s (and %d more like it)", f.Detail, f.Count-1)
		}
	}
	rank := map[Severity]int{Error: 0, Warning: 1, Info: 2}
	slices.SortStableFunc(kept, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
	r.Findings = kept
	if r.Engines == nil {
		r.Engines = []EngineVerdict{}
	}
	r.OK = !slices.ContainsFunc(kept, func(f Finding) bool { return f.Severity == Error })
	r.Verdict = &r.OK
	said := func(a engine.Answer) bool {
		return slices.ContainsFunc(r.Engines, func(v EngineVerdict) bool { return v.Answer == a })
	}
	if r.OK && said(engine.NotJudged) && !said(engine.Loads) {
		r.OK, r.Verdict = false, nil
	}
}

// fold keeps the first n findings of each kind; the last of them stands for
// the rest.
func fold(list []Finding, n int, kind func(*Finding) string) []Finding {
	last, seen := map[string]int{}, map[string]int{}
	kept := make([]Finding, 0, len(list))
	for _, f := range list {
		k := kind(&f)
		if seen[k]++; seen[k] <= n {
			last[k] = len(kept)
			kept = append(kept, f)
			continue
		}
		k2 := &kept[last[k]]
		k2.Count = max(k2.Count, 1) + max(f.Count, 1)
	}
	return kept
}

// Has reports whether a finding with the code is there.
func (r *Report) Has(code string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == code })
}

// Text prints the report for a person.
func (r *Report) Text() string {
	var b strings.Builder
	errs, warns := 0, 0
	for _, f := range r.Findings {
		switch f.Severity {
		case Error:
			errs++
		case Warning:
			warns++
		}
	}
	switch {
	case r.OK:
		fmt.Fprintf(&b, "OK  %s · %s in %s", r.Layout, plural(r.Tensors, "tensor"), plural(r.Files, "file"))
		if r.Hashed > 0 {
			b.WriteString(" · every hash agrees with the manifest")
		} else if !r.Manifest {
			b.WriteString(" · no manifest: bytes cannot be compared with what was written")
		}
		if warns > 0 {
			fmt.Fprintf(&b, " · %s", plural(warns, "warning"))
		}
	case r.Verdict == nil:
		fmt.Fprintf(&b, "NOT JUDGED  %s · %s in %s · no engine's tables tell whether it is served right", r.Layout,
			plural(r.Tensors, "tensor"), plural(r.Files, "file"))
	default:
		fmt.Fprintf(&b, "BAD  %s", plural(errs, "error"))
		if warns > 0 {
			fmt.Fprintf(&b, ", %s", plural(warns, "warning"))
		}
	}
	b.WriteByte('\n')
	if r.Cause != "" {
		fmt.Fprintf(&b, "  cause  %s\n", safetext.Line(r.Cause))
	}
	if len(r.Findings) > 0 {
		b.WriteByte('\n')
	}
	mark := map[Severity]string{Error: "✗", Warning: "!", Info: "·"}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %s %s  %s: %s", mark[f.Severity], f.Code, safetext.Line(f.Where), safetext.Line(f.Detail))
		if f.Engine != "" {
			fmt.Fprintf(&b, " [%s]", f.Engine)
		}
		b.WriteByte('\n')
		if f.Hint != "" {
			fmt.Fprintf(&b, "      hint: %s\n", safetext.Line(f.Hint))
		}
	}
	if len(r.Engines) > 0 {
		b.WriteByte('\n')
	}
	for _, e := range r.Engines {
		b.WriteString(safetext.Text(e.text()))
	}
	return b.String()
}

// text is the verdict's line.
func (v *EngineVerdict) text() string {
	var b strings.Builder
	say := map[engine.Answer]string{engine.Loads: "loads", engine.Refuses: "refuses it", engine.Differs: "loads it and computes something else",
		engine.NotJudged: "not judged"}
	fmt.Fprintf(&b, "  %-12s %s", v.Engine, say[v.Answer])
	on := v.Release
	if where := (engine.Row{Hardware: v.Hardware}).Generations(); where != "" {
		on += " on " + where
	}
	switch {
	case v.Answer != engine.Loads:
		fmt.Fprintf(&b, ": %s · %s", v.Rule, on)
	case v.Rule == "":
		fmt.Fprintf(&b, ": %s · %s", v.Parallel, on)
	default:
		fmt.Fprintf(&b, ": %s · %s · %s", v.Parallel, on, v.Rule)
	}
	if len(v.Flags) > 0 {
		fmt.Fprintf(&b, " · serve with %s", strings.Join(v.Flags, " "))
	}
	b.WriteByte('\n')
	return b.String()
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
