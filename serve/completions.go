package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// completionRequest is a body of /v1/completions.
type completionRequest struct {
	sampling
	Prompt   json.RawMessage `json:"prompt"`
	Logprobs *int            `json:"logprobs"`
	Echo     bool            `json:"echo"`
	Suffix   *string         `json:"suffix"`
}

// prompts reads a text, texts, ids, or lists of ids.
func (s *Server) prompts(ctx context.Context, raw json.RawMessage) ([][]int, error) {
	var text string
	var texts []string
	var ids []int
	var lists [][]int
	switch {
	case json.Unmarshal(raw, &text) == nil && len(raw) > 0 && raw[0] == '"':
		texts = []string{text}
	case json.Unmarshal(raw, &ids) == nil && len(ids) > 0:
		return [][]int{ids}, nil
	case json.Unmarshal(raw, &texts) == nil && len(texts) > 0:
	case json.Unmarshal(raw, &lists) == nil && len(lists) > 0:
		return lists, nil
	default:
		return nil, bad("prompt", "prompt must be a string, token ids, or a list of either")
	}
	if len(texts) > maxPrompts {
		return nil, tooMany()
	}
	for _, t := range texts {
		ids, err := s.tok.EncodeContext(ctx, t)
		if err != nil {
			return nil, err
		}
		lists = append(lists, ids)
	}
	return lists, nil
}

// maxPrompts bounds the prompts of one request.
const maxPrompts = 256

func tooMany() error { return bad("prompt", "at most %d prompts, times n", maxPrompts) }

