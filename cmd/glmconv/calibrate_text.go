package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/calib/corpus"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// calibrationIDs are the sequences that the flags ask for.
func calibrationIDs(c *cli.Context, cfg *glm.Config, dir string) ([][]int, error) {
	if name := c.String("token-ids"); name != "" {
		ids, err := readTokenIDs(name)
		if err != nil {
			return nil, err
		}
		return calib.Take(cfg, ids, c.Int("tokens"))
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return nil, tokenizerError(dir, err)
	}
	if c.String("text") == "" {
		return builtInIDs(c, cfg, tok)
	}
	docs, err := calibrationText(c.Context, c.String("text"), dir, tok)
	if err != nil {
		return nil, err
	}
	seqs, err := calib.Cut(cfg, docs, c.Int("tokens"), c.Int("seq-len"))
	if err == nil && len(seqs) == 0 {
		err = fmt.Errorf("%s: holds no text", c.String("text"))
	}
	return seqs, err
}

// builtInIDs are sequences of the built-in calibration corpus.
func builtInIDs(c *cli.Context, cfg *glm.Config, tok *tokenizer.Tokenizer) ([][]int, error) {
	var docs [][]int
	for _, d := range corpus.Documents() {
		ids, err := tok.EncodeContext(c.Context, d)
		if err != nil {
			return nil, err
		}
		docs = append(docs, ids)
	}
	seqs, err := calib.Cut(cfg, docs, c.Int("tokens"), c.Int("seq-len"))
	if err == nil {
		fmt.Fprintf(c.App.ErrWriter, "note: without --text the built-in corpus %s is read; text of the kind that the model will serve does better\n", corpus.Name)
	}
	return seqs, err
}

// calibrationText reads documents and conversations and returns their token ids.
// Lines with "messages" go through the checkpoint's chat template, as they would
// be served.
func calibrationText(ctx context.Context, name, dir string, tok *tokenizer.Tokenizer) (docs [][]int, err error) {
	data, err := fsx.ReadRegular(name, fsx.MaxInput)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte(`{"`)) {
		ids, err := tok.EncodeContext(ctx, string(data))
		return [][]int{ids}, err
	}
	var tmpl *chat.Template
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var d struct {
			Text            *string
			Messages, Tools json.RawMessage
		}
		err := json.Unmarshal(lines.Bytes(), &d)
		switch {
		case err != nil || d.Text == nil && d.Messages == nil:
			return nil, fmt.Errorf("%s: line %d is no JSON object with \"text\" or \"messages\"", name, n)
		case d.Messages == nil:
			ids, err := tok.EncodeContext(ctx, *d.Text)
			if err != nil {
				return nil, err
			}
			docs = append(docs, ids)
			continue
		}
		if tmpl == nil {
			if tmpl, err = chat.Load(dir); err != nil {
				return nil, err
			}
		}
		ids, err := conversationIDs(ctx, tmpl, tok, d.Messages, d.Tools)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", name, n, err)
		}
		docs = append(docs, ids)
	}
	return docs, lines.Err()
}

// conversationIDs are the ids of a conversation under the chat template.
func conversationIDs(ctx context.Context, tmpl *chat.Template, tok *tokenizer.Tokenizer, messages, tools json.RawMessage) ([]int, error) {
	var req chat.Request
	var err error
	if req.Messages, err = chat.ParseMessages(messages); err != nil {
		return nil, err
	}
	if tools != nil {
		if req.Tools, err = chat.ParseTools(tools); err != nil {
			return nil, err
		}
	}
	p, err := tmpl.Render(ctx, req)
	if err != nil {
		return nil, err
	}
	return p.EncodeContext(ctx, tok)
}
