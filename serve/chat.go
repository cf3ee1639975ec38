package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/glmconv/glmconv/runtime/chat"
)

// chatRequest is a body of /v1/chat/completions.
type chatRequest struct {
	sampling
	Messages json.RawMessage `json:"messages"`
	Tools    json.RawMessage `json:"tools"`
	Choice   any             `json:"tool_choice"`
	Parallel *bool           `json:"parallel_tool_calls"`
	Kwargs   map[string]any  `json:"chat_template_kwargs"`
	Effort   any             `json:"reasoning_effort"`
	Logprobs bool            `json:"logprobs"`
	Top      int             `json:"top_logprobs"`
	items    []chat.Item     // pictures and clips, in the order of the messages
}

// render makes the prompt of a conversation.
func (s *Server) render(ctx context.Context, q *chatRequest) (chat.Prompt, []*chat.Object, error) {
	if s.tmpl == nil {
		return chat.Prompt{}, nil, bad("messages", "the checkpoint has no chat template that can be used; /v1/completions takes prompts as they are")
	}
	msgs, err := chat.ParseMessages(q.Messages)
	if err != nil {
		return chat.Prompt{}, nil, bad("messages", "%v", err)
	}
	q.items = chat.Media(msgs)
	req := chat.Request{Messages: msgs, Extra: map[string]any{}}
	if len(q.Tools) > 0 && string(q.Tools) != "null" && q.Choice != "none" {
		if req.Tools, err = chat.ParseTools(q.Tools); err != nil {
			return chat.Prompt{}, nil, bad("tools", "%v", err)
		}
	}
	if q.Effort != nil {
		req.Extra["reasoning_effort"] = q.Effort
	}
	for k, v := range q.Kwargs {
		switch v.(type) {
		case map[string]any, []any:
			return chat.Prompt{}, nil, bad("chat_template_kwargs", "chat_template_kwargs.%s must be a plain value", k)
		}
		req.Extra[k] = v
	}
	if on, ok := req.Extra["enable_thinking"].(bool); ok {
		delete(req.Extra, "enable_thinking")
		req.Thinking = chat.ThinkingOff
		if on {
			req.Thinking = chat.ThinkingOn
		}
	}
	p, err := s.tmpl.Render(ctx, req)
	if err != nil {
		return chat.Prompt{}, nil, bad("messages", "%v", err)
	}
	return p, req.Tools, nil
}

func newID(prefix string) string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) error {
	var q chatRequest
	if err := decode(r, &q); err != nil {
		return err
	}
	if err := errors.Join(s.known(&q.Model), q.check()); err != nil {
		return err
	}
	if q.PromptProbs != nil {
		return bad("prompt_logprobs", "log-probabilities of prompts are served by /v1/completions")
	}
	var top *int
	switch {
	case q.Top < 0 || q.Top > 0 && !q.Logprobs:
		return bad("top_logprobs", "top_logprobs needs logprobs, and is not negative")
	case q.Logprobs:
		top = &q.Top
	}
	p, tools, err := s.render(r.Context(), &q)
	if err != nil {
		return err
	}
	if err := s.shape(&q, p.Text(), tools); err != nil {
		return err
	}
	ids, err := p.EncodeContext(r.Context(), s.tok)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ids, media, err := s.look(ctx, &q, ids)
	if err != nil {
		return err
	}
	var jobs []*job
	for choice := range q.choices() {
		j, err := s.job(ctx, &q.sampling, ids, top, choice)
		if err != nil {
			return err
		}
		j.media = media
		jobs = append(jobs, j)
	}
	if err := s.sched.add(jobs...); err != nil {
		return err
	}
	newAnswer := func(i int) *chatAnswer {
		return &chatAnswer{s: s, index: i, parser: chat.NewParser(p.Text(), tools), read: s.reader(&q.sampling), field: s.o.ReasoningField, one: q.Parallel != nil && !*q.Parallel}
	}
	return s.converse(ctx, w, &q, jobs, newAnswer)
}

// shape reads what the answer must look like. A call that is required goes before a
// format, which says nothing about calls.
func (s *Server) shape(q *chatRequest, prompt string, tools []*chat.Object) (err error) {
	q.prompt, q.talks = prompt, true
	format, err := formatOf(q.Format)
	if err != nil {
		return err
	}
	if q.shape, err = s.choiceOf(q.Choice, tools, q.Parallel); q.shape == nil {
		q.shape = format
	}
	return err
}

