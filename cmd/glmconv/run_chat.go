package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/runtime/vision"
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
// The parser reads the answer to it. What the conversation shows becomes files.
func chatPrompt(c *cli.Context, dir string, tok *tokenizer.Tokenizer, files *vision.Files) ([]int, *chat.Parser, error) {
	req, err := conversation(c, files)
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
	p, err := tmpl.Render(c.Context, req)
	if err != nil {
		return nil, nil, err
	}
	ids, err := p.EncodeContext(c.Context, tok)
	return ids, chat.NewParser(p.Text(), req.Tools), err
}

// conversation is what the flags ask the template for. Pictures and clips that
// its messages do not name are those of files, in order; what is left over
// belongs to the question.
func conversation(c *cli.Context, files *vision.Files) (chat.Request, error) {
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
		data, err := fsx.ReadRegular(c.String(flag), fsx.MaxInput)
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
	named, rest, err := shown(chat.Media(req.Messages), *files)
	if err != nil {
		return req, err
	}
	if n, m := len(rest.Images), len(rest.Videos); c.IsSet("prompt") {
		req.Messages = append(req.Messages, chat.UserMessage(n, m, c.String("prompt")))
		named.Images, named.Videos = append(named.Images, rest.Images...), append(named.Videos, rest.Videos...)
	} else if n+m > 0 {
		return req, usagef("%d pictures and clips of --image and --video have no place: --messages shows fewer, and there is no --prompt", n+m)
	}
	*files = named
	return req, nil
}

// shown finds the file of every item: the one it names, else the next of files.
func shown(items []chat.Item, files vision.Files) (named, rest vision.Files, err error) {
	named, rest = files, files
	named.Images, named.Videos = nil, nil
	for _, it := range items {
		to, from, flag := &named.Images, &rest.Images, "--image"
		if it.Video {
			to, from, flag = &named.Videos, &rest.Videos, "--video"
		}
		path := strings.TrimPrefix(it.Source, "file://")
		switch scheme, _, remote := strings.Cut(path, ":"); {
		case path == "" && len(*from) == 0:
			return named, rest, usagef("--messages shows a picture or clip without naming a file, and there is no %s for it", flag)
		case path == "":
			path, *from = (*from)[0], (*from)[1:]
		case remote && (scheme == "http" || scheme == "https" || scheme == "data"):
			return named, rest, usagef("--messages: a %s: address is not fetched: save it and name the file", scheme)
		}
		*to = append(*to, path)
	}
	return named, rest, nil
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
