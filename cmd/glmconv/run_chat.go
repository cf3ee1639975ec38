package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// chatFlags are the flags of run that go through the chat template.
func chatFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "chat", Usage: "put the prompt through the checkpoint's chat template"},
		&cli.StringFlag{Name: "system", Usage: "system message before the prompt, with --chat"},
		&cli.StringFlag{Name: "messages", Usage: "JSON `FILE` of earlier messages, with --chat"},
		&cli.StringFlag{Name: "tools", Usage: "JSON `FILE` of tools, with --chat"},
		&cli.BoolFlag{Name: "no-thinking", Usage: "answer without reasoning, with --chat"},
	}
}

func checkChatFlags(c *cli.Context) error {
	for _, name := range []string{"system", "messages", "tools", "no-thinking"} {
		if c.IsSet(name) && !c.Bool("chat") {
			return usagef("--%s needs --chat", name)
		}
	}
	if c.Bool("chat") && c.IsSet("prompt-ids") {
		return usagef("--chat takes --prompt, not --prompt-ids")
	}
	return nil
}

// chatPrompt renders the conversation; text of messages never becomes a marker.
// The parser reads the answer to it.
func chatPrompt(c *cli.Context, dir string, tok *tokenizer.Tokenizer) ([]int, *chat.Parser, error) {
	req, err := conversation(c)
	if err != nil {
		return nil, nil, err
	}
	tmpl, err := chat.Load(dir)
	if errors.Is(err, chat.ErrNoTemplate) {
		err = &hinted{fmt.Errorf("%s: %w", dir, err), "copy chat_template.jinja from the model's release, or leave out --chat and write the markers into --prompt"}
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := tmpl.Render(req)
	if err != nil {
		return nil, nil, err
	}
	return p.Encode(tok), chat.NewParser(p.Text(), req.Tools), nil
}

// conversation is what the flags ask the template for.
func conversation(c *cli.Context) (chat.Request, error) {
	var req chat.Request
	if c.Bool("no-thinking") {
		req.Thinking = chat.ThinkingOff
	}
	if c.IsSet("system") {
		req.Messages = append(req.Messages, chat.Message("system", c.String("system")))
	}
	read := func(flag string, parse func([]byte) ([]*chat.Object, error)) ([]*chat.Object, error) {
		if !c.IsSet(flag) {
			return nil, nil
		}
		data, err := os.ReadFile(c.String(flag))
		if err != nil {
			return nil, usagef("--%s: %w", flag, err)
		}
		list, err := parse(data)
		if err != nil {
			return nil, usagef("--%s: %s: %w", flag, c.String(flag), err)
		}
		return list, nil
	}
	earlier, err := read("messages", chat.ParseMessages)
	if err != nil {
		return req, err
	}
	req.Messages = append(req.Messages, earlier...)
	if req.Tools, err = read("tools", chat.ParseTools); err != nil {
		return req, err
	}
	if c.IsSet("prompt") {
		req.Messages = append(req.Messages, chat.Message("user", c.String("prompt")))
	}
	return req, nil
}

// answerJSON is a chat answer, taken apart.
type answerJSON struct {
	Reasoning string     `json:"reasoning"`
	Content   string     `json:"content"`
	Calls     []callJSON `json:"tool_calls"`
	Truncated bool       `json:"truncated"` // within a tool call, which is not among Calls
}

type callJSON struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// answer takes the text of a chat answer apart; nil without a parser.
func answer(p *chat.Parser, text string) *answerJSON {
	if p == nil {
		return nil
	}
	d := p.Add(text)
	rest, truncated := p.Finish()
	out := &answerJSON{Reasoning: d.Reasoning + rest.Reasoning, Content: d.Content + rest.Content, Calls: []callJSON{}, Truncated: truncated}
	for _, call := range append(d.Calls, rest.Calls...) {
		out.Calls = append(out.Calls, callJSON{call.Name, json.RawMessage(chat.Dumps(call.Arguments))})
	}
	return out
}
