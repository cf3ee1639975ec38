package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

func cmdBench() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure a server that speaks OpenAI's protocol or SGLang's",
		ArgsUsage: "URL | compare BASE NEW... | read FILE...",
		Description: "Latencies and throughput by the definitions of vLLM's and SGLang's own clients, in their reports\nand JSON. `compare` and `read` take either's JSON and pasted reports.\n\n" +
			"  glmconv bench http://127.0.0.1:8000 --concurrency 1,16 --num-prompts 100 --ignore-eos\n" +
			"  glmconv bench compare base.json new.json --gpus 4,8\n\n" +
			"Exit codes: 0 done, 1 failed requests or --goodput missed, 2 usage, 65 unreadable data, 74 no\nconnection, 75 server not ready, 130 interrupted.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "backend", Value: string(bench.Chat), Usage: "openai-chat, openai or sglang"},
			&cli.StringFlag{Name: "model", Usage: "name of the model (default: the server's first)"},
			&cli.StringFlag{Name: "tokenizer", Usage: "checkpoint folder whose tokenizer.json makes and counts prompts (default: the folder that the server names)"},
			&cli.StringFlag{Name: "dataset", Value: "random", Usage: "random, sharegpt or jsonl"},
			&cli.StringFlag{Name: "dataset-path", Usage: "file of sharegpt or jsonl"},
			&cli.IntFlag{Name: "num-prompts", Value: 100, Usage: "requests of each run"},
			&cli.IntFlag{Name: "input-len", Value: 1024, Usage: "tokens of random prompts"},
			&cli.IntFlag{Name: "output-len", Value: 128, Usage: "tokens asked for"},
			&cli.Float64Flag{Name: "range-ratio", Usage: "how far lengths vary (see --range-style)"},
			&cli.StringFlag{Name: "range-style", Value: "vllm", Usage: "vllm: L(1 ± ratio), 0 is exact; sglang: L·ratio to L, 0 is half on average"},
			&cli.StringFlag{Name: "request-rate", Value: "inf", Usage: "requests a second"},
			&cli.Float64Flag{Name: "burstiness", Value: 1, Usage: "shape of the gaps between requests: 1 Poisson, more is steadier"},
			&cli.StringFlag{Name: "concurrency", Aliases: []string{"max-concurrency"}, Usage: "requests at once; several with commas give a run each"},
			&cli.IntFlag{Name: "warmup", Value: 1, Usage: "requests before the clock starts"},
			&cli.Uint64Flag{Name: "seed", Usage: "of lengths, prompts and arrivals"},
			&cli.BoolFlag{Name: "ignore-eos", Usage: "answers as long as asked for"},
			&cli.Float64Flag{Name: "temperature", Usage: "0: greedy"},
			&cli.StringFlag{Name: "extra-body", Usage: "JSON object of further fields"},
			&cli.StringFlag{Name: "percentiles", Value: "99", Usage: "with commas"},
			&cli.StringFlag{Name: "goodput", Usage: "limits in ms: ttft:500,tpot:50,e2el:9000"},
			&cli.StringFlag{Name: "report", Value: "vllm", Usage: "vllm, sglang, each with @RELEASE of its layout, or table"},
			&cli.StringFlag{Name: "save-json", Usage: "write the figures there"},
			&cli.StringFlag{Name: "json-style", Value: "glmconv", Usage: "glmconv, vllm or sglang"},
			&cli.StringFlag{Name: "html", Usage: "write plots and figures there, in one page"},
			&cli.StringFlag{Name: "score", Usage: "judge the answers of --dataset jsonl by its field answer: exact, number or choice"},
			&cli.StringFlag{Name: "against", Usage: "JSON of another run with --score: what differs, question by question"},
			&cli.StringFlag{Name: "api-key-env", Value: "OPENAI_API_KEY", Usage: "variable with the API key"},
			&cli.DurationFlag{Name: "ready-timeout", Value: 10 * time.Second, Usage: "how long to wait for the server"},
			&cli.BoolFlag{Name: "allow-failures", Usage: "failed requests are no negative verdict"},
			&cli.StringFlag{Name: "gpus", Value: "1,1", Usage: "compare: devices of base and new"},
		},
		Action: func(c *cli.Context) error {
			switch args := c.Args().Slice(); {
			case len(args) > 1 && args[0] == "read":
				return benchRead(c, args[1:])
			case len(args) > 2 && args[0] == "compare":
				return benchCompare(c, args[1], args[2:])
			case len(args) == 1 && strings.Contains(args[0], "://"):
				return benchRun(c, args[0])
			}
			return usagef("bench needs the URL of a server, or compare BASE NEW..., or read FILE...")
		},
	}
}

