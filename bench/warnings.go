package bench

import (
	"fmt"
	"math"
	"time"
)

// Limits of the client itself: beyond them it may be what is measured.
const (
	maxBusy = 0.7  // of one processor
	maxLate = 0.05 // of the gap between requests
)

// warnings say what makes figures mean less than they seem to.
func (r *Result) warnings(f *Figures) []string {
	var out []string
	if math.IsInf(f.Rate, 1) && f.Concurrency == 0 && f.Completed > 1 {
		out = append(out, "all requests were sent at once with no limit of concurrency: TTFT is time in the queue")
	}
	if f.Completed < 100 {
		out = append(out, "fewer than 100 requests: a 99th percentile says little")
	}
	short, asked := 0, 0
	for i := range r.Requests {
		if i < len(r.Load.Prompts) && r.Requests[i].Err == "" && r.Requests[i].counted == byUsage {
			asked++
			if r.Requests[i].Out < r.Load.Prompts[i].Out {
				short++
			}
		}
	}
	if short > 0 && !r.Load.IgnoreEOS {
		out = append(out, "answers are shorter than asked for: --ignore-eos makes them as long")
	}
	out = append(out, r.uncounted()...)
	if r.hits > 0 {
		out = append(out, fmt.Sprintf("the server read %.0f tokens of prompts from its prefix cache: TTFT is less than that of new prompts", r.hits))
	}
	if f.Drafts != nil || r.gauge {
		out = append(out, "the server drafts: ITL counts messages of several tokens, and made-up text is accepted less often than real text")
	}
	if d := r.Duration.Seconds(); d > 1 && r.busy.Seconds() > maxBusy*d {
		out = append(out, fmt.Sprintf("this client took %.0f%% of a processor: it may be what is measured", 100*r.busy.Seconds()/d))
	}
	if n := len(r.Requests); r.Load.Rate > 0 && n > 0 && r.late.Seconds()/float64(n) > maxLate/r.Load.Rate {
		out = append(out, fmt.Sprintf("requests were sent %v late on average: the rate asked for was not kept", (r.late/time.Duration(n)).Round(time.Microsecond)))
	}
	missed, most := 0, 0
	for i := range r.Load.Prompts {
		if m := r.Load.Prompts[i].Missed; m != 0 {
			missed, most = missed+1, max(most, m, -m)
		}
	}
	if missed > 0 {
		out = append(out, fmt.Sprintf("%d of %d prompts are not of the length asked for: up to %d tokens more or less; tokens counted are the server's", missed, len(r.Load.Prompts), most))
	}
	if f.Unfinished > 0 {
		out = append(out, fmt.Sprintf("interrupted: %d of %d requests have no answer, and figures are of the others", f.Unfinished, len(r.Requests)))
	}
	if f.Failed > 0 {
		out = append(out, "requests failed: "+f.FirstError)
	}
	return out
}
