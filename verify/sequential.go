package verify

import (
	"slices"

	"github.com/glmconv/glmconv/verify/stats"
)

// Stopped says that a comparison ended before it had read all of its tokens,
// because those it had read decide (docs/facts/verification.md 1.8).
type Stopped struct {
	Sequences int    `json:"sequences"` // that were read
	Planned   int    `json:"planned"`
	Rule      string `json:"rule"` // "pass": the always-valid upper bound is under a third of the tolerance; "fail": the lower one is above it
}

// enough tells whether rows decide without the rest of the tokens, by bounds
// that may be looked at as often as one likes. It is asked between batches of
// sequences only: inside of one, weights that are there anyway would be wasted.
// The rows are a prefix of the corpus and the bounds have no chance in them, so
// the answer depends on nothing but them.
func (r *Result) enough(rows []stats.Row) string {
	rows = counted(rows)
	lower, upper := stats.Sequential(rows)
	switch {
	case lower > r.Tol:
		return "fail"
	case upper < r.Tol/3 && len(r.Failed) == 0:
		trial := Result{Verdict: Pass, Tol: r.Tol, Profile: r.Profile}
		if trial.judgeLogits(rows); trial.Verdict == Pass && len(trial.Failed) == 0 {
			return "pass"
		}
	}
	return ""
}

// counted are the rows that statistics count.
func counted(rows []stats.Row) []stats.Row {
	return slices.DeleteFunc(slices.Clone(rows), func(x stats.Row) bool { return x.Pos < skip })
}
