package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/lazy"
)

// Scoring is how an answer is read and compared.
type Scoring string

// The ways of scoring.
const (
	Exact  Scoring = "exact"  // the text as a whole, but for white space around it
	Number Scoring = "number" // the last \boxed{}, or else the last number
	Choice Scoring = "choice" // the letter in the last \boxed{}, or behind the last "answer"
)

// Scorings lists them.
var Scorings = []Scoring{Exact, Number, Choice}

var (
	number = lazy.Regexp(`[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?`)
	letter = lazy.Regexp(`(?i)answer(?:\s+is)?\W{0,12}?\b([A-Z])\b`)
	single = lazy.Regexp(`^\W*([A-Za-z])\W*$`)
)

// boxed is what the last \boxed{} holds, braces within it in pairs.
func boxed(text string) (string, bool) {
	at := strings.LastIndex(text, `\boxed{`)
	if at < 0 {
		return "", false
	}
	rest, depth := text[at+len(`\boxed{`):], 1
	for i, c := range rest {
		switch c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return strings.TrimSpace(rest[:i]), true
			}
		}
	}
	return "", false
}

// Extract finds the answer in a text; "" where there is none.
func (s Scoring) Extract(text string) string {
	if s == Exact {
		return strings.TrimSpace(text)
	}
	inner, ok := boxed(text)
	if s == Number {
		if ok {
			text = inner
		}
		all := number().FindAllString(text, -1)
		if len(all) == 0 {
			return ""
		}
		return strings.ReplaceAll(all[len(all)-1], ",", "")
	}
	if ok {
		if m := single().FindStringSubmatch(strings.NewReplacer(`\text{`, "", "}", "").Replace(inner)); m != nil {
			return strings.ToUpper(m[1])
		}
	}
	if all := letter().FindAllStringSubmatch(text, -1); len(all) > 0 {
		return strings.ToUpper(all[len(all)-1][1])
	}
	if m := single().FindStringSubmatch(text); m != nil {
		return strings.ToUpper(m[1])
	}
	return ""
}

// Same reports whether an answer that was found is the one that is wanted.
func (s Scoring) Same(given, want string) bool {
	want = strings.TrimSpace(want)
	switch s {
	case Number:
		a, ok := new(big.Rat).SetString(given)
		b, ok2 := new(big.Rat).SetString(Number.Extract(want))
		return ok && ok2 && a.Cmp(b) == 0
	case Choice:
		return given != "" && strings.EqualFold(given, want)
	}
	return given == want
}

// Score is one answer.
type Score struct {
	ID    string `json:"id"`
	Given string `json:"given"` // "": none was found
	Right bool   `json:"right"`
	Cut   bool   `json:"cut"` // it was as long as it may be
}

// Accuracy sums scores up.
type Accuracy struct {
	Scores           []Score
	Right, None, Cut int
	Low, High        float64 // 95 % interval of the share that is right (Wilson 1927)
}

// Accuracy scores a run by the answers of its prompts; requests that failed count
// as wrong, without an answer.
func (r *Result) Accuracy(s Scoring) Accuracy {
	var list []Score
	for i := range r.Requests {
		p, q := &r.Load.Prompts[i], &r.Requests[i]
		one := Score{ID: p.ID, Given: s.Extract(q.Text), Cut: q.Err == "" && q.Out >= p.Out}
		one.Right = q.Err == "" && s.Same(one.Given, p.Answer)
		list = append(list, one)
	}
	return Sum(list)
}

// Sum sums scores up.
func Sum(list []Score) Accuracy {
	a := Accuracy{Scores: list}
	for _, one := range list {
		for _, c := range []struct {
			is   bool
			into *int
		}{{one.Right, &a.Right}, {one.Given == "", &a.None}, {one.Cut, &a.Cut}} {
			if c.is {
				*c.into++
			}
		}
	}
	a.Low, a.High = wilson(a.Right, len(a.Scores))
	return a
}

