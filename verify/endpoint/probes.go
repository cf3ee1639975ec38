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
