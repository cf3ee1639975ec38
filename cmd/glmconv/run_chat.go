package main

import (
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

// chatIDs renders the conversation; text of messages never becomes a marker.
func chatIDs(c *cli.Context, dir string, tok *tokenizer.Tokenizer) ([]int, error) {
	tmpl, err := chat.Load(dir)
	if err != nil {
		return nil, err
	}
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
			return nil, err
		}
		list, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.String(flag), err)
		}
		return list, nil
	}
	earlier, err := read("messages", chat.ParseMessages)
	if err != nil {
		return nil, err
	}
	req.Messages = append(req.Messages, earlier...)
	if req.Tools, err = read("tools", chat.ParseTools); err != nil {
		return nil, err
	}
	req.Messages = append(req.Messages, chat.Message("user", c.String("prompt")))
	p, err := tmpl.Render(req)
	if err != nil {
		return nil, err
	}
	return p.Encode(tok), nil
}
