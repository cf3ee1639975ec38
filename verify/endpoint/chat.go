package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/glmconv/glmconv/runtime/chat"
)

// conversations are what template and special tokens are proved with; text that
// looks like a marker must stay text.
var conversations = []struct{ name, messages string }{
	{"a question", `[{"role":"system","content":"You are terse."},{"role":"user","content":"What is <|user|> in a prompt?"}]`},
	{"an answer between", `[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."},{"role":"user","content":"And now?"}]`},
}

// chat compares the ids of conversations with those that the folder's own
// template makes.
func (v *verifying) chat(ctx context.Context, c *client, s *Server) (out []Probe) {
	tmpl, err := chat.Load(v.dir)
	for _, x := range conversations {
		p := Probe{Name: "template: " + x.name, State: none}
		switch {
		case errors.Is(err, chat.ErrNoTemplate):
			p.Line = "not judged: the folder has no chat template"
		case err != nil:
			p.State, p.Line = failed, err.Error()
		case v.tok == nil:
			p.Line = "not judged: the folder has no tokenizer"
		default:
			p.State, p.Line = v.rendered(ctx, c, s, tmpl, x.messages)
		}
		out = append(out, p)
	}
	return out
}

func (v *verifying) rendered(ctx context.Context, c *client, s *Server, tmpl *chat.Template, messages string) (state, line string) {
	list, err := chat.ParseMessages([]byte(messages))
	if err != nil {
		return failed, err.Error()
	}
	p, err := tmpl.Render(ctx, chat.Request{Messages: list})
	if err != nil {
		return failed, err.Error()
	}
	want := p.Encode(v.tok)
	got, err := c.prompt(ctx, s, json.RawMessage(messages))
	var no *refusal
	switch {
	case errors.As(err, &no) && (no.status == http.StatusNotFound || no.status == http.StatusMethodNotAllowed):
		return none, "not judged: the server tells no ids of a conversation"
	case err != nil:
		return failed, err.Error()
	case got == nil:
		return none, "not judged: the server tells no ids of a conversation"
	case equal(got, want):
		return passed, fmt.Sprintf("the same %d ids as the folder's template makes", len(want))
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	return failed, fmt.Sprintf("%d ids where the folder's template makes %d, other from place %d on: another template, or text that became markers", len(got), len(want), at)
}

// prompt asks a server for the ids of a conversation.
func (c *client) prompt(ctx context.Context, s *Server, messages json.RawMessage) ([]int, error) {
	if s.Kind == VLLM || s.Kind == Glmconv {
		var out struct {
			IDs []int `json:"prompt_token_ids"`
		}
		err := c.post(ctx, "/v1/chat/completions", map[string]any{"model": s.Model, "messages": messages, "max_tokens": 1, "temperature": 0, "return_token_ids": true}, &out, nil)
		if err == nil && len(out.IDs) > 0 {
			return out.IDs, nil
		}
	}
	var out struct {
		Tokens []int `json:"tokens"`
	}
	err := c.post(ctx, "/tokenize", map[string]any{"model": s.Model, "messages": messages}, &out, nil)
	return out.Tokens, err
}
