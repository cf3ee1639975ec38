package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

func cmdRun() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "generate text in the bundled runtime",
		ArgsUsage: "DIR",
		Description: "Continues a prompt, greedily unless --temperature is given. The arithmetic is that\n" +
			"of the serving engines, whatever the checkpoint is quantised to. --prompt is taken as\n" +
			"it is: markers such as [gMASK]<sop> and <|user|> are recognised, none are added.\n" +
			"--chat puts it through the checkpoint's own chat template instead; nothing typed can\n" +
			"become a marker there, and --json takes the answer apart.\n" +
			"On a terminal control characters of the answer are shown as \\u001b and the like; a file\n" +
			"or a pipe gets them as they are.\n" +
			"--speculative K drafts K tokens a pass with the MTP layer; the text stays the same.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "prompt", Usage: "text to continue"},
			&cli.StringFlag{Name: "prompt-ids", Usage: "token ids to continue, separated by commas or spaces; needs no tokenizer"},
			&cli.IntFlag{Name: "max-tokens", Value: 64, Usage: "tokens to generate at most"},
			&cli.Float64Flag{Name: "temperature", Usage: "0 takes the most likely token, 1 samples as the model says"},
			&cli.IntFlag{Name: "top-k", Usage: "sample from the `K` most likely tokens; 0: all"},
			&cli.Float64Flag{Name: "top-p", Value: 1, Usage: "sample from the fewest tokens of this probability"},
			&cli.Uint64Flag{Name: "seed", Usage: "of sampling: the same seed gives the same text"},
			&cli.BoolFlag{Name: "ignore-eos", Usage: "go on after an end token"},
			&cli.IntFlag{Name: "speculative", Usage: "drafts of the MTP layer in each pass, 0 to 16"},
			&cli.BoolFlag{Name: "mtp-pre-norm", Usage: "carry the draft state before shared_head.norm, as vLLM does for GLM-4.x"},
			jsonFlag(),
		}, append(append(mediaFlags(), chatFlags()...), runtimeFlags()...)...),
		Action: runRun,
	}
}

// runtimeFlags are the flags of commands that compute.
func runtimeFlags() []cli.Flag {
	return []cli.Flag{workersFlag("computing")}
}

func runtimeOptions(c *cli.Context) (runtime.Options, error) {
	if c.Int("workers") < 0 {
		return runtime.Options{}, usagef("--workers cannot be negative")
	}
	return runtime.Options{Threads: c.Int("workers")}, nil
}

func runRun(c *cli.Context) error {
	args, err := paths(c, "DIR")
	if err != nil {
		return err
	}
	o, err := generateOptions(c)
	if err != nil {
		return err
	}
	ro, err := runtimeOptions(c)
	if err != nil {
		return err
	}
	m, err := runtime.Load(args[0], ro)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	p, err := readPrompt(c, args[0], m)
	if err != nil {
		return err
	}
	o.Media = p.media
	if room := m.Config().MaxPositions - len(p.ids); m.Config().MaxPositions > 0 && o.MaxTokens > room {
		if room <= 0 {
			return usagef("the prompt has %d tokens, the model can read %d", len(p.ids), m.Config().MaxPositions)
		}
		o.MaxTokens = room
	}
	if !c.Bool("ignore-eos") {
		if o.Stop, err = stopIDs(args[0], m.Config()); err != nil {
			return err
		}
	}
	var print func() error
	if !c.Bool("json") {
		o.Token, print = streamTo(c, p.tok, o.Stop)
	}
	out, err := spec.Generate(c.Context, m, p.ids, o)
	if err != nil {
		return err
	}
	if print != nil {
		return print()
	}
	return writeJSON(c, runResult(p, out))
}

func generateOptions(c *cli.Context) (spec.Options, error) {
	o := spec.Options{MaxTokens: c.Int("max-tokens"), Temperature: c.Float64("temperature"), TopK: c.Int("top-k"), TopP: c.Float64("top-p"),
		Seed: c.Uint64("seed"), Drafts: c.Int("speculative"), PreNorm: c.Bool("mtp-pre-norm")}
	switch {
	case o.MaxTokens < 1:
		return o, usagef("--max-tokens must be at least 1")
	case !(o.Temperature >= 0) || o.Temperature > 1e6:
		return o, usagef("--temperature must be 0 or more")
	case o.TopK < 0:
		return o, usagef("--top-k must be 0 or more")
	case !(o.TopP > 0 && o.TopP <= 1):
		return o, usagef("--top-p must be above 0 and at most 1")
	case o.Drafts < 0 || o.Drafts > spec.MaxDrafts:
		return o, usagef("--speculative must be 0 to %d", spec.MaxDrafts)
	}
	return o, nil
}

// streamTo returns what prints tokens as they come, and what ends the output.
// Without a tokenizer ids are printed; with one, end tokens are not. The text is
// the model's: a terminal gets it made safe to show, anything else as it is.
func streamTo(c *cli.Context, tok *tokenizer.Tokenizer, stop []int) (token func(int), end func() error) {
	if tok == nil {
		sep := ""
		return func(id int) { fmt.Fprintf(c.App.Writer, "%s%d", sep, id); sep = " " },
			func() error { _, err := fmt.Fprintln(c.App.Writer); return err }
	}
	d, w := tok.NewDecoder(), raw(c.App.Writer)
	if isTerminal(w) {
		w = c.App.Writer
	}
	return func(id int) {
			if !slices.Contains(stop, id) {
				fmt.Fprint(w, d.Add(id))
			}
		},
		func() error { _, err := fmt.Fprintln(w, d.Flush()); return err }
}

// runJSON is the result of run --json.
type runJSON struct {
	Schema      string           `json:"schema"`
	PromptIDs   []int            `json:"prompt_ids"`
	Tokens      []int            `json:"tokens"`
	Text        string           `json:"text"`             // without the end token; "" without a tokenizer
	Answer      *answerJSON      `json:"answer,omitempty"` // with --chat
	Finish      string           `json:"finish_reason"`
	Speculative *speculativeJSON `json:"speculative"`
}

type speculativeJSON struct {
	K                int       `json:"k"`
	Drafts           int       `json:"drafts"`
	DraftTokens      int       `json:"draft_tokens"`
	AcceptedTokens   int       `json:"accepted_tokens"`
	AcceptanceRate   float64   `json:"acceptance_rate"`
	AcceptanceLength float64   `json:"acceptance_length"`
	PerPosition      []float64 `json:"per_position"`
}

func runResult(p prompt, out spec.Result) runJSON {
	r := runJSON{Schema: "glmconv.run/1", PromptIDs: p.ids, Tokens: out.Tokens, Finish: string(out.Finish)}
	if p.tok != nil {
		shown := out.Tokens
		if n := len(shown); r.Finish == "stop" && n > 0 {
			shown = shown[:n-1]
		}
		r.Text = strings.ToValidUTF8(p.tok.Decode(shown), "\ufffd")
		r.Answer = answer(p.chat, r.Text)
	}
	if n := out.Counters; n != nil {
		r.Speculative = &speculativeJSON{n.K, n.Passes, n.DraftTokens, n.Accepted, n.AcceptanceRate(), n.AcceptanceLength(), n.PerPosition()}
	}
	return r
}