// converse answers with all choices, one after the other.
func (s *Server) converse(ctx context.Context, w http.ResponseWriter, q *chatRequest, jobs []*job, newAnswer func(int) *chatAnswer) error {
	head := map[string]any{"id": newID("chatcmpl-"), "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": q.Model}
	var stream *sse
	if q.Stream {
		stream = newSSE(w)
	}
	use, choices := usage{n: len(jobs)}, []any{}
	for i, j := range jobs {
		a := newAnswer(i)
		a.head, a.stream, a.each, a.prompt, a.listed = head, stream, q.StreamOpts != nil && q.StreamOpts.Each, j.prompt, q.ReturnIDs
		if err := s.follow(ctx, j, a, stream); err != nil {
			if stream != nil && stream.begun {
				stream.end(err)
				return nil
			}
			return err
		}
		a.finish()
		use.add(i, j, a.tokens)
		use.reasoning += a.thought
		choices = append(choices, a.whole(q, j))
	}
	if stream != nil {
		if q.StreamOpts != nil && q.StreamOpts.Usage {
			m := maps.Clone(head)
			m["choices"], m["usage"] = []any{}, use.json()
			stream.send(m)
		}
		stream.end(nil)
		return nil
	}
	head["object"], head["choices"], head["usage"] = "chat.completion", choices, use.json()
	if q.ReturnIDs {
		head["prompt_token_ids"] = jobs[0].prompt
	}
	writeJSON(w, head)
	return nil
}

// listener takes the tokens of a job.
type listener interface {
	token(e event) (stop bool)
	step()                 // the tokens of a step of the model are there, and more will come
	last(e event, why any) // a token that ends the text: counted, not shown
	done(e event)
}

// follow passes a job's events on until it ends, a stop string is met, or the
// client is gone. stream is where it is streamed to, or nil.
func (s *Server) follow(ctx context.Context, j *job, l listener, stream *sse) error {
	every := s.o.Ping
	if stream == nil {
		every = 0
	}
	for {
		list := j.events.take(ctx, every, func() { stream.ping() })
		if list == nil {
			s.metrics.aborted.Add(1)
			return ctx.Err()
		}
		for _, e := range list {
			switch {
			case e.err != nil:
				return e.err
			case e.reason != "":
				s.count(j, e.reason)
				l.done(e)
				return nil
			case slices.Contains(j.stop, e.token):
				l.last(e, s.stopReason(e.token))
				continue
			}
			if l.token(e) {
				s.count(j, "stop")
				l.done(event{reason: "stop"})
				return nil
			}
			if !e.more {
				l.step()
			}
		}
	}
}

// stopReason is what vLLM calls stop_reason: the token that ended a text, null for
// the tokenizer's own end.
func (s *Server) stopReason(token int) any {
	if eos := s.model.Config().EOS; len(eos) > 0 && token == eos[0] {
		return nil
	}
	return token
}

func (s *Server) count(j *job, reason string) {
	if reason == "length" {
		s.metrics.cut.Add(1)
	} else {
		s.metrics.stopped.Add(1)
	}
	s.metrics.whole.observe(time.Since(j.arrived))
}

// chatAnswer collects one choice of an answer, or streams it.
type chatAnswer struct {
	s      *Server
	head   map[string]any
	index  int
	parser *chat.Parser
	read   *reader
	stream *sse
	field  string // of reasoning: both, reasoning, reasoning_content

	begun              bool
	held               chat.Delta // of the step that is under way
	content, reasoning string
	calls              []map[string]any
	tokens, thought    int  // thought: of reasoning
	each               bool // event has usage
	one                bool // calls behind the first are left out, as vLLM does (maybe_filter_parallel_tool_calls)
	prompt, ids        []int
	listed             bool // ids are asked for
	sent               int  // of ids
	probs, unsent      []*position
	reason             string
	why                any // stop_reason
}

// last counts a token that ends the text, as vLLM does
// (vllm/v1/engine/detokenizer.py).
func (a *chatAnswer) last(e event, why any) {
	a.why = why
	a.tokens++
	a.ids = append(a.ids, e.token)
	if e.prob != nil {
		a.probs, a.unsent = append(a.probs, e.prob), append(a.unsent, e.prob)
	}
}

func (a *chatAnswer) token(e event) bool {
	a.last(e, nil)
	d := a.parser.Add(a.read.token(e.token))
	if d.Reasoning != "" {
		a.thought++
	}
	a.hold(d)
	if a.read.hit {
		a.why = a.read.met
	}
	return a.read.hit
}

func (a *chatAnswer) done(e event) { a.reason = e.reason }

// hold keeps a piece until its step is whole.
func (a *chatAnswer) hold(d chat.Delta) {
	a.held.Reasoning += d.Reasoning
	a.held.Content += d.Content
	a.held.Calls = append(a.held.Calls, d.Calls...)
}