func (s *Server) completions(w http.ResponseWriter, r *http.Request) error {
	q := completionRequest{sampling: sampling{defaultLimit: 16}}
	if err := decode(r, &q); err != nil {
		return err
	}
	if err := errors.Join(s.known(&q.Model), q.check()); err != nil {
		return err
	}
	var err error
	if q.shape, err = formatOf(q.Format); err != nil {
		return err
	}
	list, err := s.prompts(r.Context(), q.Prompt)
	switch {
	case err != nil:
		return err
	case q.Suffix != nil && *q.Suffix != "":
		return bad("suffix", "suffix is not supported by this server")
	case q.Echo && q.Stream && q.Logprobs != nil:
		return bad("echo", "echo with logprobs and stream exclude each other")
	case len(list)*q.choices() > maxPrompts:
		return tooMany()
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var jobs []*job
	for _, ids := range list { // all are looked at before one is taken
		for choice := range q.choices() {
			j, err := s.job(ctx, &q.sampling, ids, q.Logprobs, choice)
			if err != nil {
				return err
			}
			if q.Echo {
				j.asked = max(j.asked, j.top)
			}
			jobs = append(jobs, j)
		}
	}
	if err := s.sched.add(jobs...); err != nil {
		return err
	}
	return s.complete(ctx, w, &q, jobs)
}

func (s *Server) complete(ctx context.Context, w http.ResponseWriter, q *completionRequest, jobs []*job) error {
	head := map[string]any{"id": newID("cmpl-"), "object": "text_completion", "created": time.Now().Unix(), "model": q.Model}
	choices := []any{}
	use := usage{n: q.choices()}
	var stream *sse
	if q.Stream {
		stream = newSSE(w)
	}
	for i, j := range jobs {
		a := &textAnswer{s: s, head: head, index: i, read: s.reader(&q.sampling), stream: stream, each: q.StreamOpts != nil && q.StreamOpts.Each, asked: j.prompt, asIDs: q.AsIDs, top: j.top, listed: q.ReturnIDs}
		if q.Echo {
			a.hold(s.tok.Decode(j.prompt))
		}
		if err := s.follow(ctx, j, a, stream); err != nil {
			if stream != nil && stream.begun {
				stream.end(err)
				return nil
			}
			return err
		}
		a.hold(a.read.rest())
		use.add(i, j, a.tokens)
		if stream != nil {
			a.send(a.held, a.reason)
			continue
		}
		choices = append(choices, a.choice(j, q))
	}
	if stream != nil {
		if q.StreamOpts != nil && q.StreamOpts.Usage {
			m := map[string]any{"choices": choices, "usage": use.json()}
			for k, v := range head {
				m[k] = v
			}
			stream.send(m)
		}
		stream.end(nil)
		return nil
	}
	head["choices"], head["usage"] = choices, use.json()
	writeJSON(w, head)
	return nil
}

// usage counts the tokens of an answer. Choices of one prompt count it once.
type usage struct{ n, prompt, cached, made, reasoning int }

func (u *usage) add(i int, j *job, made int) {
	if i%u.n == 0 {
		u.prompt, u.cached = u.prompt+len(j.prompt), u.cached+j.cached
	}
	u.made += made
}

func (u *usage) json() map[string]any {
	return map[string]any{"prompt_tokens": u.prompt, "completion_tokens": u.made, "total_tokens": u.prompt + u.made,
		"prompt_tokens_details": map[string]any{"cached_tokens": u.cached}, "completion_tokens_details": map[string]any{"reasoning_tokens": u.reasoning}}
}

// textAnswer collects a completion, or streams it.
type textAnswer struct {
	s      *Server
	head   map[string]any
	index  int
	read   *reader
	stream *sse
	text   string
	held   string // of the step that is under way
	ids    []int
	probs  []*position
	prompt []*position
	tokens int
	reason string
	why    any // stop_reason
	asIDs  bool
	each   bool  // event has usage
	asked  []int // the prompt
	top    int   // of the probabilities asked for; -1: none
	listed bool  // ids are asked for
	begun  bool  // a message was sent
	sent   int   // tokens whose ids and probabilities were sent
	offset int   // of the next token in the text, in characters
}

func (a *textAnswer) token(e event) bool {
	a.last(e, nil)
	a.hold(a.read.token(e.token))
	if a.read.hit {
		a.why = a.read.met
	}
	return a.read.hit
}

// last counts a token that ends the text, as vLLM and SGLang do.
func (a *textAnswer) last(e event, why any) {
	a.why = why
	a.tokens++
	a.ids = append(a.ids, e.token)
	if e.prob != nil {
		a.probs = append(a.probs, e.prob)
	}
	if e.prompt != nil {
		a.prompt = e.prompt
	}
}

func (a *textAnswer) done(e event) {
	a.reason = e.reason
	if e.prompt != nil { // nothing was generated
		a.prompt = e.prompt
	}
}

// hold keeps a piece until its step is whole; the last one goes with the reason.
func (a *textAnswer) hold(text string) {
	a.text += text
	a.held += text
}

// step sends one message for a step, as the engines do, even where its text is
// held back.
func (a *textAnswer) step() {
	if a.stream != nil {
		a.send(a.held, nil)
	}
	a.held = ""
}

func (a *textAnswer) send(text string, reason any) {
	c := map[string]any{"index": a.index, "text": text, "logprobs": nil, "finish_reason": reason}
	if reason != nil {
		c["stop_reason"] = a.why
	}
	if a.top >= 0 {
		c["logprobs"] = a.legacy(nil, false)
	}
	if a.listed {
		c["token_ids"] = append([]int{}, a.ids[a.sent:]...)
		if !a.begun {
			c["prompt_token_ids"] = a.asked
		}
	}
	a.begun, a.sent = true, len(a.ids)
	m := map[string]any{"choices": []any{c}}
	if a.each {
		m["usage"] = map[string]any{"prompt_tokens": len(a.asked), "completion_tokens": a.tokens, "total_tokens": len(a.asked) + a.tokens}
	}
	for k, v := range a.head {
		m[k] = v
	}
	a.stream.send(m)
}

// choice is the answer in one piece, with what was asked for beside it.
func (a *textAnswer) choice(j *job, q *completionRequest) map[string]any {
	c := map[string]any{"index": a.index, "text": a.text, "logprobs": nil, "finish_reason": a.reason, "stop_reason": a.why}
	if q.Logprobs != nil {
		c["logprobs"] = a.legacy(j.prompt, q.Echo)
	}
	if q.PromptProbs != nil {
		c["prompt_logprobs"] = a.s.promptProbs(a.prompt)
	}
	if q.ReturnIDs {
		c["prompt_token_ids"], c["token_ids"] = j.prompt, a.ids
	}
	return c
}

// legacy are the arrays of the older protocol, of the tokens that were not sent yet;
// with an echo the prompt's places come first, the first of them without figures.
func (a *textAnswer) legacy(prompt []int, echo bool) map[string]any {
	tokens, values, tops, offsets := []string{}, []any{}, []any{}, []int{}
	put := func(token int, p *position) {
		text := a.name(token)
		tokens, offsets = append(tokens, text), append(offsets, a.offset)
		a.offset += len([]rune(a.s.text(token)))
		if p == nil {
			values, tops = append(values, nil), append(tops, nil)
			return
		}
		top := map[string]float64{text: p.value}
		for _, t := range p.top[:min(len(p.top), max(a.top, 0))] {
			name := a.name(t.token)
			if old, ok := top[name]; !ok || t.value > old { // of tokens with one text the likeliest stands there
				top[name] = t.value
			}
		}
		values, tops = append(values, p.value), append(tops, top)
	}
	if echo {
		for i, id := range prompt {
			var p *position
			if i < len(a.prompt) {
				p = a.prompt[i]
			}
			put(id, p)
		}
	}
	for _, p := range a.probs[a.sent:] {
		put(p.token, p)
	}
	return map[string]any{"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}
}

// name is how the arrays call a token.
func (a *textAnswer) name(id int) string {
	if a.asIDs {
		return "token_id:" + strconv.Itoa(id)
	}
	return a.s.text(id)
}

func (s *Server) text(id int) string {
	d := s.tok.NewDecoder()
	return d.Add(id) + d.Flush()
}

// promptProbs is vLLM's form: by position the tokens with value, rank and text,
// the actual one among them; null for the first.
func (s *Server) promptProbs(list []*position) []any {
	out := []any{}
	for _, p := range list {
		if p == nil {
			out = append(out, nil)
			continue
		}
		m := map[string]any{}
		put := func(id, rank int, v float64) {
			m[strconv.Itoa(id)] = map[string]any{"logprob": v, "rank": rank, "decoded_token": s.text(id)}
		}
		for _, t := range p.top {
			put(t.token, t.rank, t.value)
		}
		put(p.token, p.rank, p.value)
		out = append(out, m)
	}
	return out
}
