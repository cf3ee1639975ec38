package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/safetext"
)

func cmdBench() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure a server that speaks OpenAI's protocol or SGLang's",
		ArgsUsage: "URL | compare BASE NEW... | compare --steps BASE STEP=FILE... | read FILE...",
		Description: "Latencies and throughput by the definitions of vLLM's and SGLang's own clients, in their reports\nand JSON. compare and read take either's JSON and pasted reports.\n\n" +
			"  glmconv bench http://127.0.0.1:8000 --concurrency 1,16 --num-prompts 100 --ignore-eos\n" +
			"  glmconv bench compare base.json new.json --gpus 4,8 --metric p99-ttft,output\n" +
			"  glmconv bench compare --steps vllm.txt engine=sglang.txt quantization=fp8.txt parallelism=ep4.txt\n\n" +
			"Exit codes: 0 done, 1 failed requests, --goodput or --fail-under missed, 2 usage, 65 unreadable\ndata, 74 no request succeeded, or the server was lost midway, 75 server not ready,\n130 interrupted.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "backend", Value: string(bench.Chat), Usage: "openai-chat, openai or sglang"},
			&cli.StringFlag{Name: "model", Usage: "name of the model (default: the server's first)"},
			&cli.StringFlag{Name: "tokenizer", Usage: "checkpoint folder whose tokenizer.json makes and counts prompts (default: the folder that the server names)"},
			&cli.StringFlag{Name: "dataset", Value: "random", Usage: "random, sharegpt, image or jsonl"},
			&cli.StringFlag{Name: "dataset-path", Usage: "file of sharegpt or jsonl"},
			&cli.IntFlag{Name: "num-prompts", Value: 100, Usage: "requests of each run"},
			&cli.IntFlag{Name: "input-len", Value: 1024, Usage: "tokens of random prompts"},
			&cli.IntFlag{Name: "output-len", Value: 128, Usage: "tokens asked for"},
			&cli.IntFlag{Name: "prefix-len", Usage: "tokens that all random prompts begin with, before --input-len"},
			&cli.StringFlag{Name: "image-size", Value: "720p", Usage: "of the pictures of --dataset image: 4k, 1080p, 720p, 360p or HEIGHTxWIDTH"},
			&cli.IntFlag{Name: "image-count", Value: 1, Usage: "pictures of a request"},
			&cli.StringFlag{Name: "scenario", Usage: "chat (1000 tokens in, 1000 out), reasoning (1000, 8000), summarization (8000, 1000) or all; each runs at every --concurrency (default 1,16,100) with 5 prompts per concurrent request, at least 10 (@quick: 1, @stable: 10)"},
			&cli.IntFlag{Name: "repeat", Value: 1, Usage: "how many times each run is repeated; the table gives median and range"},
			&cli.BoolFlag{Name: "resume", Usage: "keep the finished runs in the file of --save-json and make the others"},
			&cli.Float64Flag{Name: "range-ratio", Usage: "how far lengths vary (see --range-style)"},
			&cli.StringFlag{Name: "range-style", Value: "vllm", Usage: "vllm: L(1 ± ratio), 0 is exact; sglang: L·ratio to L, 0 is half on average"},
			&cli.StringFlag{Name: "request-rate", Value: "inf", Usage: "requests a second"},
			&cli.Float64Flag{Name: "burstiness", Value: 1, Usage: "shape of the gaps between requests: 1 Poisson, more is steadier"},
			&cli.StringFlag{Name: "concurrency", Aliases: []string{"max-concurrency"}, Usage: "requests at once; several with commas give a run each"},
			&cli.IntFlag{Name: "warmup", Value: 1, Usage: "requests before the clock starts"},
			&cli.Uint64Flag{Name: "seed", Usage: "seed of lengths, prompts and arrivals"},
			&cli.BoolFlag{Name: "ignore-eos", Usage: "answers as long as asked for"},
			&cli.Float64Flag{Name: "temperature", Usage: "0: greedy"},
			&cli.StringFlag{Name: "extra-body", Usage: "JSON object of further fields"},
			&cli.StringFlag{Name: "percentiles", Value: "99", Usage: "percentiles of latencies, comma-separated"},
			&cli.StringFlag{Name: "goodput", Usage: "limits in ms: ttft:500,tpot:50,e2el:9000"},
			&cli.StringFlag{Name: "fail-under", Usage: "minimum figures, exit 1 below them: output:400,total:900 (tokens/s), requests:2,goodput:1.5 (a second), attainment:95,accuracy:70 (%); a number alone is output"},
			&cli.StringFlag{Name: "print-command", Usage: "print the command of vllm or sglang with the same load, and send nothing"},
			&cli.StringFlag{Name: "report", Value: "vllm", Usage: "vllm, sglang, each with @RELEASE of its layout, or table"},
			&cli.StringFlag{Name: "save-json", Usage: "write the figures there"},
			&cli.StringFlag{Name: "json-style", Value: "glmconv", Usage: "glmconv, vllm or sglang"},
			&cli.StringFlag{Name: "html", Usage: "write plots and figures there, in one page (with compare: its tables, too)"},
			&cli.StringFlag{Name: "score", Usage: "judge the answers of --dataset jsonl by its field answer: exact, number or choice"},
			&cli.StringFlag{Name: "against", Usage: "JSON of another run with --score: what differs, question by question"},
			&cli.StringFlag{Name: "api-key-env", Value: "OPENAI_API_KEY", Usage: "environment variable that holds the API key"},
			&cli.DurationFlag{Name: "ready-timeout", Value: 10 * time.Second, Usage: "how long to wait for the server"},
			&cli.BoolFlag{Name: "allow-failures", Usage: "failed requests are no negative verdict"},
			&cli.StringFlag{Name: "gpus", Value: "1,1", Usage: "compare: devices of base and new"},
			&cli.StringFlag{Name: "metric", Usage: "compare: further figures, comma-separated: " + bench.MetricWords},
			&cli.BoolFlag{Name: "steps", Usage: "compare: what each step of a search gained on the best before it; several files may share a step"},
			&cli.BoolFlag{Name: "csv", Usage: "compare: as comma-separated values"},
			&cli.BoolFlag{Name: "json", Usage: "compare: as JSON (" + bench.CompareSchema + ")"},
		},
		Action: func(c *cli.Context) error {
			switch args := c.Args().Slice(); {
			case len(args) > 2 && args[0] == "compare":
				return benchCompare(c, args[1], args[2:])
			case c.IsSet("metric") || c.Bool("steps") || c.Bool("csv") || c.Bool("json") || c.IsSet("gpus"):
				return usagef("--gpus, --metric, --steps, --csv and --json are for bench compare BASE NEW...")
			case len(args) > 1 && args[0] == "read":
				return benchRead(c, args[1:])
			case len(args) == 1 && strings.Contains(args[0], "://"):
				return benchRun(c, args[0])
			}
			return usagef("bench needs the URL of a server, or compare BASE NEW..., or read FILE...")
		},
	}
}

// benchFile reads every result of a file: with read bench.Read, or bench.ReadRuns
// where runs may have failed.
func benchFile(path string, read func([]byte) ([]bench.Figures, error)) ([]bench.Figures, error) {
	data, err := fsx.ReadRegular(path, fsx.MaxInput)
	if err != nil {
		return nil, err
	}
	list, err := read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func benchRead(c *cli.Context, files []string) error {
	for _, path := range files {
		list, err := benchFile(path, bench.Read)
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
