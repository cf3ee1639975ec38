package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	Kwargs   map[string]any  `json:"chat_template_kwargs"`
	Effort   any             `json:"reasoning_effort"`
	Logprobs bool            `json:"logprobs"`
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
	if len(chat.Media(msgs)) > 0 {
		return chat.Prompt{}, nil, bad("messages", "pictures and clips are not supported by this server")
	}
	req := chat.Request{Messages: msgs, Extra: map[string]any{}}
	if len(q.Tools) > 0 && string(q.Tools) != "null" && q.Choice != "none" {
		if req.Tools, err = chat.ParseTools(q.Tools); err != nil {
			return chat.Prompt{}, nil, bad("tools", "%v", err)
		}
	}
	if q.Choice != nil && q.Choice != "auto" && q.Choice != "none" {
		return chat.Prompt{}, nil, bad("tool_choice", "tool_choice other than auto and none is not supported by this server")
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
	if err := errors.Join(s.known(q.Model), q.check()); err != nil {
		return err
	}
	if q.Logprobs || q.PromptProbs != nil {
		return bad("logprobs", "log-probabilities are served by /v1/completions")
	}
	p, tools, err := s.render(r.Context(), &q)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ids, err := p.EncodeContext(ctx, s.tok)
	if err != nil {
		return err
	}
	j, err := s.job(ctx, &q.sampling, ids, -1)
	if err != nil {
		return err
	}
	if err := s.sched.add(j); err != nil {
		return err
	}
	a := &chatAnswer{id: newID("chatcmpl-"), model: q.Model, created: time.Now().Unix(), parser: chat.NewParser(p.Text(), tools), read: s.reader(&q.sampling)}
	if q.Stream {
		a.stream = newSSE(w)
	}
	if err := s.follow(ctx, j, a); err != nil {
		return a.failed(err)
	}
	a.finish(len(j.prompt), q.StreamOpts != nil && q.StreamOpts.Usage)
	if a.stream == nil {
		writeJSON(w, a.whole(len(j.prompt)))
	}
	return nil
}

// listener takes the tokens of a job.
type listener interface {
	token(e event) (stop bool)
	done(e event)
}

// follow passes a job's events on until it ends, a stop string is met, or the
// client is gone.
func (s *Server) follow(ctx context.Context, j *job, l listener) error {
	for {
		list := j.events.take(ctx)
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
			case slices.Contains(j.stop, e.token): // not shown
				continue
			}
			if l.token(e) {
				s.count(j, "stop")
				l.done(event{reason: "stop"})
				return nil
			}
		}
	}
}

func (s *Server) count(j *job, reason string) {
	if reason == "length" {
		s.metrics.cut.Add(1)
	} else {
		s.metrics.stopped.Add(1)
	}
	s.metrics.whole.observe(time.Since(j.arrived))
}

// chatAnswer collects an answer, or streams it.
type chatAnswer struct {
	id, model string
	created   int64
	parser    *chat.Parser
	read      *reader
	stream    *sse

	begun              bool
	content, reasoning string
	calls              []map[string]any
	tokens             int
	reason             string
}

func (a *chatAnswer) token(e event) bool {
	a.tokens++
	a.give(a.parser.Add(a.read.token(e.token)))
	return a.read.hit
}

func (a *chatAnswer) done(e event) { a.reason = e.reason }

// give adds a piece, and sends it.
func (a *chatAnswer) give(d chat.Delta) {
	a.content, a.reasoning = a.content+d.Content, a.reasoning+d.Reasoning
	if !a.begun {
		a.begun = true
		a.send(map[string]any{"role": "assistant", "content": ""}, nil)
	}
	if d.Reasoning != "" {
		a.send(map[string]any{"reasoning_content": d.Reasoning, "reasoning": d.Reasoning}, nil)
	}
	if d.Content != "" {
		a.send(map[string]any{"content": d.Content}, nil)
	}
	for _, c := range d.Calls {
		call := map[string]any{"id": newID("call_"), "type": "function", "function": map[string]any{"name": c.Name, "arguments": chat.Dumps(c.Arguments)}}
		piece := map[string]any{"index": len(a.calls), "id": call["id"], "type": "function", "function": call["function"]}
		a.calls = append(a.calls, call)
		a.send(map[string]any{"tool_calls": []any{piece}}, nil)
	}
}

func (a *chatAnswer) head() map[string]any {
	return map[string]any{"id": a.id, "object": "chat.completion.chunk", "created": a.created, "model": a.model}
}

func (a *chatAnswer) send(delta map[string]any, reason any) {
	if a.stream == nil {
		return
	}
	m := a.head()
	m["choices"] = []any{map[string]any{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": reason}}
	a.stream.send(m)
}

// finish ends the answer: what was held back, the reason, the usage.
func (a *chatAnswer) finish(prompt int, usage bool) {
	a.give(a.parser.Add(a.read.rest()))
	d, truncated := a.parser.Finish()
	a.give(d)
	switch {
	case truncated:
		a.reason = "length"
	case len(a.calls) > 0 && a.reason == "stop":
		a.reason = "tool_calls"
	}
	if a.stream == nil {
		return
	}
	a.send(map[string]any{}, a.reason)
	if usage {
		m := a.head()
		m["choices"], m["usage"] = []any{}, tokenUsage(prompt, a.tokens)
		a.stream.send(m)
	}
	a.stream.end(nil)
}

// failed ends a stream that has begun; before that the error is the answer.
func (a *chatAnswer) failed(err error) error {
	if a.stream != nil && a.stream.begun {
		a.stream.end(err)
		return nil
	}
	return err
}

// whole is the answer in one piece.
func (a *chatAnswer) whole(prompt int) map[string]any {
	msg := map[string]any{"role": "assistant", "content": a.content, "reasoning_content": nil, "reasoning": nil, "tool_calls": []any{}}
	if a.reasoning != "" {
		msg["reasoning_content"], msg["reasoning"] = a.reasoning, a.reasoning
	}
	if len(a.calls) > 0 {
		msg["tool_calls"] = a.calls
		if a.content == "" {
			msg["content"] = nil
		}
	}
	m := a.head()
	m["object"] = "chat.completion"
	m["choices"] = []any{map[string]any{"index": 0, "message": msg, "logprobs": nil, "finish_reason": a.reason, "stop_reason": nil}}
	m["usage"] = tokenUsage(prompt, a.tokens)
	return m
}

func tokenUsage(prompt, made int) map[string]any {
	return map[string]any{"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
}