// step sends one message for a step, as the engines do, even where its text is
// held back or belongs to a call that is not whole. The role's leaves before the
// first.
func (a *chatAnswer) step() {
	d := a.held
	a.held = chat.Delta{}
	a.content, a.reasoning = a.content+d.Content, a.reasoning+d.Reasoning
	delta := map[string]any{}
	if d.Reasoning != "" {
		a.setReasoning(delta, d.Reasoning)
	}
	if d.Content != "" {
		delta["content"] = d.Content
	}
	var pieces []any
	for _, c := range d.Calls {
		if a.one && len(a.calls) > 0 {
			break
		}
		call := map[string]any{"id": newID("call_"), "type": "function", "function": map[string]any{"name": c.Name, "arguments": chat.Dumps(c.Arguments)}}
		piece := maps.Clone(call)
		piece["index"] = len(a.calls)
		a.calls = append(a.calls, call)
		pieces = append(pieces, piece)
	}
	if pieces != nil {
		delta["tool_calls"] = pieces
	}
	if !a.begun {
		a.send(map[string]any{"role": "assistant", "content": ""}, nil)
		a.begun = true
		if len(delta) == 0 {
			return
		}
	}
	a.send(delta, nil)
}

// setReasoning puts reasoning under the names that clients read: SGLang's and the
// published examples' reasoning_content, vLLM's reasoning.
func (a *chatAnswer) setReasoning(m map[string]any, v any) {
	for _, name := range []string{"reasoning_content", "reasoning"} {
		if a.field == name || a.field == "" || a.field == "both" {
			m[name] = v
		}
	}
}

func (a *chatAnswer) send(delta map[string]any, reason any) {
	if a.stream == nil {
		return
	}
	m := maps.Clone(a.head)
	if a.listed && !a.begun {
		m["prompt_token_ids"] = a.prompt
	}
	var probs any
	if len(a.unsent) > 0 {
		probs, a.unsent = a.logprobs(a.unsent), nil
	}
	if a.each {
		m["usage"] = map[string]any{"prompt_tokens": len(a.prompt), "completion_tokens": a.tokens, "total_tokens": len(a.prompt) + a.tokens}
	}
	c := map[string]any{"index": a.index, "delta": delta, "logprobs": probs, "finish_reason": reason}
	if reason != nil {
		c["stop_reason"] = a.why
	}
	if a.listed {
		c["token_ids"] = append([]int{}, a.ids[a.sent:]...)
		a.sent = len(a.ids)
	}
	m["choices"] = []any{c}
	a.stream.send(m)
}

// logprobs is the protocol's list of tokens with their alternatives.
func (a *chatAnswer) logprobs(list []*position) any {
	one := func(id int, v float64) map[string]any {
		text := a.s.text(id)
		codes := make([]int, 0, len(text))
		for _, c := range []byte(text) {
			codes = append(codes, int(c))
		}
		return map[string]any{"token": text, "logprob": max(v, -9999), "bytes": codes}
	}
	out := []any{}
	for _, p := range list {
		m, top := one(p.token, p.value), []any{}
		for _, t := range p.top {
			top = append(top, one(t.token, t.value))
		}
		m["top_logprobs"] = top
		out = append(out, m)
	}
	return map[string]any{"content": out}
}

// finish ends the answer: what was held back, and the reason.
func (a *chatAnswer) finish() {
	a.hold(a.parser.Add(a.read.rest()))
	d, truncated := a.parser.Finish()
	a.hold(d)
	if h := a.held; !a.begun || h.Content != "" || h.Reasoning != "" || len(h.Calls) > 0 {
		a.step()
	}
	switch {
	case truncated:
		a.reason = "length"
	case len(a.calls) > 0 && a.reason == "stop":
		a.reason = "tool_calls"
	}
	a.send(map[string]any{}, a.reason)
}

// whole is the choice in one piece.
func (a *chatAnswer) whole(q *chatRequest, _ *job) map[string]any {
	msg := map[string]any{"role": "assistant", "content": a.content, "tool_calls": []any{}}
	a.setReasoning(msg, nil)
	if a.reasoning != "" {
		a.setReasoning(msg, a.reasoning)
	}
	if len(a.calls) > 0 {
		msg["tool_calls"] = a.calls
		if a.content == "" {
			msg["content"] = nil
		}
	}
	m := map[string]any{"index": a.index, "message": msg, "logprobs": nil, "finish_reason": a.reason, "stop_reason": a.why}
	if q.Logprobs {
		m["logprobs"] = a.logprobs(a.probs)
	}
	if q.ReturnIDs {
		m["token_ids"] = a.ids
	}
	return m
}
