package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Metric is a figure that a comparison shows.
type Metric struct {
	Name  string // as it is asked for: "output", "ttft", "median-itl", "p99-e2el"
	Title string // of its columns, with the unit
	key   string // of vLLM's JSON
	rate  bool   // so many a second: the change is that for each device
	of    func(*Figures) float64
}

// always are the figures that every comparison has.
var always = []Metric{
	{Name: "total", Title: "tok/s", key: "total_token_throughput", rate: true, of: func(f *Figures) float64 { return f.Total }},
	{Name: "tpot", Title: "TPOT (ms)", key: "mean_tpot_ms", of: func(f *Figures) float64 { return f.TPOT.Mean }},
}

// throughputs are the metrics that have no distribution.
var throughputs = []Metric{
	{Name: "output", Title: "output tok/s", key: "output_throughput", rate: true, of: func(f *Figures) float64 { return f.Output }},
	{Name: "requests", Title: "requests/s", key: "request_throughput", rate: true, of: func(f *Figures) float64 { return f.Requests }},
	{Name: "goodput", Title: "goodput (requests/s)", key: "request_goodput", rate: true, of: func(f *Figures) float64 { return f.Goodput }},
	{Name: "peak", Title: "peak output tok/s", key: "max_output_tokens_per_s", rate: true, of: func(f *Figures) float64 { return f.PeakOutput }},
	{Name: "duration", Title: "duration (s)", key: "duration", of: func(f *Figures) float64 { return f.Duration }},
}

// latencies are the figures with a distribution.
var latencies = []struct {
	name, title string
	of          func(*Figures) *Spread
}{
	{"ttft", "TTFT", func(f *Figures) *Spread { return &f.TTFT }},
	{"tpot", "TPOT", func(f *Figures) *Spread { return &f.TPOT }},
	{"itl", "ITL", func(f *Figures) *Spread { return &f.ITL }},
	{"e2el", "E2EL", func(f *Figures) *Spread { return &f.E2EL }},
}

// MetricWords are the words that ParseMetrics takes, for help and errors.
const MetricWords = "output, requests, goodput, peak, duration; ttft, tpot, itl, e2el, each the mean, or with median-, std- or p99- (any percentile) before it"

// ParseMetrics reads "ttft,p99-itl,output", without those that every comparison
// has. The error names the word that is no metric.
func ParseMetrics(s string) ([]Metric, error) {
	var out []Metric
	for word := range strings.SplitSeq(s, ",") {
		m, ok := metricOf(strings.TrimSpace(word))
		if !ok {
			return nil, fmt.Errorf("%q is no metric: %s", word, MetricWords)
		}
		same := func(o Metric) bool { return o.key == m.key }
		if !slices.ContainsFunc(always, same) && !slices.ContainsFunc(out, same) {
			out = append(out, m)
		}
	}
	return out, nil
}

func metricOf(word string) (Metric, bool) {
	for _, m := range throughputs {
		if m.Name == word {
			return m, true
		}
	}
	stat, name, found := strings.Cut(word, "-")
	if !found {
		stat, name = "mean", word
	}
	for _, l := range latencies {
		if l.name != name {
			continue
		}
		pick, ok := statistic(stat)
		if !ok {
			break
		}
		return Metric{Name: word, Title: strings.Replace(stat, "p", "P", 1) + " " + l.title + " (ms)", key: stat + "_" + name + "_ms", of: func(f *Figures) float64 { return pick(l.of(f)) }}, true
	}
	return Metric{}, false
}

// statistic is a figure of a distribution.
func statistic(word string) (func(*Spread) float64, bool) {
	switch word {
	case "mean":
		return func(s *Spread) float64 { return s.Mean }, true
	case "median":
		return func(s *Spread) float64 { return s.Median }, true
	case "std":
		return func(s *Spread) float64 { return s.Std }, true
	}
	n, err := strconv.Atoi(strings.TrimPrefix(word, "p"))
	if err != nil || !strings.HasPrefix(word, "p") || n < 1 || n > 99 || word != "p"+strconv.Itoa(n) {
		return nil, false
	}
	return func(s *Spread) float64 {
		if v, ok := s.P[n]; ok {
			return v
		}
		return math.NaN()
	}, true
}

// change is the title of that column.
func (m *Metric) change() string {
	if m.Name == always[0].Name {
		return "gain"
	}
	return "change"
}

// cell is the figure of a run; of one that failed the error stands in the first
// column.
func (m *Metric) cell(f *Figures, first bool) string {
	v := m.of(f)
	switch said := f.failed(); {
	case said != "" && first:
		return said
	case said != "" || math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