// benchFile reads every result of a file.
func benchFile(path string) ([]bench.Figures, error) {
	data, err := fsx.ReadRegular(path, fsx.MaxInput)
	if err != nil {
		return nil, err
	}
	list, err := bench.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func benchRead(c *cli.Context, files []string) error {
	for _, path := range files {
		list, err := benchFile(path)
		if err != nil {
			return err
		}
		for i := range list {
			fmt.Fprintf(c.App.Writer, "%s %d: %s\n", safetext.Line(filepath.Base(path)), i+1, benchLine(&list[i]))
		}
	}
	return nil
}

// benchLine is a run in one line.
func benchLine(f *bench.Figures) string {
	limit := "no limit"
	if f.Concurrency > 0 {
		limit = strconv.Itoa(f.Concurrency) + " at once"
	}
	return fmt.Sprintf("%s, %d requests, %d tokens in, %d out, %.2f tok/s in all, %.2f out, TTFT %.2f ms, TPOT %.2f ms, ITL %.2f ms", limit, f.Completed,
		f.InputTokens, f.OutTokens, f.Total, f.Output, f.TTFT.Median, f.TPOT.Median, f.ITL.Median)
}

func benchCompare(c *cli.Context, base string, files []string) error {
	a, b, ok := strings.Cut(c.String("gpus"), ",")
	n, err := strconv.Atoi(a)
	m, err2 := strconv.Atoi(b)
	if !ok || err != nil || err2 != nil || n < 1 || m < 1 {
		return usagef("--gpus %q: write the devices of base and new, such as 4,8", c.String("gpus"))
	}
	old, err := benchFile(base)
	if err != nil {
		return err
	}
	for _, path := range files {
		list, err := benchFile(path)
		if err != nil {
			return err
		}
		var cases []bench.Case
		for i := range min(len(old), len(list)) {
			cases = append(cases, bench.Case{Name: fmt.Sprintf("%s %d", filepath.Base(path), i+1), Base: old[i], New: list[i]})
		}
		fmt.Fprint(c.App.Writer, safetext.Text(bench.Compare(cases, n, m)))
	}
	return nil
}

func benchRun(c *cli.Context, address string) error {
	load, limits, err := benchLoad(c, address)
	if err != nil {
		return err
	}
	file, err := openOutput("save-json", c.String("save-json"))
	if err != nil {
		return err
	}
	page, err := openOutput("html", c.String("html"))
	if err != nil {
		return err
	}
	other, err := benchScores(c)
	if err != nil {
		return err
	}
	root, err := waitReady(c.Context, &load, c.Duration("ready-timeout"))
	if err != nil {
		return err
	}
	if load.Prompts, err = benchPrompts(c, load.Backend, root); err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "%s: model %s, %d requests\n", safetext.Line(redacted(address)), safetext.Line(load.Model), len(load.Prompts))
	var saved strings.Builder
	var runs []bench.Named
	failed := false
	for _, n := range limits {
		load.Concurrency = n
		r, err := bench.Run(c.Context, load)
		f := r.Figures()
		runs = append(runs, bench.Named{Name: load.Model, Figures: f})
		if f.Completed > 0 {
			if err := benchAccuracy(c, r, other); err != nil {
				return err
			}
			if err := benchShow(c, r, f, &saved); err != nil {
				return err
			}
		}
		for _, w := range f.Warnings {
			fmt.Fprintf(c.App.ErrWriter, "note: %s\n", safetext.Line(w))
		}
		if err != nil {
			return err
		}
		if f.Completed == 0 {
			return &exitError{code: exitIO, err: fmt.Errorf("%s: every request failed: %s", redacted(address), f.FirstError)}
		}
		failed = failed || f.Failed > 0 && !c.Bool("allow-failures") || load.Limits != bench.Limits{} && f.Goodput < f.Requests
	}
	if err := file.put(func(w io.Writer) error { _, err := io.WriteString(w, saved.String()); return err }); err != nil {
		return err
	}
	if err := page.put(func(w io.Writer) error { return bench.WriteHTML(w, "Benchmark of "+load.Model, runs) }); err != nil {
		return err
	}
	if failed {
		return &exitError{code: exitNegative, silent: true}
	}
	return nil
}

