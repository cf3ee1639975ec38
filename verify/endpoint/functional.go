package endpoint

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
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

func (t *trying) health(ctx context.Context) (string, string) {
	if code := t.c.status(ctx, "/health"); code != http.StatusOK && !(code == http.StatusNotFound && t.s.Kind == LlamaPython) {
		return failed, fmt.Sprintf("/health answers %d", code)
	}
	return passed, "the server says that it is well"
}

func (t *trying) models(ctx context.Context) (string, string) {
	var list models
	if err := t.c.get(ctx, "/v1/models", &list); err != nil {
		return failed, err.Error()
	}
	if len(list.Data) == 0 || list.Data[0].ID == "" {
		return failed, "no model is named"
	}
	return passed, "serves " + list.Data[0].ID
}

func (t *trying) completion(ctx context.Context, body map[string]any) (string, string) {
	a, err := t.ask(ctx, "/v1/completions", body)
	switch {
	case err != nil:
		return failed, err.Error()
	case a.Choices[0].Text == "":
		return failed, "the text is empty"
	case a.Usage == nil:
		return failed, "no usage"
	case a.Usage.Made == 16 && a.reason() == "length":
		return passed, "16 tokens: max_completion_tokens is not honoured on this route, max_tokens is what counts here"
	case a.Usage.Made > 50 || a.Usage.Made < 50 && a.reason() != "stop":
		return failed, fmt.Sprintf("%d tokens where 50 were asked for, finish_reason %s", a.Usage.Made, a.reason())
	}
	return passed, fmt.Sprintf("%d tokens, max_completion_tokens is honoured", a.Usage.Made)
}

func (t *trying) greet(ctx context.Context, body map[string]any) (string, string) {
	a, err := t.ask(ctx, chatPath, body)
	switch {
	case err != nil:
		return failed, err.Error()
	case a.content()+a.reasoning() == "":
		return failed, "the answer is empty: does the template end with a generation prompt?"
	}
	return passed, fmt.Sprintf("%d tokens, finish_reason %s", a.made(), a.reason())
}

func (a *chatAnswer) made() int {
	if a.Usage == nil {
		return 0
	}
	return a.Usage.Made
}

func (t *trying) streams(ctx context.Context, body map[string]any) (string, string) {
	whole, err := t.ask(ctx, chatPath, body)
	if err != nil {
		return failed, err.Error()
	}
	b := map[string]any{"stream": true}
	for k, v := range body {
		b[k] = v
	}
	content, reasoning, events, err := t.stream(ctx, b)
	switch {
	case err != nil:
		return failed, err.Error()
	case content != whole.content() || reasoning != whole.reasoning():
		return failed, "the pieces of the stream do not make the answer without one"
	}
	return passed, fmt.Sprintf("%d events make the same answer", events)
}

