package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glmconv/glmconv/bench"
	"github.com/urfave/cli/v2"
)

// benchLoad reads what the flags ask for: the load, and a cell for each run.
func benchLoad(c *cli.Context, address string) (l bench.Load, cells []bench.Cell, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return l, nil, usagef("%q is no http address of a server", address)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1")
	l = bench.Load{URL: u.String(), Backend: bench.Backend(c.String("backend")), Model: c.String("model"), Key: os.Getenv(c.String("api-key-env")),
		Burstiness: c.Float64("burstiness"), Seed: c.Uint64("seed"), IgnoreEOS: c.Bool("ignore-eos"), Temperature: c.Float64("temperature"), Warmup: c.Int("warmup"),
		Client: bench.NewClient()}
	if err := errors.Join(benchWords(c), benchDataset(c)); err != nil {
		return l, nil, err
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
	if !(l.Burstiness > 0) {
		return l, nil, usagef("--burstiness must be positive, not %v", l.Burstiness)
	}
	if l.Percentiles, err = numbers(c.String("percentiles"), 99); err != nil {
		return l, nil, usagef("--percentiles: %w", err)
	}
	if l.Limits, err = goodput(c.String("goodput")); err != nil {
		return l, nil, err
	}
	cells, err = benchCells(c, redacted(l.URL))
	return l, cells, err
}

// benchWords checks flags that take one of a few words.
func benchWords(c *cli.Context) error {
	for _, flag := range []string{"backend", "dataset", "range-style", "json-style", "print-command"} {
		known := benchValues[flag]
		if !slices.Contains(known, c.String(flag)) && (flag != "print-command" || c.String(flag) != "") {
			return usagef("--%s must be %s, not %q", flag, strings.Join(known, ", "), c.String(flag))
		}
	}
	if s, _, _ := strings.Cut(c.String("report"), "@"); !slices.Contains(benchValues["report"], s) {
		return usagef("--report must be vllm, sglang or table, not %q", c.String("report"))
	}
	return nil
}

// benchValues are the words that flags take.
var benchValues = map[string][]string{"backend": {"openai-chat", "openai", "sglang"}, "dataset": {"random", "sharegpt", "image", "jsonl"},
	"range-style": {"vllm", "sglang"}, "json-style": {"glmconv", "vllm", "sglang"}, "report": {"vllm", "sglang", "table"}, "print-command": {"vllm", "sglang"}}

// benchDataset checks the flags of prompts.
func benchDataset(c *cli.Context) error {
	d := c.String("dataset")
	file := d == "sharegpt" || d == "jsonl"
	switch {
	case file && c.String("dataset-path") == "":
		return usagef("--dataset %s needs --dataset-path", d)
	case c.Int("num-prompts") < 1 || c.Int("input-len") < 1 || c.Int("output-len") < 1 || !(c.Float64("range-ratio") >= 0 && c.Float64("range-ratio") <= 1):
		return usagef("--num-prompts, --input-len and --output-len must be positive, --range-ratio from 0 to 1")
	case c.String("range-style") == "vllm" && c.Float64("range-ratio") == 1:
		return usagef("--range-ratio must be below 1 with --range-style vllm")
	case c.Int("repeat") < 1 || c.Int("prefix-len") < 0 || c.Int("warmup") < 0:
		return usagef("--repeat must be positive, --prefix-len and --warmup not negative")
	case file && (c.IsSet("prefix-len") || c.IsSet("scenario")):
		return usagef("--prefix-len and --scenario are for prompts that are made, not for --dataset %s", d)
	case c.IsSet("scenario") && (c.IsSet("input-len") || c.IsSet("output-len")):
		return usagef("--scenario sets the lengths: leave out --input-len and --output-len")
	case d == "image" && c.String("backend") != string(bench.Chat):
		return usagef("--dataset image needs --backend openai-chat")
	case d != "image" && (c.IsSet("image-size") || c.IsSet("image-count")):
		return usagef("--image-size and --image-count are for --dataset image")
	case d == "image" && c.Int("image-count") < 1:
		return usagef("--image-count must be positive")
	}
	if _, _, err := bench.ParseImageSize(c.String("image-size")); err != nil {
		return usagef("--image-size: %w", err)
	}
	return nil
}

// benchCells lists the runs: repetitions outermost, so that what changes with
// time touches every cell alike.
func benchCells(c *cli.Context, address string) (cells []bench.Cell, err error) {
	limits := []int{0}
	scenarios, times := []bench.Scenario{{In: c.Int("input-len"), Out: c.Int("output-len")}}, 0
	if s := c.String("scenario"); s != "" {
		if scenarios, times, err = bench.ParseScenarios(s); err != nil {
			return nil, usagef("--scenario: %w", err)
		}
		limits = []int{1, 16, 100}
	}
	if s := c.String("concurrency"); s != "" {
		if limits, err = numbers(s, 1<<16); err != nil {
			return nil, usagef("--concurrency: %w", err)
		}
	}
	settings := benchSettings(c, address)
	for run := range c.Int("repeat") {
		for _, x := range scenarios {
			for _, limit := range limits {
				n := c.Int("num-prompts")
				if times > 0 && !c.IsSet("num-prompts") {
					n = bench.ScenarioPrompts(times, limit)
				}
				cells = append(cells, bench.Cell{Scenario: x.Name, In: x.In, Out: x.Out, Prompts: n, Concurrency: limit, Run: run + 1, Settings: settings})
			}
		}
	}
	return cells, nil
}

// benchSettings is a short hash of the flags that a cell's name does not have:
// --resume takes only runs of the same load on the same server, judged alike.
func benchSettings(c *cli.Context, address string) string {
	h := sha256.New()
	fmt.Fprintf(h, "address=%s\n", address)
	for _, flag := range []string{"backend", "model", "dataset", "dataset-path", "range-ratio", "range-style", "prefix-len", "image-size", "image-count", "request-rate",
		"burstiness", "seed", "ignore-eos", "temperature", "extra-body", "goodput", "score", "tokenizer"} {
		fmt.Fprintf(h, "%s=%v\n", flag, c.Value(flag))
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
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