// benchScores reads what --against names.
func benchScores(c *cli.Context) ([]bench.Score, error) {
	how := c.String("score")
	switch {
	case how != "" && !slices.Contains(bench.Scorings, bench.Scoring(how)):
		return nil, usagef("--score must be exact, number or choice, not %q", how)
	case how != "" && c.String("dataset") != "jsonl":
		return nil, usagef("--score needs --dataset jsonl, whose lines have answers")
	case c.String("against") == "":
		return nil, nil
	case how == "":
		return nil, usagef("--against compares scores: --score says how answers are judged")
	}
	data, err := fsx.ReadRegular(c.String("against"), fsx.MaxInput)
	if err != nil {
		return nil, err
	}
	list, err := bench.ReadScores(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.String("against"), err)
	}
	return list, nil
}

// benchAccuracy scores a run, where that is asked for.
func benchAccuracy(c *cli.Context, r *bench.Result, other []bench.Score) error {
	how := bench.Scoring(c.String("score"))
	if how == "" {
		return nil
	}
	for i := range r.Load.Prompts {
		if r.Load.Prompts[i].Answer == "" {
			return fmt.Errorf("%s: question %s has no answer", c.String("dataset-path"), r.Load.Prompts[i].ID)
		}
	}
	a := r.Accuracy(how)
	r.Scores = a.Scores
	var with *bench.Paired
	if other != nil {
		p := a.Against(other)
		with = &p
	}
	return bench.WriteAccuracy(c.App.Writer, a, with)
}

// benchShow prints a run and keeps its JSON.
func benchShow(c *cli.Context, r *bench.Result, f bench.Figures, saved io.Writer) error {
	style, release, _ := strings.Cut(c.String("report"), "@")
	var err error
	switch style {
	case "sglang":
		err = bench.WriteSGLang(c.App.Writer, f, release)
	case "table":
		_, err = fmt.Fprintln(c.App.Writer, benchLine(&f))
	default:
		err = bench.WriteVLLM(c.App.Writer, f, release, r.Load.Percentiles)
	}
	if err != nil {
		return err
	}
	if c.String("json-style") == "sglang" {
		return r.SaveSGLang(saved, f)
	}
	return r.SaveVLLM(saved, f, c.String("json-style") == "glmconv", time.Now())
}

// redacted is a URL without credentials.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the server"
	}
	u.User = nil
	return u.String()
}

func benchLoad(c *cli.Context, address string) (l bench.Load, limits []int, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return l, nil, usagef("%q is no http address of a server", address)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1")
	l = bench.Load{URL: u.String(), Backend: bench.Backend(c.String("backend")), Model: c.String("model"), Key: os.Getenv(c.String("api-key-env")),
		Burstiness: c.Float64("burstiness"), Seed: c.Uint64("seed"), IgnoreEOS: c.Bool("ignore-eos"), Temperature: c.Float64("temperature"), Warmup: c.Int("warmup"),
		Client: bench.NewClient()}
	for flag, known := range map[string][]string{"backend": {"openai-chat", "openai", "sglang"}, "dataset": {"random", "sharegpt", "jsonl"},
		"range-style": {"vllm", "sglang"}, "json-style": {"glmconv", "vllm", "sglang"}} {
		if !slices.Contains(known, c.String(flag)) {
			return l, nil, usagef("--%s must be %s, not %q", flag, strings.Join(known, ", "), c.String(flag))
		}
	}
	if s, _, _ := strings.Cut(c.String("report"), "@"); !slices.Contains([]string{"vllm", "sglang", "table"}, s) {
		return l, nil, usagef("--report must be vllm, sglang or table, not %q", c.String("report"))
	}
	if s := c.String("request-rate"); s != "inf" {
		if l.Rate, err = strconv.ParseFloat(s, 64); err != nil || !(l.Rate > 0) || math.IsInf(l.Rate, 0) {
			return l, nil, usagef("--request-rate %q is no positive number and not inf", s)
		}
	}
	if s := c.String("extra-body"); s != "" {
		if err := json.Unmarshal([]byte(s), &l.Extra); err != nil {
			return l, nil, usagef("--extra-body: %w", err)
		}
	}
	if l.Percentiles, err = numbers(c.String("percentiles"), 99); err != nil {
		return l, nil, usagef("--percentiles: %w", err)
	}
	limits = []int{0}
	if s := c.String("concurrency"); s != "" {
		if limits, err = numbers(s, 1<<16); err != nil {
			return l, nil, usagef("--concurrency: %w", err)
		}
	}
	if n := c.Int("num-prompts"); n < 1 || c.Int("input-len") < 1 || c.Int("output-len") < 1 || c.Float64("range-ratio") < 0 || c.Float64("range-ratio") > 1 {
		return l, nil, usagef("--num-prompts, --input-len and --output-len must be positive, --range-ratio from 0 to 1")
	}
	l.Limits, err = goodput(c.String("goodput"))
	return l, limits, err
}

