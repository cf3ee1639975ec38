package bench

import (
	"math"
	"slices"
	"time"
)

// Request is what was seen of one request.
type Request struct {
	Start   time.Duration // from the first dispatch
	TTFT    time.Duration
	Gaps    []time.Duration // between messages
	Latency time.Duration
	In, Out int // tokens by the server's usage; counted here where it sends none
	Again   int // tokens of the answer's text by the load's own count; 0 where it has none
	Text    string
	Thought string // reasoning in front of Text
	Err     string // "": it succeeded

	Unfinished bool // the run was interrupted before it ended
	Lost       bool // Err is of the connection, or of what came over it

	messages int       // that had text
	counted  countedBy // Out
}

// Spread is the distribution of a latency, in milliseconds.
type Spread struct {
	Mean, Median, Std, Max float64
	P                      map[int]float64 // percentiles 90, 95, 99 and those asked for
}

// Figures are the results of one run, or what a report says of one. Absent
// figures are NaN, or -1 for counts.
type Figures struct {
	Source      string // "vllm", "sglang", "glmconv"
	Backend     string
	Model       string
	Rate        float64 // requests a second; +Inf: all at once
	Concurrency int     // limit; 0: none
	Completed   int
	Failed      int
	Unfinished  int     // when the run was interrupted
	Duration    float64 // s
	InputTokens int
	Vision      int // of them, of pictures
	OutTokens   int
	Retokenized int     // the same, counted again from the text; -1: it was not
	Requests    float64 // a second
	Input       float64 // tokens a second
	Output      float64
	Total       float64
	PeakOutput  float64
	PeakActive  float64
	Active      float64 // sum of latencies by duration
	TTFT        Spread
	TPOT        Spread
	ITL         Spread
	E2EL        Spread
	Shape       Shape    // of the prompts, as far as it is known
	Drafts      *Drafts  // nil: none
	Goodput     float64  // requests a second that meet all limits; NaN: none were set
	FirstError  string   // of failed requests
	Warnings    []string // what makes the figures mean less than they seem to
}

// spread is the distribution of values in seconds.
func spread(v []float64, percentiles []int) Spread {
	s := Spread{P: map[int]float64{}}
	for _, p := range append([]int{90, 95, 99}, percentiles...) {
		s.P[p] = 0
	}
	if len(v) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(v))
	for _, x := range v {
		s.Mean += x
	}
	s.Mean /= float64(len(v))
	for _, x := range v {
		s.Std += (x - s.Mean) * (x - s.Mean)
	}
	s.Std = 1e3 * math.Sqrt(s.Std/float64(len(v)))
	s.Mean *= 1e3
	s.Median, s.Max = 1e3*percentile(sorted, 50), 1e3*sorted[len(sorted)-1]
	for p := range s.P {
		s.P[p] = 1e3 * percentile(sorted, float64(p))
	}
	return s
}

// percentile is numpy's, linear between the two nearest of sorted values.
func percentile(sorted []float64, p float64) float64 {
	at := p / 100 * float64(len(sorted)-1)
	lo := int(at)
	if lo+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	a, b := sorted[lo], sorted[lo+1]
	return a + (b-a)*(at-float64(lo))
}

// Limits are what a good request must meet; zero: no limit.
type Limits struct{ TTFT, TPOT, E2EL time.Duration }

// Figures sums a run up.
func (r *Result) Figures() Figures {
	f := Figures{Source: "glmconv", Backend: string(r.Load.Backend), Model: r.Load.Model, Rate: r.Load.Rate, Concurrency: r.Load.Concurrency,
		Duration: r.Duration.Seconds(), Goodput: math.NaN(), Retokenized: -1}
	if f.Rate == 0 {
		f.Rate = math.Inf(1)
	}
	if r.Load.Count != nil {
		f.Retokenized = 0
	}
	var ttft, tpot, itl, e2el []float64
	var busy time.Duration
	good := 0
	for i := range r.Requests {
		q := &r.Requests[i]
		if q.Unfinished {
			f.Unfinished++
			continue
		}
		if q.Err != "" {
			f.Failed++
			if f.FirstError == "" {
				f.FirstError = q.Err
			}
			continue
		}
		f.Completed++
		f.InputTokens += q.In
		f.OutTokens += q.Out
		if r.Load.Count != nil {
			f.Retokenized += q.Again
		}
		if i < len(r.Load.Prompts) && r.Load.Prompts[i].TextIn > 0 && len(r.Load.Prompts[i].Images) > 0 {
			f.Vision += max(q.In-r.Load.Prompts[i].TextIn, 0)
		}
		busy += q.Latency
		ttft, e2el = append(ttft, q.TTFT.Seconds()), append(e2el, q.Latency.Seconds())
		each := q.each()
		if q.Out > 1 {
			tpot = append(tpot, each.Seconds())
		}
		for _, g := range q.Gaps {
			itl = append(itl, g.Seconds())
		}
		if l := r.Load.Limits; (l.TTFT == 0 || q.TTFT <= l.TTFT) && (l.TPOT == 0 || each <= l.TPOT) && (l.E2EL == 0 || q.Latency <= l.E2EL) {
			good++
		}
	}
	if f.Duration > 0 {
		f.Requests, f.Input, f.Output = float64(f.Completed)/f.Duration, float64(f.InputTokens)/f.Duration, float64(f.OutTokens)/f.Duration
		f.Total, f.Active = f.Input+f.Output, busy.Seconds()/f.Duration
		if r.Load.Limits != (Limits{}) {
			f.Goodput = float64(good) / f.Duration
		}
	}
	p := r.Load.Percentiles
	f.TTFT, f.TPOT, f.ITL, f.E2EL = spread(ttft, p), spread(tpot, p), spread(itl, p), spread(e2el, p)
	f.PeakOutput, f.PeakActive = peaks(r.Requests)
	f.Shape, f.Drafts = r.Load.Shape, r.drafts
	f.Warnings = r.warnings(&f)
	return f
}

// each is the time per output token, 0 where there is only one.
func (q *Request) each() time.Duration {
	if q.Out <= 1 {
		return 0
	}
	return (q.Latency - q.TTFT) / time.Duration(q.Out-1)
}

// peaks are the fullest second, in messages, and the most requests that touch
// one (vllm/benchmarks/serve.py:calculate_metrics).
func peaks(list []Request) (output, active float64) {
	first := time.Duration(math.MaxInt64)
	for i := range list {
		if list[i].Err == "" {
			first = min(first, list[i].Start)
		}
	}
	messages, touched := map[int]int{}, map[int]int{}
	for i := range list {
		q := &list[i]
		if q.Err != "" {
			continue
		}
		at := q.Start - first
		for s := int(at / time.Second); s <= int((at+q.Latency)/time.Second); s++ {
			touched[s]++
		}
		at += q.TTFT
		messages[int(at/time.Second)]++
		for _, g := range q.Gaps {
			at += g
			messages[int(at/time.Second)]++
		}
	}
	for _, n := range messages {
		output = max(output, float64(n))
	}
	for _, n := range touched {
		active = max(active, float64(n))
	}
	return output, active
}
