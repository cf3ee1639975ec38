package companion

import (
	"errors"
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/runtime/chat"
)

// templates compares chat templates by the prompts that they make of built-in
// conversations: another text that prints the same prompts is a note.
func (p pair) templates() ([]Difference, error) {
	a, err := chat.Load(p.source)
	if errors.Is(err, chat.ErrNoTemplate) {
		return p.addedTemplate(), nil
	}
	if err != nil {
		return nil, nil //nolint:nilerr // nothing to compare with
	}
	d := Difference{File: templateFile(p.source, p.result), Path: "chat template", Source: "there", Matters: true}
	b, err := chat.Load(p.result)
	switch {
	case errors.Is(err, chat.ErrNoTemplate):
		d.Result, d.Why = absent, "conversations have no prompt"
		return []Difference{d}, nil
	case err != nil:
		d.Result, d.Why = "not readable", err.Error()
		return []Difference{d}, nil
	}
	if normalTemplate(a.Source()) == normalTemplate(b.Source()) {
		return nil, nil
	}
	n := 0
	for _, c := range conversations() {
		x, errX := a.Render(p.ctx, c.request)
		y, errY := b.Render(p.ctx, c.request)
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		switch {
		case errX != nil && errY != nil:
			continue // not made for such conversations
		case errX != nil:
			continue
		case errY != nil:
			d.Source, d.Result, d.Why = "a prompt for "+c.name, "an error", errY.Error()
			return []Difference{d}, nil
		case x.Text() != y.Text():
			d.Source, d.Result = apart(x.Text(), y.Text())
			d.Why = "the prompt for " + c.name + " is another one"
			return []Difference{d}, nil
		}
		n++
	}
	d.Source, d.Result = firstLines(a.Source(), b.Source())
	if n == 0 {
		d.Why = "neither prints a prompt to compare"
		return []Difference{d}, nil
	}
	// Paths that no probe takes may differ: a comment cannot change a prompt,
	// anything else might.
	if withoutComments(a.Source()) == withoutComments(b.Source()) {
		d.Matters, d.Why = false, ""
		return []Difference{d}, nil
	}
	d.Why = fmt.Sprintf("the template's text differs, though the prompts of %d built-in conversations are equal", n)
	return []Difference{d}, nil
}

// addedTemplate notes a template that the source has none to compare with.
func (p pair) addedTemplate() []Difference {
	if _, err := chat.Load(p.result); errors.Is(err, chat.ErrNoTemplate) {
		return nil
	}
	return []Difference{{File: templateFile(p.result), Path: "chat template", Source: absent, Result: "there",
		Why: "whether its prompts are those of the model's publisher is not judged"}}
}

// templateFile names the file that holds the template in use.
func templateFile(dirs ...string) string {
	const file = "chat_template.jinja"
	for _, dir := range dirs {
		if raw, err := read(dir, file); err == nil && raw != nil {
			return file
		}
	}
	return "tokenizer_config.json"
}

// normalTemplate is a template's text as Jinja2 reads it: line ends are \n, and
// one at the end does not count.
func normalTemplate(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	return strings.TrimSuffix(s, "\n")
}

// withoutComments leaves out {# … #}, what trims around it aside.
func withoutComments(s string) string {
	var b strings.Builder
	s = normalTemplate(s)
	for {
		before, rest, ok := strings.Cut(s, "{#")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		_, after, ok := strings.Cut(rest, "#}")
		if !ok {
			return b.String()
		}
		s = after
	}
}

// apart shows where two texts part.
func apart(a, b string) (x, y string) {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := max(0, i-20)
	return fmt.Sprintf("%.60q", a[min(from, len(a)):]), fmt.Sprintf("%.60q", b[min(from, len(b)):])
}

func firstLines(a, b string) (x, y string) {
	p, q := strings.Split(normalTemplate(a), "\n"), strings.Split(normalTemplate(b), "\n")
	for i := range max(len(p), len(q)) {
		switch {
		case i >= len(p):
			return absent, fmt.Sprintf("line %d: %.60q", i+1, q[i])
		case i >= len(q):
			return fmt.Sprintf("line %d: %.60q", i+1, p[i]), absent
		case p[i] != q[i]:
			return fmt.Sprintf("line %d: %.60q", i+1, p[i]), fmt.Sprintf("%.60q", q[i])
		}
	}
	return "the same lines", "the same lines"
}

// conversation is a probe for templates.
type conversation struct {
	name    string
	request chat.Request
}

// conversations are probes that take the branches of the published templates:
// roles, tools and their results, thinking switched off, pictures.
func conversations() []conversation {
	user := chat.Message("user", "Where is Hamburg?")
	system := chat.Message("system", "Answer in one sentence.")
	answer := chat.Message("assistant", "<think>\nA city.\n</think>\nIn the north of Germany.")
	tools, _ := chat.ParseTools([]byte(`[{"type":"function","function":{"name":"look_up","description":"looks a place up",` +
		`"parameters":{"type":"object","properties":{"place":{"type":"string"}},"required":["place"]}}}]`))
	called, _ := chat.ParseMessages([]byte(`[{"role":"user","content":"Where is Kiel?"},` +
		`{"role":"assistant","content":"","tool_calls":[{"type":"function","id":"c1","function":{"name":"look_up","arguments":{"place":"Kiel"}}}]},` +
		`{"role":"tool","tool_call_id":"c1","content":"on the Baltic"}]`))
	picture, _ := chat.ParseMessages([]byte(`[{"role":"user","content":[{"type":"image"},{"type":"text","text":"What is it?"}]}]`))
	clip, _ := chat.ParseMessages([]byte(`[{"role":"user","content":[{"type":"video"},{"type":"text","text":"What is it?"}]}]`))
	turns := []*chat.Object{system, user, answer, chat.Message("user", "And Bremen?")}
	return []conversation{
		{"a question", chat.Request{Messages: []*chat.Object{user}}},
		{"a system message", chat.Request{Messages: []*chat.Object{system, user}}},
		{"several turns", chat.Request{Messages: turns}},
		{"thinking switched off", chat.Request{Messages: turns, Thinking: chat.ThinkingOff}},
		{"thinking switched on", chat.Request{Messages: turns, Thinking: chat.ThinkingOn}},
		{"no open turn", chat.Request{Messages: turns, NoGeneration: true}},
		{"tools", chat.Request{Messages: []*chat.Object{user}, Tools: tools}},
		{"the result of a tool", chat.Request{Messages: called, Tools: tools}},
		{"a picture", chat.Request{Messages: picture}},
		{"a clip", chat.Request{Messages: clip}},
	}
}
