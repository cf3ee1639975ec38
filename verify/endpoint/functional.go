package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"image/color"
	"net/http"
	"strings"
)

// trying is the functional check of one server: twelve probes of what clients
// rely on, none of quality.
type trying struct {
	v   *verifying
	c   *client
	s   *Server
	out []Probe
}

// chatAnswer is what is read of a chat.
type chatAnswer struct {
	Choices []struct {
		Message struct {
			Content   *string `json:"content"`
			Reasoning string  `json:"reasoning"`
			Older     string  `json:"reasoning_content"`
			Calls     []struct {
				ID       string `json:"id"`
				Function struct {
					Name      string `json:"name"`
					Arguments string `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"`
		} `json:"message"`
		Text   string `json:"text"`
		Reason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt int `json:"prompt_tokens"`
		Made   int `json:"completion_tokens"`
		Total  int `json:"total_tokens"`
	} `json:"usage"`
}

func (a *chatAnswer) content() string {
	if len(a.Choices) == 0 || a.Choices[0].Message.Content == nil {
		return ""
	}
	return *a.Choices[0].Message.Content
}

func (a *chatAnswer) reasoning() string {
	if len(a.Choices) == 0 {
		return ""
	}
	m := a.Choices[0].Message
	return m.Reasoning + strings.Repeat(m.Older, b2i(m.Reasoning == ""))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (a *chatAnswer) reason() string {
	if len(a.Choices) == 0 {
		return ""
	}
	return a.Choices[0].Reason
}

// functional runs the probes. An error of one is its line.
func (v *verifying) functional(ctx context.Context, c *client, s *Server) []Probe {
	t := &trying{v: v, c: c, s: s}
	for i, p := range t.probes() {
		if ctx.Err() != nil {
			break
		}
		v.o.progress(i, 12, "functional")
		state, line := none, "not judged: the folder has no chat template"
		if v.templated || p.path != chatPath {
			state, line = p.run(ctx)
		}
		t.out = append(t.out, Probe{Name: p.name, State: state, Line: short(line), Curl: t.curl(p.method, p.path, p.body)})
	}
	return t.out
}

const chatPath = "/v1/chat/completions"

type probe struct {
	name, method, path string
	body               map[string]any
	run                func(ctx context.Context) (state, line string)
}

// user is a conversation of one message.
func user(content any) []any {
	return []any{map[string]any{"role": "user", "content": content}}
}

func (t *trying) chatBody(messages []any, more map[string]any) map[string]any {
	b := map[string]any{"model": t.s.Model, "messages": messages, "max_tokens": 64, "temperature": 0}
	for k, v := range more {
		b[k] = v
	}
	return b
}

func thinking(on bool) map[string]any {
	return map[string]any{"chat_template_kwargs": map[string]any{"enable_thinking": on}}
}

var weather = []any{map[string]any{"type": "function", "function": map[string]any{"name": "get_weather", "description": "Get the weather of a city",
	"parameters": map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []any{"city"}}}}}

func (t *trying) probes() []probe {
	const chat, text = chatPath, "/v1/completions"
	greeting := t.chatBody(user("Say hello."), nil)
	think := t.chatBody(user("How many legs have two dogs?"), thinking(true))
	noThink := t.chatBody(user("How many legs have two dogs?"), thinking(false))
	tools := t.chatBody(user("What is the weather in Berlin? Use the tool."), map[string]any{"tools": weather, "max_tokens": 512})
	result := t.chatBody(append(user("What is the weather in Berlin?"),
		map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{map[string]any{"id": "call_1", "type": "function",
			"function": map[string]any{"name": "get_weather", "arguments": `{"city": "Berlin"}`}}}},
		map[string]any{"role": "tool", "tool_call_id": "call_1", "content": "12 degrees, rain"}), map[string]any{"tools": weather})
	complete := map[string]any{"model": t.s.Model, "prompt": "The future of AI is", "max_completion_tokens": 50, "temperature": 0}
	look := t.chatBody(user([]any{square(color.RGBA{220, 20, 20, 255}), square(color.RGBA{20, 20, 220, 255}), map[string]any{"type": "text", "text": "Which colours are the two squares?"}}), thinking(false))
	return []probe{
		{"health", http.MethodGet, "/health", nil, t.health},
		{"models", http.MethodGet, "/v1/models", nil, t.models},
		{"completion", http.MethodPost, text, complete, func(ctx context.Context) (string, string) { return t.completion(ctx, complete) }},
		{"chat", http.MethodPost, chat, greeting, func(ctx context.Context) (string, string) { return t.greet(ctx, greeting) }},
		{"stream", http.MethodPost, chat, greeting, func(ctx context.Context) (string, string) { return t.streams(ctx, greeting) }},
		{"thinking", http.MethodPost, chat, think, func(ctx context.Context) (string, string) { return t.thinks(ctx, think) }},
		{"no thinking", http.MethodPost, chat, noThink, func(ctx context.Context) (string, string) { return t.thinksNot(ctx, noThink) }},
		{"tool call", http.MethodPost, chat, tools, func(ctx context.Context) (string, string) { return t.calls(ctx, tools) }},
		{"tool result", http.MethodPost, chat, result, func(ctx context.Context) (string, string) { return t.answers(ctx, result) }},
		{"pictures", http.MethodPost, chat, look, func(ctx context.Context) (string, string) { return t.looks(ctx, look) }},
		{"stop string", http.MethodPost, text, complete, func(ctx context.Context) (string, string) { return t.stops(ctx, complete) }},
		{"usage", http.MethodPost, chat, greeting, func(ctx context.Context) (string, string) { return t.usage(ctx, greeting) }},
	}
}

// curl is a probe as a command line.
func (t *trying) curl(method, path string, body map[string]any) string {
	if method == http.MethodGet {
		return "curl " + t.c.base + path
	}
	data, err := json.Marshal(body)
	if err != nil {
		return ""
	}
	return "curl " + t.c.base + path + " -H 'Content-Type: application/json' -d '" + strings.ReplaceAll(string(data), "'", `'\''`) + "'"
}

// Curls are the probes as command lines, for a server at base that serves model.
func Curls(base, model string) []string {
	t := &trying{c: &client{base: strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/v1")}, s: &Server{Model: model}}
	var out []string
	for _, p := range t.probes() {
		out = append(out, "# "+p.name, t.curl(p.method, p.path, p.body))
	}
	return out
}

func (t *trying) ask(ctx context.Context, path string, body any) (*chatAnswer, error) {
	var a chatAnswer
	err := t.c.post(ctx, path, body, &a, nil)
	if err == nil && len(a.Choices) == 0 {
		err = errors.New("the answer has no choices")
	}
	return &a, err
}
