package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/rss"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/endpoint"
	reports "github.com/glmconv/glmconv/verify/report"
)

// endpointFlags ask a live server.
func endpointFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "endpoint", Usage: "ask the server at `URL` (repeatable): SRC is what it serves, or with DST, SRC the original and DST what is served"},
		&cli.StringFlag{Name: "endpoint-kind", Usage: "vllm, sglang, llama-cpp-python, llama-server or glmconv (default: found out)"},
		&cli.StringFlag{Name: "model", Usage: "name of the model on the server (default: its first)"},
		&cli.StringFlag{Name: "api-key-env", Value: "OPENAI_API_KEY", Usage: "environment variable that holds the API key"},
		&cli.IntFlag{Name: "top-logprobs", Usage: "tokens asked for at each place; -1: all (default: 20, more where the model's logits are flat)"},
		&cli.IntFlag{Name: "concurrency", Value: 1, Usage: "requests at once"},
		&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "for a request, and for the server to be ready"},
		&cli.BoolFlag{Name: "insecure", Usage: "do not check TLS certificates"},
		&cli.BoolFlag{Name: "long", Usage: "one sequence of 4096 tokens more, for sparse attention"},
		&cli.BoolFlag{Name: "chat", Usage: "compare the ids of conversations: template and special tokens"},
		&cli.BoolFlag{Name: "spec-decode", Usage: "compare how drafts are accepted; the server must have no other traffic"},
		&cli.BoolFlag{Name: "functional", Usage: "twelve probes of what clients rely on"},
		&cli.BoolFlag{Name: "print", Usage: "print the probes as curl lines and send nothing"},
	}
}

// onlyEndpoint are flags that mean nothing without a server, onlyFolders those
// that mean nothing with one.
var (
	onlyEndpoint = []string{"endpoint-kind", "model", "api-key-env", "top-logprobs", "concurrency", "timeout", "insecure", "long", "chat", "spec-decode", "functional", "print"}
	onlyFolders  = []string{"index", "count", "partial", "merge", "reference", "skip-forward", "all-tokens"}
)

// endpointCodes are the exit codes of the kinds of errors.
var endpointCodes = []struct {
	kind error
	code int
}{{endpoint.ErrAddress, exitUsage}, {endpoint.ErrNotReady, exitTemporary}, {endpoint.ErrLost, exitIO}, {endpoint.ErrAnswer, exitBadInput}, {endpoint.ErrModel, exitBadInput}}

// checkEndpointFlags refuses flags that do not go together.
func checkEndpointFlags(c *cli.Context) error {
	urls := c.StringSlice("endpoint")
	if len(urls) == 0 {
		for _, name := range onlyEndpoint {
			if c.IsSet(name) {
				return usagef("--%s needs --endpoint URL", name)
			}
		}
		return nil
	}
	for _, name := range onlyFolders {
		if c.IsSet(name) {
			return usagef("--%s and --endpoint exclude each other", name)
		}
	}
	kind := endpoint.Kind(c.String("endpoint-kind"))
	known := kind == ""
	var names []string
	for _, k := range endpoint.Kinds {
		known = known || k == kind
		names = append(names, string(k))
	}
	switch {
	case !known:
		return usagef("--endpoint-kind %q: it is %s", kind, strings.Join(names, ", "))
	case c.IsSet("top-logprobs") && (c.Int("top-logprobs") < -1 || c.Int("top-logprobs") == 0):
		return usagef("--top-logprobs must be at least 1, or -1 for all")
	case c.Int("concurrency") < 1 || c.Duration("timeout") <= 0:
		return usagef("--concurrency and --timeout must be above 0")
	}
	return nil
}

// runEndpoint compares servers with what they serve.
func runEndpoint(c *cli.Context) error {
	urls := c.StringSlice("endpoint")
	if c.Bool("print") {
		model := c.String("model")
		if model == "" {
			model = "MODEL"
		}
		for _, line := range endpoint.Curls(urls[0], model) {
			fmt.Fprintln(c.App.Writer, line)
		}
		return nil
	}
	names := []string{"SRC"}
	if c.Args().Len() > 1 {
		names = append(names, "DST")
	}
	args, err := paths(c, names...)
	if err != nil {
		return err
	}
	o := endpoint.Options{URLs: urls, Kind: endpoint.Kind(c.String("endpoint-kind")), Model: c.String("model"), Key: os.Getenv(c.String("api-key-env")), TopK: c.Int("top-logprobs"),
		Concurrency: c.Int("concurrency"), Timeout: c.Duration("timeout"), Insecure: c.Bool("insecure"), Long: c.Bool("long"), Chat: c.Bool("chat"), Drafts: c.Bool("spec-decode"),
		Functional: c.Bool("functional")}
	if o.Verify, err = verifyOptions(c); err != nil {
		return err
	}
	bar, err := newProgress(c, "verify")
	if err != nil {
		return err
	}
	files, err := reportFiles(c)
	if err != nil {
		return err
	}
	o.Progress = func(done, total int64, stage string) {
		bar.Update(0, 0, fmt.Sprintf("%s %d of %d", stage, done, total))
	}
	r, err := endpoint.Verify(c.Context, args[0], strings.Join(args[1:], ""), o)
	bar.Close()
	if err != nil {
		return endpointError(err)
	}
	if err := settleRemotes(c); err != nil {
		return err
	}
	return sayEndpoint(c, r, files)
}

// endpointError gives an error its exit code.
func endpointError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	for _, x := range endpointCodes {
		if errors.Is(err, x.kind) {
			return &exitError{code: x.code, err: err}
		}
	}
	return err
}

// sayEndpoint prints the result, writes its files and makes the exit code. The
// page of two folders comes first where they were compared.
func sayEndpoint(c *cli.Context, r *endpoint.Result, files []*output) error {
	r.Version, r.PeakRSS = currentBuild().Version, rss.Self()
	_, err := fmt.Fprint(c.App.Writer, r.Text())
	for i, write := range []func(io.Writer, *endpoint.Result) error{endpointPage, endpoint.JSON, endpoint.JUnit} {
		err = errors.Join(err, files[i].put(func(w io.Writer) error { return write(w, r) }))
	}
	if err != nil {
		return err
	}
	if r.Verdict == verify.Undecided {
		return &exitError{code: exitUndecided, silent: true}
	}
	return verdict(r.Verdict == verify.Pass)
}

// endpointPage writes the page of the servers, with that of the folders in it
// where two were compared.
func endpointPage(w io.Writer, r *endpoint.Result) error {
	var folders strings.Builder
	if r.Compared != nil {
		if err := reports.HTML(&folders, r.Compared); err != nil {
			return err
		}
	}
	return endpoint.HTML(w, r, folders.String())
}