// stream reads an answer in pieces.
func (t *trying) stream(ctx context.Context, body map[string]any) (content, reasoning string, events int, err error) {
	a, err := t.c.ask(ctx, http.MethodPost, chatPath, body, nil)
	if err != nil {
		return "", "", 0, err
	}
	if a.status != http.StatusOK {
		return "", "", 0, t.c.read(chatPath, a, nil)
	}
	done := false
	for line := range bytes.Lines(a.body) {
		data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:"))
		if !ok {
			continue
		}
		if data = bytes.TrimSpace(data); string(data) == "[DONE]" {
			done = true
			break
		}
		var m struct {
			Choices []struct {
				Delta struct {
					Content   string `json:"content"`
					Reasoning string `json:"reasoning"`
					Older     string `json:"reasoning_content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return "", "", 0, err
		}
		events++
		for _, c := range m.Choices {
			content += c.Delta.Content
			if c.Delta.Reasoning != "" {
				reasoning += c.Delta.Reasoning
			} else {
				reasoning += c.Delta.Older
			}
		}
	}
	if !done {
		return "", "", 0, errors.New("the stream ends without [DONE]")
	}
	return content, reasoning, events, nil
}

func (t *trying) thinks(ctx context.Context, body map[string]any) (string, string) {
	a, err := t.ask(ctx, chatPath, body)
	switch {
	case err != nil:
		return failed, err.Error()
	case strings.Contains(a.content(), "<think>") || strings.Contains(a.content(), "</think>"):
		return failed, "the tags are in the content: no reasoning parser (glm45)"
	case a.reasoning() == "":
		return none, "not judged: the model did not think"
	}
	return passed, "the reasoning has its own field"
}

func (t *trying) thinksNot(ctx context.Context, body map[string]any) (string, string) {
	a, err := t.ask(ctx, chatPath, body)
	switch {
	case err != nil:
		return failed, err.Error()
	case a.reasoning() != "":
		return failed, "it thinks although it was told not to: enable_thinking does not reach the template"
	case strings.Contains(a.content(), "<think>"):
		return failed, "the tags are in the content"
	}
	return passed, "no reasoning"
}

func (t *trying) calls(ctx context.Context, body map[string]any) (string, string) {
	a, err := t.ask(ctx, chatPath, body)
	if err != nil {
		return failed, err.Error() + " (vLLM: --enable-auto-tool-choice --tool-call-parser)"
	}
	if len(a.Choices[0].Message.Calls) == 0 {
		if strings.Contains(a.content(), "<tool_call>") || strings.Contains(a.content(), "<arg_key>") {
			return failed, "the call is in the content: another tool call parser is needed (glm45, glm47)"
		}
		return none, "not judged: the model did not call the tool"
	}
	f := a.Choices[0].Message.Calls[0].Function
	var arguments map[string]any
	switch {
	case f.Name != "get_weather":
		return failed, "it calls " + f.Name
	case json.Unmarshal([]byte(f.Arguments), &arguments) != nil:
		return failed, "the arguments are no JSON object: " + f.Arguments
	case a.reason() != "tool_calls":
		return failed, "finish_reason is " + a.reason()
	}
	return passed, f.Name + " " + f.Arguments
}

func (t *trying) answers(ctx context.Context, body map[string]any) (string, string) {
	a, err := t.ask(ctx, chatPath, body)
	switch {
	case err != nil:
		return failed, err.Error()
	case a.made() == 0 && a.content()+a.reasoning() == "":
		return failed, "the answer is empty"
	}
	return passed, fmt.Sprintf("the result of a tool is taken, %d tokens", a.made())
}

// square is a picture of one colour as a message part.
func square(c color.RGBA) map[string]any {
	im := image.NewRGBA(image.Rect(0, 0, 112, 112))
	for i := 0; i < len(im.Pix); i += 4 {
		im.Pix[i], im.Pix[i+1], im.Pix[i+2], im.Pix[i+3] = c.R, c.G, c.B, c.A
	}
	var b bytes.Buffer
	_ = png.Encode(&b, im) // to memory
	return map[string]any{"type": "image_url", "image_url": map[string]any{"url": "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())}}
}

func (t *trying) looks(ctx context.Context, body map[string]any) (string, string) {
	if t.v != nil && t.v.served.Config().Vision == nil {
		return none, "not judged: the model has no vision tower"
	}
	a, err := t.ask(ctx, chatPath, body)
	if err != nil {
		return failed, err.Error()
	}
	said := strings.ToLower(a.content())
	if strings.Contains(said, "red") && strings.Contains(said, "blue") {
		return passed, "two coloured squares are told apart"
	}
	return none, "not judged: pictures are taken, and the answer names no colours: " + said
}

func (t *trying) stops(ctx context.Context, body map[string]any) (string, string) {
	b := map[string]any{"max_tokens": 50}
	for k, v := range body {
		b[k] = v
	}
	a, err := t.ask(ctx, "/v1/completions", b)
	if err != nil {
		return failed, err.Error()
	}
	text := a.Choices[0].Text
	runes := []rune(text)
	if len(runes) < 4 || strings.ContainsRune(text, '\ufffd') {
		return none, "not judged: the text is too short"
	}
	stop := string(runes[len(runes)/2 : len(runes)/2+2])
	b["stop"] = []any{stop}
	if a, err = t.ask(ctx, "/v1/completions", b); err != nil {
		return failed, err.Error()
	}
	want, _, _ := strings.Cut(text, stop)
	switch {
	case a.Choices[0].Text == want+stop:
		return passed, "the text stops behind the string"
	case a.Choices[0].Text != want:
		return failed, "the text does not end before the stop string"
	case a.reason() != "stop":
		return failed, "finish_reason is " + a.reason()
	}
	return passed, "the text ends before the string, finish_reason stop"
}

func (t *trying) usage(ctx context.Context, body map[string]any) (string, string) {
	a, err := t.ask(ctx, chatPath, body)
	switch {
	case err != nil:
		return failed, err.Error()
	case a.Usage == nil:
		return failed, "no usage"
	case a.Usage.Prompt+a.Usage.Made != a.Usage.Total || a.Usage.Prompt < 1:
		return failed, fmt.Sprintf("%d + %d are not %d", a.Usage.Prompt, a.Usage.Made, a.Usage.Total)
	}
	return passed, fmt.Sprintf("%d + %d tokens", a.Usage.Prompt, a.Usage.Made)
}
