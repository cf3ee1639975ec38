package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// waitReady asks who the server is until it answers.
func waitReady(ctx context.Context, l *bench.Load, patience time.Duration) (s bench.Server, err error) {
	deadline := time.Now().Add(patience)
	for {
		attempt, cancel := context.WithTimeout(ctx, max(time.Until(deadline), time.Second))
		s, err = bench.FindServer(attempt, l)
		cancel()
		var status *bench.StatusError
		switch {
		case err == nil:
			if l.Model == "" {
				l.Model = s.Model
			}
			return s, nil
		case errors.Is(err, bench.ErrFormat) || errors.As(err, &status) && status.Code != 503 && status.Code != 404:
			return s, err
		case errors.As(err, &status) && status.Code == 404 && l.Backend == bench.Native:
			return s, nil
		case ctx.Err() != nil:
			return s, ctx.Err()
		case time.Now().After(deadline):
			return s, &exitError{code: exitTemporary, err: fmt.Errorf("%s: not ready: %w", redacted(l.URL), err)}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// promptMaker makes the prompts of cells.
type promptMaker struct {
	c       *cli.Context
	backend bench.Backend
	tok     *tokenizer.Tokenizer // nil: none
	tmpl    *chat.Template       // nil: none
	list    []bench.Prompt       // of a data set that is a file
}

func newPromptMaker(c *cli.Context, backend bench.Backend, root string) (*promptMaker, error) {
	m := &promptMaker{c: c, backend: backend}
	dir := c.String("tokenizer")
	if dir == "" {
		dir = root
	}
	var err error
	if dir != "" {
		m.tok, err = tokenizer.Load(filepath.Join(dir, "tokenizer.json"))
		if err != nil && c.String("tokenizer") != "" {
			return nil, err
		}
		if m.tmpl, err = chat.Load(dir); err != nil {
			m.tmpl = nil // pictures are counted with the text's own tokens then
		}
	}
	switch d := c.String("dataset"); {
	case d == "random" || d == "image":
		if m.tok == nil && backend == bench.Chat {
			return nil, usagef("random prompts for %s need --tokenizer DIR; --backend openai takes ids", backend)
		}
		return m, nil
	default:
		return m, m.readFile(d)
	}
}

// readFile reads the prompts of a data set that is a file.
func (m *promptMaker) readFile(dataset string) error {
	path, n := m.c.String("dataset-path"), m.c.Int("num-prompts")
	data, err := fsx.ReadRegular(path, fsx.MaxInput)
	if err != nil {
		return err
	}
	if dataset == "jsonl" {
		m.list, err = bench.Lines(data, m.c.Int("output-len"))
	} else if m.tok == nil {
		return usagef("--dataset sharegpt counts tokens: --tokenizer DIR")
	} else {
		m.list, err = bench.ShareGPT(data, n, uint32(m.c.Uint64("seed")), func(s string) int { return len(m.tok.EncodeOrdinary(s)) })
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	m.list = m.list[:min(n, len(m.list))]
	return nil
}

// prompts makes the prompts of the i-th cell. Random ones differ from cell to
// cell, so that none is read from a prefix cache that another has filled.
func (m *promptMaker) prompts(cell *bench.Cell, i int) ([]bench.Prompt, error) {
	if m.list != nil {
		return slices.Clone(m.list), nil
	}
	seed := m.c.Uint64("seed") + uint64(i)
	o := bench.RandomOptions{Prompts: cell.Prompts, In: cell.In, Out: cell.Out, Ratio: m.c.Float64("range-ratio"), Prefix: m.c.Int("prefix-len"),
		SGLang: m.c.String("range-style") == "sglang", Seed: seed, Vocab: 30000}
	tok := m.tok
	if tok != nil {
		o.Vocab = min(o.Vocab, tok.VocabSize())
	}
	if m.backend != bench.Chat {
		tok = nil // ids are exact
	}
	list := bench.Random(o, tok)
	if m.c.String("dataset") != "image" {
		return list, nil
	}
	w, h, err := bench.ParseImageSize(m.c.String("image-size"))
	if err != nil {
		return nil, usagef("--image-size: %w", err)
	}
	if err := bench.AddImages(list, w, h, m.c.Int("image-count"), seed); err != nil {
		return nil, usagef("--image-count: %w", err)
	}
	for j := range list {
		if list[j].TextIn, err = m.textTokens(list[j].Text); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// textTokens counts a request without its pictures, as the chat template writes it.
func (m *promptMaker) textTokens(text string) (int, error) {
	if m.tmpl == nil {
		return len(m.tok.EncodeOrdinary(text)), nil
	}
	p, err := m.tmpl.Render(m.c.Context, chat.Request{Messages: []*chat.Object{chat.Message("user", text)}})
	if err != nil {
		return 0, err
	}
	return len(p.Encode(m.tok)), nil
}

// shape says how the prompts of a cell were made.
func (m *promptMaker) shape(cell *bench.Cell) bench.Shape {
	s := bench.Shape{Dataset: m.c.String("dataset")}
	if m.list != nil {
		return s
	}
	s.In, s.Out, s.Ratio, s.Style, s.Prefix = cell.In, cell.Out, m.c.Float64("range-ratio"), m.c.String("range-style"), m.c.Int("prefix-len")
	if s.Dataset == "image" {
		s.Images = m.c.Int("image-count")
		w, h, _ := bench.ParseImageSize(m.c.String("image-size")) // was read before
		s.Size = strconv.Itoa(h) + "x" + strconv.Itoa(w)
	}
	return s
}
