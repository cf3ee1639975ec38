package engine

import (
	"slices"
	"strings"
)

// Summary condenses the rows of one release.
type Summary struct {
	Answer   Answer   // the best of the rows
	Parallel []string // the degrees with this answer
	Hardware []string // the devices that have it at the first of them
	Rule     string
	NoDraft  string   // see Row
	Flags    []string // that each of these degrees needs
	Some     []Needed // that some of them need besides
	Others   []Rest   // the degrees with other answers
}

// Needed is a flag that some degrees need.
type Needed struct {
	Flag     string
	Parallel []string
}

// Rest is the degrees for which one rule says the same.
type Rest struct {
	Answer   Answer
	Rule     string
	Parallel []string
}

// Summarize condenses rows of one release on any devices.
func Summarize(rows []Row) Summary {
	s := Summary{Answer: rows[0].Answer}
	for _, r := range rows {
		if s.Answer.Worse(r.Answer) {
			s.Answer = r.Answer
		}
	}
	degrees := map[string][]string{}
	var flags []string
	for _, r := range rows {
		if r.Answer != s.Answer {
			i := slices.IndexFunc(s.Others, func(g Rest) bool { return g.Answer == r.Answer && g.Rule == r.Rule })
			if i < 0 {
				i = len(s.Others)
				s.Others = append(s.Others, Rest{Answer: r.Answer, Rule: r.Rule})
			}
			s.Others[i].Parallel = append(s.Others[i].Parallel, r.Parallel)
			continue
		}
		if len(s.Parallel) == 0 {
			s.Rule, s.NoDraft, s.Hardware = r.Rule, r.NoDraft, strings.Split(r.Hardware, ",")
		}
		s.Parallel = append(s.Parallel, r.Parallel)
		for _, f := range r.Flags {
			if degrees[f] == nil {
				flags = append(flags, f)
			}
			degrees[f] = append(degrees[f], r.Parallel)
		}
	}
	for _, f := range flags {
		if len(degrees[f]) == len(s.Parallel) {
			s.Flags = append(s.Flags, f)
		} else {
			s.Some = append(s.Some, Needed{f, degrees[f]})
		}
	}
	return s
}

// Generations names the devices in the words of reports.
func (s Summary) Generations() string {
	return Row{Hardware: strings.Join(s.Hardware, ",")}.Generations()
}
