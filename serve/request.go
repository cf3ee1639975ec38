package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/glmconv/glmconv/runtime/grammar"
	"github.com/glmconv/glmconv/runtime/spec"
)

// sampling are the fields that both routes share. What is not served is read
// too, so that it can be refused.
type sampling struct {
	Model       string   `json:"model"`
	MaxTokens   *int     `json:"max_tokens"`
	MaxNew      *int     `json:"max_completion_tokens"`
	Temperature *float64 `json:"temperature"`
	TopP        *float64 `json:"top_p"`
	TopK        *int     `json:"top_k"`
	Seed        *int64   `json:"seed"`
	Stop        any      `json:"stop"`
	StopIDs     []int    `json:"stop_token_ids"`
	IgnoreEOS   bool     `json:"ignore_eos"`
	Stream      bool     `json:"stream"`
	StreamOpts  *struct {
		Usage bool `json:"include_usage"`
		Each  bool `json:"continuous_usage_stats"`
	} `json:"stream_options"`

	N            *int               `json:"n"`
	BestOf       *int               `json:"best_of"`
	MinP         *float64           `json:"min_p"`
	MinTokens    int                `json:"min_tokens"`
	Presence     float64            `json:"presence_penalty"`
	Frequency    float64            `json:"frequency_penalty"`
	Repetition   *float64           `json:"repetition_penalty"`
	Bias         map[string]float64 `json:"logit_bias"`
	Format       json.RawMessage    `json:"response_format"`
	PromptProbs  *int               `json:"prompt_logprobs"`
	ReturnIDs    bool               `json:"return_token_ids"`
	AsIDs        bool               `json:"return_tokens_as_token_ids"`
	stopTexts    []string
	defaultLimit int

	shape  *grammar.Expr // of the answer; nil: free
	prompt string        // its end says where the answer begins
	talks  bool          // reasoning may come before the answer
}

// maxChoices bounds n.
const maxChoices = 16

// choices is n.
func (q *sampling) choices() int {
	if q.N == nil {
		return 1
	}
	return *q.N
}

// check refuses what is out of range, and what is not served.
func (q *sampling) check() error {
	inRange := func(name string, v *float64, lo, hi float64) error {
		if v != nil && !(*v >= lo && *v <= hi) {
			return bad(name, "%s must be from %g to %g", name, lo, hi)
		}
		return nil
	}
	if err := inRange("temperature", q.Temperature, 0, 100); err != nil {
		return err
	}
	if err := inRange("top_p", q.TopP, 0, 1); err != nil {
		return err
	}
	if q.N != nil && (*q.N < 1 || *q.N > maxChoices) {
		return bad("n", "n must be from 1 to %d", maxChoices)
	}
	if q.BestOf != nil && *q.BestOf != 1 {
		return bad("best_of", "best_of is not supported by this server")
	}
	if q.StreamOpts != nil && !q.Stream {
		return bad("stream_options", "stream_options without stream")
	}
	if q.PromptProbs != nil && q.Stream {
		return bad("prompt_logprobs", "prompt_logprobs and stream exclude each other")
	}
	return q.readStop()
}

func (q *sampling) readStop() error {
	switch v := q.Stop.(type) {
	case nil:
	case string:
		q.stopTexts = []string{v}
	case []any:
		for _, x := range v {
			t, ok := x.(string)
			if !ok {
				return bad("stop", "stop must be a string or a list of strings")
			}
			q.stopTexts = append(q.stopTexts, t)
		}
	default:
		return bad("stop", "stop must be a string or a list of strings")
	}
	if len(q.stopTexts) > 4 {
		return bad("stop", "at most four stop strings")
	}
	for _, t := range q.stopTexts {
		if t == "" {
			return bad("stop", "a stop string must not be empty")
		}
	}
	return nil
}

