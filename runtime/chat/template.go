package chat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime/chat/jinja"
)

const maxTemplate = 1 << 20

// Template is a chat template. It is safe for concurrent use.
type Template struct {
	parsed  *jinja.Template
	name    string
	source  string
	special map[string]string // special tokens by their names (eos_token), as the tokenizer's settings have them
}

// Thinking says whether the model should reason before it answers.
type Thinking int

const (
	ThinkingDefault Thinking = iota // whatever the template does when it is not told
	ThinkingOn
	ThinkingOff
)

// Request is what one prompt is made of.
type Request struct {
	Messages []*Object
	Tools    []*Object // OpenAI form
	Thinking Thinking
	// NoGeneration leaves out the opening of the assistant's turn.
	NoGeneration bool
	// Extra are further variables, such as clear_thinking or reasoning_effort.
	Extra map[string]any
}

// Load reads the template of a checkpoint: chat_template.jinja, or chat_template
// in tokenizer_config.json (a text, or a list with one named "default"). Templates
// see the special tokens of the tokenizer's settings (bos_token, eos_token, …), as
// transformers passes them.
func Load(dir string) (*Template, error) {
	t, err := load(dir)
	if err == nil {
		t.special = specialTokens(dir)
	}
	return t, err
}

// specialTokens reads those of special_tokens_map.json and tokenizer_config.json,
// which holds over it. A file that cannot be read has none.
func specialTokens(dir string) map[string]string {
	out := map[string]string{}
	for _, name := range []string{"special_tokens_map.json", "tokenizer_config.json"} {
		data, err := readBounded(dir, name, maxInput)
		if err != nil {
			continue
		}
		v, err := ParseJSON(data)
		o, _ := v.(*Object)
		if err != nil || o == nil {
			continue
		}
		for _, key := range []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"} {
			switch token := o.Get(key).(type) {
			case string:
				out[key] = token
			case *Object:
				out[key] = token.Text("content")
			}
		}
	}
	return out
}

func load(dir string) (*Template, error) {
	path := filepath.Join(dir, "chat_template.jinja")
	data, err := readBounded(dir, "chat_template.jinja", maxTemplate)
	if err == nil {
		return New(path, string(data))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path = filepath.Join(dir, "tokenizer_config.json")
	data, err = readBounded(dir, "tokenizer_config.json", maxInput)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: neither chat_template.jinja nor tokenizer_config.json", ErrNoTemplate, dir)
	} else if err != nil {
		return nil, err
	}
	v, err := ParseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o, _ := v.(*Object)
	if o == nil {
		return nil, fmt.Errorf("%s: %w: not an object", path, ErrInvalid)
	}
	switch t := o.Get("chat_template").(type) {
	case string:
		return New(path, t)
	case []any:
		for _, e := range t {
			if named, ok := e.(*Object); ok && named.Text("name") == "default" {
				return New(path, named.Text("template"))
			}
		}
	}
	return nil, fmt.Errorf("%w in %s: no chat_template.jinja, and tokenizer_config.json has no chat_template", ErrNoTemplate, dir)
}

func readBounded(dir, name string, limit int64) ([]byte, error) {
	data, err := fsx.ReadIn(dir, name, limit)
	if errors.Is(err, fsx.ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return data, err
}

// New checks a template's text; name is used in errors.
func New(name, source string) (*Template, error) {
	if len(source) > maxTemplate {
		return nil, fmt.Errorf("%s: %w: %d bytes, more than %d", name, ErrLimit, len(source), maxTemplate)
	}
	parsed, err := jinja.Parse(source)
	if err != nil {
		return nil, templateError(name, err)
	}
	return &Template{parsed: parsed, name: name, source: source}, nil
}

// Source is the template's text.
func (t *Template) Source() string { return t.source }

// templateError puts an error of the engine among those of this package.
func templateError(name string, err error) error {
	if errors.Is(err, jinja.ErrLimit) {
		return fmt.Errorf("%s: %w: %w: %w", name, ErrTemplate, ErrLimit, err)
	}
	return fmt.Errorf("%s: %w: %w", name, ErrTemplate, err)
}

// Render makes the prompt of a conversation. Errors match [ErrTemplate], with
// [ErrLimit] where a template wants too much, and the error of ctx.
func (t *Template) Render(ctx context.Context, req Request) (Prompt, error) {
	// transformers passes tools and documents even where there are none.
	vars := map[string]any{"tools": nil, "documents": nil, "add_generation_prompt": !req.NoGeneration}
	for k, v := range t.special {
		vars[k] = Native(v)
	}
	for k, v := range req.Extra {
		vars[k] = Native(v)
	}
	messages := make([]any, len(req.Messages))
	for i, m := range req.Messages {
		messages[i] = message(m)
	}
	vars["messages"] = jinja.NewList(messages...)
	if len(req.Tools) > 0 {
		tools := make([]any, len(req.Tools))
		for i, tool := range req.Tools {
			tools[i] = Native(tool)
		}
		vars["tools"] = jinja.NewList(tools...)
	}
	if req.Thinking != ThinkingDefault {
		vars["enable_thinking"] = req.Thinking == ThinkingOn
	}
	text, err := t.parsed.Render(ctx, vars, time.Now())
	if err != nil {
		return Prompt{}, templateError(t.name, err)
	}
	return Prompt{text}, nil
}