// numbers reads "1,16,100".
func numbers(s string, most int) (out []int, err error) {
	for _, w := range strings.Split(s, ",") {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("%q is no number from 1 to %d", w, most)
		}
		out = append(out, n)
	}
	return out, nil
}

// goodput reads "ttft:500,tpot:50", in milliseconds.
func goodput(s string) (l bench.Limits, err error) {
	if s == "" {
		return l, nil
	}
	for _, w := range strings.Split(s, ",") {
		key, value, _ := strings.Cut(w, ":")
		ms, err := strconv.ParseFloat(value, 64)
		into := map[string]*time.Duration{"ttft": &l.TTFT, "tpot": &l.TPOT, "e2el": &l.E2EL}[key]
		if into == nil || err != nil || !(ms > 0) {
			return l, usagef("--goodput %q: write ttft:500,tpot:50,e2el:9000 in ms", s)
		}
		*into = time.Duration(ms * float64(time.Millisecond))
	}
	return l, nil
}

// waitReady asks for the model until the server answers, and returns the folder
// that it names.
func waitReady(ctx context.Context, l *bench.Load, patience time.Duration) (string, error) {
	deadline := time.Now().Add(patience)
	for {
		id, root, err := bench.ServerModel(ctx, l.Client, l.URL, l.Key)
		var status *bench.StatusError
		switch {
		case err == nil:
			if l.Model == "" {
				l.Model = id
			}
			return root, nil
		case errors.Is(err, bench.ErrFormat) || errors.As(err, &status) && status.Code != 503 && status.Code != 404:
			return "", err
		case errors.As(err, &status) && status.Code == 404 && l.Backend == bench.Native:
			return "", nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case time.Now().After(deadline):
			return "", &exitError{code: exitTemporary, err: fmt.Errorf("%s: not ready: %w", redacted(l.URL), err)}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// benchPrompts makes the prompts of the dataset that was chosen.
func benchPrompts(c *cli.Context, backend bench.Backend, root string) ([]bench.Prompt, error) {
	dir := c.String("tokenizer")
	if dir == "" {
		dir = root
	}
	var tok *tokenizer.Tokenizer
	var err error
	if dir != "" {
		tok, err = tokenizer.Load(filepath.Join(dir, "tokenizer.json"))
		if err != nil && c.String("tokenizer") != "" {
			return nil, err
		}
	}
	n, out := c.Int("num-prompts"), c.Int("output-len")
	if c.String("dataset") == "random" {
		o := bench.RandomOptions{Prompts: n, In: c.Int("input-len"), Out: out, Ratio: c.Float64("range-ratio"), SGLang: c.String("range-style") == "sglang",
			Seed: c.Uint64("seed"), Vocab: 30000}
		if tok == nil && backend == bench.Chat {
			return nil, usagef("random prompts for %s need --tokenizer DIR; --backend openai takes ids", backend)
		}
		if tok != nil {
			o.Vocab = min(o.Vocab, tok.VocabSize())
			if backend != bench.Chat {
				return bench.Random(o, nil), nil // ids are exact
			}
		}
		return bench.Random(o, tok), nil
	}
	if c.String("dataset-path") == "" {
		return nil, usagef("--dataset %s needs --dataset-path", c.String("dataset"))
	}
	data, err := os.ReadFile(c.String("dataset-path"))
	if err != nil {
		return nil, err
	}
	if c.String("dataset") == "jsonl" {
		list, err := bench.Lines(data, out)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.String("dataset-path"), err)
		}
		return list[:min(n, len(list))], nil
	}
	if tok == nil {
		return nil, usagef("--dataset sharegpt counts tokens: --tokenizer DIR")
	}
	return bench.ShareGPT(data, n, uint32(c.Uint64("seed")), func(s string) int { return len(tok.EncodeOrdinary(s)) })
}
