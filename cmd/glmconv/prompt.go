package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// prompt is what a text starts from.
type prompt struct {
	ids   []int
	tok   *tokenizer.Tokenizer // nil where the checkpoint has none and none is needed
	media *runtime.Media       // nil for text
	chat  *chat.Parser         // of the answer, nil without --chat
}

// readPrompt makes the prompt that the flags ask for. A tokenizer is needed
// for --prompt; with --prompt-ids an absent one only means that no text is
// shown.
func readPrompt(c *cli.Context, dir string, m *runtime.Model) (prompt, error) {
	var p prompt
	byText, byIDs := c.IsSet("prompt"), c.IsSet("prompt-ids")
	if byText == byIDs && !(c.Bool("chat") && c.IsSet("messages") && !byIDs) {
		return p, usagef("give --prompt or --prompt-ids, one of the two")
	}
	if err := checkChatFlags(c); err != nil {
		return p, err
	}
	files, err := mediaFiles(c)
	if err != nil {
		return p, err
	}
	p.tok, err = tokenizer.Load(dir)
	if err != nil {
		optional := byIDs && files.Empty() && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, tokenizer.ErrUnsupported))
		if !optional {
			return p, tokenizerError(dir, err)
		}
		p.tok = nil
	}
	if byIDs {
		p.ids, err = parseIDs(c.String("prompt-ids"))
	} else if c.Bool("chat") {
		p.ids, p.chat, err = chatPrompt(c, dir, p.tok, &files)
	} else {
		p.ids, err = p.tok.EncodeContext(c.Context, withPlaceholders(c.String("prompt"), files))
	}
	if err != nil {
		return p, err
	}
	if len(p.ids) == 0 {
		return p, usagef("the prompt is empty: there is nothing to continue")
	}
	for i, id := range p.ids {
		if id < 0 || id >= m.Config().VocabSize {
			return p, usagef("token %d of the prompt is %d, the vocabulary has %d", i, id, m.Config().VocabSize)
		}
	}
	p.ids, p.media, err = look(c.Context, dir, m, p.tok, p.ids, files)
	return p, err
}

func tokenizerError(dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &hinted{fmt.Errorf("%s has no tokenizer.json: text cannot be turned into tokens", dir),
		"copy tokenizer.json from the model's release, or give token ids instead"}
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }

// parseIDs reads token ids separated by commas or spaces, with or without the
// brackets of a JSON array.
func parseIDs(s string) ([]int, error) {
	fields := strings.FieldsFunc(strings.Trim(strings.TrimSpace(s), "[]"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
	ids := make([]int, 0, len(fields))
	for _, f := range fields {
		id, err := strconv.Atoi(f)
		if err != nil {
			return nil, usagef("--prompt-ids: %q is not a token id", f)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// stopIDs returns the end tokens: those of generation_config.json where it
// names some, as the engines do, else those of config.json.
func stopIDs(dir string, cfg *glm.Config) ([]int, error) {
	name := filepath.Join(dir, "generation_config.json")
	data, err := fsx.ReadIn(dir, "generation_config.json", fsx.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return cfg.EOS, nil
	}
	if err != nil {
		return nil, err
	}
	var g struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	bad := func(err error) error {
		return &hinted{fmt.Errorf("%s: eos_token_id: %w", name, err), "copy generation_config.json from the model's release, or use --ignore-eos"}
	}
	if err := json.Unmarshal(data, &g); err != nil {
		return nil, bad(err)
	}
	raw := bytes.TrimSpace(g.EOS)
	if len(raw) == 0 || string(raw) == "null" {
		return cfg.EOS, nil
	}
	if raw[0] != '[' {
		raw = slices.Concat([]byte("["), raw, []byte("]"))
	}
	var ids []int
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, bad(err)
	}
	return ids, nil
}