// ReadScores reads the scores of a run from glmconv's JSON. The error matches
// ErrFormat.
func ReadScores(data []byte) ([]Score, error) {
	var m struct{ Scores []Score }
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&m); err != nil || len(m.Scores) == 0 {
		return nil, fmt.Errorf("%w: no scores in it: bench --score writes them with --save-json", ErrFormat)
	}
	return m.Scores, nil
}

// wilson is the 95 % interval of a share.
func wilson(k, n int) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	const z = 1.959963984540054
	p, m := float64(k)/float64(n), float64(n)
	mid, half := p+z*z/(2*m), z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max((mid-half)/(1+z*z/m), 0), min((mid+half)/(1+z*z/m), 1)
}

// Paired compares two runs on the same questions.
type Paired struct {
	Both        int      // questions that both have
	Lost, Won   []string // ids that only the other has right, and only this one
	P           float64  // that chance gives as uneven flips or more (McNemar's exact test)
	Difference  float64  // of the shares that are right
	Uncertainty float64  // half of the 95 % interval of the difference
}

// Against pairs scores by id with those of another run.
func (a *Accuracy) Against(other []Score) Paired {
	old := map[string]bool{}
	for _, s := range other {
		old[s.ID] = s.Right
	}
	var p Paired
	for _, s := range a.Scores {
		was, ok := old[s.ID]
		if !ok {
			continue
		}
		p.Both++
		if was && !s.Right {
			p.Lost = append(p.Lost, s.ID)
		} else if !was && s.Right {
			p.Won = append(p.Won, s.ID)
		}
	}
	slices.Sort(p.Lost)
	slices.Sort(p.Won)
	b, c, n := float64(len(p.Won)), float64(len(p.Lost)), float64(max(p.Both, 1))
	p.P = mcnemar(len(p.Won), len(p.Lost))
	p.Difference = (b - c) / n
	p.Uncertainty = 1.96 * math.Sqrt(max(b+c-(b-c)*(b-c)/n, 0)) / n
	return p
}

// mcnemar is the two-sided probability of b or fewer, or c or fewer, heads of b + c.
func mcnemar(b, c int) float64 {
	n, k := b+c, min(b, c)
	sum := 0.0
	for i := range k + 1 {
		top, _ := math.Lgamma(float64(n + 1))
		x, _ := math.Lgamma(float64(i + 1))
		y, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(top - x - y - float64(n)*math.Ln2)
	}
	return min(2*sum, 1)
}

// WriteAccuracy prints scores, and how they differ from those of another run
// where there is one.
func WriteAccuracy(w io.Writer, a Accuracy, with *Paired) error {
	n := len(a.Scores)
	share := func(k int) float64 { return 100 * float64(k) / float64(max(n, 1)) }
	_, err := fmt.Fprintf(w, "accuracy %.1f%% (%d of %d), 95%% interval %.1f to %.1f; no answer %.1f%%, cut by length %.1f%%\n", share(a.Right), a.Right, n, 100*a.Low, 100*a.High, share(a.None), share(a.Cut))
	if err != nil || with == nil {
		return err
	}
	_, err = fmt.Fprintf(w, "against the other run, %d questions in common: %+.1f points ± %.1f, %d won, %d lost, p = %.3g\n", with.Both, 100*with.Difference, 100*with.Uncertainty, len(with.Won), len(with.Lost), with.P)
	for _, l := range []struct {
		name string
		ids  []string
	}{{"won", with.Won}, {"lost", with.Lost}} {
		if err == nil && len(l.ids) > 0 {
			_, err = fmt.Fprintf(w, "%s: %s\n", l.name, strings.Join(l.ids, " "))
		}
	}
	if err == nil {
		_, err = fmt.Fprintln(w, "A run of 900 questions is good to 3 points alone, and to half of that when it is paired; verify --endpoint sees what a conversion changes in 2,000 tokens.")
	}
	return err
}