// job makes the job of a prompt; choices of one prompt have seeds that follow each
// other. logprobs is how many alternatives of each token are asked for; nil: none,
// and not the token's own log-probability.
func (s *Server) job(ctx context.Context, q *sampling, ids []int, logprobs *int, choice int) (*job, error) {
	if len(ids) == 0 {
		return nil, bad("prompt", "the prompt is empty")
	}
	if err := s.inVocabulary(ids); err != nil {
		return nil, err
	}
	room := s.o.MaxLen - len(ids)
	limit := q.defaultLimit
	if limit == 0 {
		limit = room
	}
	for _, v := range []*int{q.MaxTokens, q.MaxNew} {
		if v != nil {
			limit = *v
		}
	}
	switch {
	case limit < 0:
		return nil, bad("max_tokens", "max_tokens must not be negative")
	case room < 0 || limit > room:
		return nil, bad("prompt", "the context is %d tokens: the prompt has %d, and %d were asked for", s.o.MaxLen, len(ids), limit)
	}
	o := spec.Options{Temperature: 1, Seed: rand.Uint64()}
	s.usual.fill(q)
	if q.Temperature != nil {
		o.Temperature = *q.Temperature
	}
	if q.TopP != nil {
		o.TopP = *q.TopP
	}
	if q.TopK != nil {
		o.TopK = max(*q.TopK, 0) // -1 is all
	}
	if q.Seed != nil {
		o.Seed = uint64(*q.Seed) + uint64(choice)
	}
	j := &job{ctx: ctx, prompt: ids, most: limit, sampler: spec.NewSampler(o), stop: slices.Clone(q.StopIDs), extra: s.o.Speculative}
	if q.shape != nil {
		j.form = s.form(q.shape, q.prompt, q.talks)
	}
	var err error
	if j.adjust, err = s.adjust(q, o.Temperature); err != nil {
		return nil, err
	}
	if j.top, err = s.probabilities("logprobs", logprobs); err != nil {
		return nil, err
	}
	if j.asked, err = s.probabilities("prompt_logprobs", q.PromptProbs); err != nil {
		return nil, err
	}
	if len(q.stopTexts) > 0 {
		j.watch = s.reader(q)
	}
	if !q.IgnoreEOS || j.form != nil { // a form has an end
		j.stop = append(j.stop, s.model.Config().EOS...)
	}
	return j, nil
}

// probabilities bounds how many are asked for: -1 in a request is all of the
// vocabulary, which the server must allow, as in vLLM. In a job -1 is none: n is nil.
func (s *Server) probabilities(name string, n *int) (int, error) {
	if n == nil {
		return -1, nil
	}
	want, most := *n, s.o.MaxLogprobs
	if most < 0 {
		most = s.model.Config().VocabSize
	}
	switch {
	case want < -1:
		return 0, bad(name, "%s must not be negative", name)
	case want == -1:
		want = s.model.Config().VocabSize
	}
	if want > most {
		return 0, bad(name, "%s is %d, which is greater than max allowed: %d", name, want, most)
	}
	return want, nil
}

// reader turns tokens into text: unfinished characters are held back, and
// whatever may be the beginning of a stop string.
type reader struct {
	s     *Server
	add   func(int) string
	flush func() string
	stops []string
	wait  int // tokens to come in whose text no stop string is looked for
	deaf  bool
	held  string
	hit   bool
	met   string // the stop string
}

func (s *Server) reader(q *sampling) *reader {
	d := s.tok.NewDecoder()
	return &reader{s: s, add: d.Add, flush: d.Flush, stops: q.stopTexts, wait: q.MinTokens}
}

// token returns the text that a token completes. Within min_tokens a stop string is
// text like any other; one that ends behind it counts, wherever it begins
// (vllm/v1/engine/detokenizer.py).
func (r *reader) token(id int) string {
	r.deaf = r.wait > 0
	r.wait--
	return r.text(r.add(id), false)
}

// rest returns what was held back.
func (r *reader) rest() string { return r.text(strings.ToValidUTF8(r.flush(), "\ufffd"), true) }

func (r *reader) text(piece string, last bool) string {
	if r.hit {
		return ""
	}
	all := r.held + piece
	cut := -1
	for _, stop := range r.stops {
		if i := strings.Index(all, stop); !r.deaf && i >= 0 && (cut < 0 || i < cut) {
			cut, r.met = i, stop
		}
	}
	if cut >= 0 {
		r.hit, r.held = true, ""
		return all[:cut]
	}
	keep := 0
	if !last {
		for _, stop := range r.stops {
			for n := min(len(stop)-1, len(all)); n > keep; n-- {
				if strings.HasSuffix(all, stop[:n]) {
					keep = n
					break
				}
			}
		}
	}
	r.held = all[len(all)-keep:]
	return all[:len(all)-keep]
}

// sse writes server-sent events.
type sse struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// stall is how long a reader may take nothing before it is dropped.
const stall = time.Minute

func newSSE(w http.ResponseWriter) *sse { return &sse{w: w, control: http.NewResponseController(w)} }

// send writes one event and flushes it.
func (s *sse) send(v any) {
	s.begin()
	data, ok := v.([]byte)
	if !ok {
		data, _ = json.Marshal(v)
	}
	s.write("data: %s\n\n", data)
}

// ping writes a comment, so that nothing on the way takes the stream for dead.
func (s *sse) ping() {
	s.begin()
	s.write(": ping\n\n")
}

// write writes and flushes. A write that fails ends the request's context.
func (s *sse) write(format string, args ...any) {
	_ = s.control.SetWriteDeadline(time.Now().Add(stall))
	fmt.Fprintf(s.w, format, args...)
	_ = s.control.Flush()
	_ = s.control.SetWriteDeadline(time.Time{})
}

func (s *sse) begin() {
	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
	}
}

// end closes a stream, with an error where there is one.
func (s *sse) end(err error) {
	if err != nil {
		_, data := errorBody(err)
		s.send(data)
	}
	s.send([]byte("[DONE]"))
}
