package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A server is a stranger: what it sends is bounded.
const (
	maxLine   = 16 << 20
	maxAnswer = 64 << 20
)

// send sends one prompt and times the answer.
func (l *Load) send(ctx context.Context, p *Prompt) Request {
	path, body := l.body(p)
	data, err := json.Marshal(body)
	if err != nil {
		return Request{Err: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(l.URL, "/")+path, bytes.NewReader(data))
	if err != nil {
		return Request{Err: err.Error()}
	}
	req.Header.Set("Content-Type", "application/json")
	if l.Key != "" {
		req.Header.Set("Authorization", "Bearer "+l.Key)
	}
	start := time.Now()
	resp, err := l.Client.Do(req)
	if err != nil {
		return Request{Err: err.Error(), Lost: true}
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return Request{Err: fmt.Sprintf("%s: %s", resp.Status, strings.TrimSpace(string(text)))}
	}
	a := answer{start: start, native: l.Backend == Native}
	if err := a.read(resp.Body); err != nil {
		return Request{Err: err.Error(), Lost: true}
	}
	return a.q
}

// body is the path and the JSON of a request.
func (l *Load) body(p *Prompt) (path string, body map[string]any) {
	body = map[string]any{}
	if l.Backend == Native {
		path = "/generate"
		if p.IDs != nil {
			body["input_ids"] = p.IDs
		} else {
			body["text"] = p.Text
		}
		body["sampling_params"] = map[string]any{"temperature": l.Temperature, "max_new_tokens": p.Out, "ignore_eos": l.IgnoreEOS}
		body["stream"] = true
	} else {
		body["model"], body["temperature"], body["stream"] = l.Model, l.Temperature, true
		body["stream_options"] = map[string]any{"include_usage": true}
		if l.IgnoreEOS {
			body["ignore_eos"] = true
		}
		switch {
		case l.Backend == Chat:
			path = "/v1/chat/completions"
			body["messages"] = p.chat()
			body["max_completion_tokens"] = p.Out
		case p.IDs != nil:
			path, body["prompt"], body["max_tokens"] = "/v1/completions", p.IDs, p.Out
		default:
			path, body["prompt"], body["max_tokens"] = "/v1/completions", p.Text, p.Out
		}
	}
	for k, v := range l.Extra {
		body[k] = v
	}
	return path, body
}

// chat are the messages of a prompt.
func (p *Prompt) chat() []any {
	if p.Messages != nil {
		return p.Messages
	}
	var content any = p.Text
	if len(p.Images) > 0 {
		parts := []any{}
		for _, u := range p.Images {
			parts = append(parts, map[string]any{"type": "image_url", "image_url": map[string]any{"url": u}})
		}
		content = append(parts, map[string]any{"type": "text", "text": p.Text})
	}
	return []any{map[string]any{"role": "user", "content": content}}
}

// answer is a stream while it is read.
type answer struct {
	start  time.Time
	last   time.Time
	native bool
	q      Request
	any    bool
	ended  bool
	tokens int // so far, native form
}

// message is what is read of an event, of either protocol.
type message struct {
	Choices []struct {
		Text  string `json:"text"`
		Delta struct {
			Content   string `json:"content"`
			Reasoning string `json:"reasoning_content"`
			Other     string `json:"reasoning"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	} `json:"usage"`
	Text string `json:"text"`
	Meta *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	} `json:"meta_info"`
	Error json.RawMessage `json:"error"`
}

// read takes a stream of server-sent events to its end.
func (a *answer) read(body io.Reader) error {
	s := bufio.NewScanner(io.LimitReader(body, maxAnswer))
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	for s.Scan() {
		data, ok := bytes.CutPrefix(s.Bytes(), []byte("data:"))
		if !ok {
			continue // comments, blank lines, other fields
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			a.ended = true
			break
		}
		now := time.Now()
		var m message
		if err := json.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("the stream holds no JSON: %w", err)
		}
		if len(m.Error) > 0 && string(m.Error) != "null" {
			return fmt.Errorf("the server says: %.300s", m.Error)
		}
		a.take(&m, now)
	}
	if err := s.Err(); err != nil {
		return err
	}
	if !a.any {
		return errors.New("the answer has no message with choices")
	}
	if !a.ended {
		return errors.New("the stream ended before [DONE]")
	}
	return nil
}

// take times one message.
func (a *answer) take(m *message, now time.Time) {
	if m.Usage != nil {
		a.q.In, a.q.Out = m.Usage.Prompt, m.Usage.Completion
	}
	steps := 1
	if a.native {
		if m.Meta == nil || m.Text == "" {
			return
		}
		a.q.In, a.q.Out, a.q.Text = m.Meta.Prompt, m.Meta.Completion, m.Text
		if a.any && m.Meta.Completion == a.tokens && a.tokens > 0 { // no new token: as in SGLang's client no gap ends here, the answer goes on
			a.q.Latency = now.Sub(a.start)
			return
		}
		steps = max(m.Meta.Completion-a.tokens, 1)
		a.tokens = m.Meta.Completion
	} else if len(m.Choices) == 0 {
		return
	} else {
		c := &m.Choices[0]
		thought, text := cmp.Or(c.Delta.Reasoning, c.Delta.Other), c.Text+c.Delta.Content
		if a.q.Thought, a.q.Text = a.q.Thought+thought, a.q.Text+text; thought+text != "" {
			a.q.messages++
		}
	}
	if !a.any {
		a.any, a.q.TTFT = true, now.Sub(a.start)
	} else {
		for range steps {
			a.q.Gaps = append(a.q.Gaps, now.Sub(a.last)/time.Duration(steps))
		}
	}
	a.last, a.q.Latency = now, now.Sub(a.start)
}
