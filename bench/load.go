package bench

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Backend is the protocol that requests are sent in.
type Backend string

// The backends.
const (
	Chat        Backend = "openai-chat" // /v1/chat/completions
	Completions Backend = "openai"      // /v1/completions
	Native      Backend = "sglang"      // /generate
)

// Backends lists them.
var Backends = []Backend{Chat, Completions, Native}

// Prompt is one request: text, or token ids for backends that take them.
type Prompt struct {
	Text string
	IDs  []int
	Out  int // tokens asked for

	ID       string   // of a question
	Answer   string   // that it should have; "": not scored
	Messages []any    // of a chat; nil: Text is the user's
	Images   []string // URLs in front of Text
	TextIn   int      // tokens of the request without its pictures; 0: not counted
	Missed   int      // tokens by which Text is longer than was asked for; negative: shorter
}

// Shape says how prompts were made, for JSON and for comparisons.
type Shape struct {
	Dataset string  // "": random
	In, Out int     // tokens asked for; 0: those of the dataset
	Ratio   float64 // of their range
	Style   string  // of the range: vllm or sglang
	Prefix  int     // tokens that all prompts begin with
	Images  int     // of a request
	Size    string  // of a picture
}

func (s *Shape) name() string {
	if s.Dataset == "" {
		return "random"
	}
	return s.Dataset
}

// Load is what a server is given.
type Load struct {
	URL         string // without a path
	Backend     Backend
	Model       string
	Key         string // of the API; "" sends none
	Prompts     []Prompt
	Rate        float64 // requests a second; 0: all at once
	Burstiness  float64 // shape of the gaps' gamma distribution; 0: 1, Poisson
	Concurrency int     // requests at once; 0: no limit
	Seed        uint64
	IgnoreEOS   bool
	Temperature float64
	Extra       map[string]any // further fields of every body
	Percentiles []int
	Limits      Limits // of goodput
	Warmup      int    // requests before the clock starts
	Shape       Shape  // of the prompts
	Client      *http.Client
	// Count is the number of tokens of a text; nil: it is not known.
	Count func(text string) int
	// Done is called after each request; it may be nil.
	Done func(done, total int)
}

// Result is a run.
type Result struct {
	Load     *Load
	Requests []Request // in the order of the prompts
	Duration time.Duration
	Scores   []Score // of the answers, where they were scored: written into glmconv's JSON
	Cell     *Cell   // of a sweep, named in JSON; nil: none

	hits   float64       // tokens that the server found in its prefix cache
	drafts *Drafts       // nil: the server drafted nothing that it counts
	gauge  bool          // it shows a length of accepted drafts
	busy   time.Duration // of this process's processors
	late   time.Duration // sum over requests: sent after their time
}

// Run sends the load and waits for every answer. A request that fails is
// counted, no error; the error is that of ctx, with what was done until then.
func Run(ctx context.Context, l Load) (*Result, error) {
	if l.Client == nil {
		l.Client = NewClient()
	}
	for i := range min(l.Warmup, len(l.Prompts)) {
		l.send(ctx, l.Prompts[i].warmup())
	}
	r := &Result{Load: &l, Requests: make([]Request, len(l.Prompts))}
	before, busy := l.counters(ctx), processorTime()
	start := time.Now()
	r.dispatch(ctx, start)
	r.Duration = time.Since(start)
	r.busy = processorTime() - busy
	if ctx.Err() == nil {
		after := l.counters(ctx)
		r.hits, r.drafts, r.gauge = after.hits-before.hits, after.since(&before), after.gauge > 0
	}
	r.count()
	return r, ctx.Err()
}

// warmup is a prompt like p that begins otherwise: a server must not find p in its
// prefix cache when it is measured.
func (p *Prompt) warmup() *Prompt {
	const lead = "Before the clock starts. "
	w := *p
	w.IDs = slices.Clone(p.IDs)
	slices.Reverse(w.IDs)
	w.Text = lead + p.Text
	part := map[string]any{"type": "text", "text": lead}
	switch {
	case len(p.Messages) == 0 && len(p.Images) > 0: // in front of the pictures
		content, _ := p.chat()[0].(map[string]any)["content"].([]any)
		w.Messages = []any{map[string]any{"role": "user", "content": append([]any{part}, content...)}}
	case len(p.Messages) > 0:
		first, _ := p.Messages[0].(map[string]any)
		if first = maps.Clone(first); first == nil {
			return &w
		}
		switch content := first["content"].(type) {
		case string:
			first["content"] = lead + content
		case []any:
			first["content"] = append([]any{part}, content...)
		}
		w.Messages = append([]any{first}, p.Messages[1:]...)
	}
	return &w
}

// dispatch sends every prompt at its time and waits for the answers.
func (r *Result) dispatch(ctx context.Context, start time.Time) {
	l := r.Load
	at := l.arrivals()
	slots := make(chan struct{}, max(l.Concurrency, 1))
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range l.Prompts {
		if wait := at[i] - time.Since(start); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		if l.Rate > 0 && l.Concurrency == 0 {
			r.late += max(time.Since(start)-at[i], 0)
		}
		if l.Concurrency > 0 {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			for ; i < len(l.Prompts); i++ {
				r.Requests[i] = Request{Err: "not sent: " + ctx.Err().Error(), Unfinished: true}
			}
			break
		}
		wg.Go(func() {
			began := time.Since(start)
			q := l.send(ctx, &l.Prompts[i])
			q.Start, q.Unfinished = began, q.Err != "" && ctx.Err() != nil
			r.Requests[i] = q
			if l.Concurrency > 0 {
				<-slots
			}
			mu.Lock()
			defer mu.Unlock()
			if done++; l.Done != nil {
				l.Done(done, len(l.Prompts))
			}
		})
	}
	wg.Wait()
}

// NewClient is an HTTP client for many streams that follows no redirects.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = 0, 4096, 0
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// arrivals are the times of dispatch: gamma gaps with shape b and scale
// 1/(rate·b), added up and scaled so that the last is n/rate; shape +Inf is a
// constant gap (vllm/benchmarks/serve.py:get_request).
func (l *Load) arrivals() []time.Duration {
	out := make([]time.Duration, len(l.Prompts))
	if l.Rate <= 0 || math.IsInf(l.Rate, 1) || len(out) == 0 {
		return out
	}
	shape := l.Burstiness
	if shape <= 0 {
		shape = 1
	}
	rnd := rand.New(rand.NewPCG(l.Seed, 0))
	sum := 0.0
	times := make([]float64, len(out))
	for i := range times {
		if math.IsInf(shape, 1) {
			sum += 1 / l.Rate
		} else {
			sum += gamma(rnd, shape) / (l.Rate * shape)
		}
		times[i] = sum
	}
	scale := float64(len(out)) / l.Rate / sum
	for i := range out {
		out[i] = time.Duration(times[i] * scale * float64(time.Second))
	}
	return out
}

// gamma draws from the gamma distribution of a shape, scale 1 (Marsaglia and
// Tsang 2000).
func gamma(rnd *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(rnd, shape+1) * math.Pow(rnd.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rnd.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if u := rnd.Float64(); math.Log(u) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
