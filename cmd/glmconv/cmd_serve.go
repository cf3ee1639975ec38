package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/runtime/spec"
	"github.com/glmconv/glmconv/serve"
)

func cmdServe() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "answer OpenAI's routes with the bundled runtime",
		ArgsUsage: "DIR",
		Description: "A reference on the CPU, for clients, benchmarks and verifiers: chats and completions, streams,\nreasoning and tool calls, log-probabilities, metrics. Requests are computed together, and each\ngets the bytes that it would get alone. What is not served is refused by name.\n\n" +
			"  glmconv serve model &\n  curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' -d '{\"prompt\":\"Hello\"}'\n\n" +
			"Ctrl-C stops it: exit 0. Exit 65: no checkpoint, 74: cannot read or bind.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "host", Value: "127.0.0.1", Usage: "address to listen on"},
			&cli.IntFlag{Name: "port", Value: 8000, Usage: "0: a free one, which is printed"},
			&cli.StringSliceFlag{Name: "served-model-name", Usage: "names that clients may use (repeatable; default: any)"},
			&cli.StringFlag{Name: "api-key-env", Usage: "environment variable that holds the key that clients must send"},
			&cli.IntFlag{Name: "max-model-len", Usage: "tokens of prompt and answer (default: the model's)"},
			&cli.IntFlag{Name: "max-num-seqs", Value: 16, Usage: "requests computed together"},
			&cli.IntFlag{Name: "max-queue", Value: 128, Usage: "requests that wait; more are told to come back"},
			&cli.StringFlag{Name: "max-memory", Value: "4GiB", Usage: "of the cache of keys and values"},
			&cli.StringFlag{Name: "max-body", Value: "64MiB", Usage: "of one request"},
			&cli.IntFlag{Name: "max-logprobs", Value: 20, Usage: "tokens of each place; -1: the whole vocabulary"},
			&cli.IntFlag{Name: "speculative", Usage: "drafts of the MTP layer in each pass"},
			&cli.StringFlag{Name: "reasoning-field", Value: "both", Usage: "where reasoning stands: reasoning_content (SGLang), reasoning (vLLM) or both"},
			&cli.StringSliceFlag{Name: "allow-media-domain", Usage: "fetch pictures and clips from this host alone, at any port (repeatable; default: any public host, ports 80 and 443)"},
			&cli.BoolFlag{Name: "allow-private-media", Usage: "fetch them from private networks and this machine too"},
			&cli.StringFlag{Name: "allowed-local-media-path", Usage: "`DIR` whose files requests may name"},
			&cli.BoolFlag{Name: "no-remote-media", Usage: "fetch nothing"},
			&cli.DurationFlag{Name: "sse-ping", Usage: "write a comment into streams that are silent for so long (SGLang's client fails on it; 0: never)"},
			&cli.DurationFlag{Name: "grace", Value: 30 * time.Second, Usage: "how long running requests may go on after a signal"},
			&cli.BoolFlag{Name: "log-requests", Usage: "print a line for each request"},
			&cli.StringSliceFlag{Name: "cors-origin", Usage: "let pages of this origin ask (repeatable; *: any)"},
			workersFlag("computing"),
		},
		Action: runServe,
	}
}

func runServe(c *cli.Context) error {
	args, err := paths(c, "DIR")
	if err != nil {
		return err
	}
	o := serve.Options{Names: c.StringSlice("served-model-name"), MaxLen: c.Int("max-model-len"), MaxSeqs: c.Int("max-num-seqs"), MaxQueue: c.Int("max-queue"),
		MaxLogprobs: c.Int("max-logprobs"), Version: currentBuild().Version, Threads: c.Int("workers")}
	o.Speculative, o.ReasoningField = c.Int("speculative"), c.String("reasoning-field")
	o.Media = serve.MediaOptions{NoRemote: c.Bool("no-remote-media"), Domains: c.StringSlice("allow-media-domain"), Private: c.Bool("allow-private-media"), LocalRoot: c.String("allowed-local-media-path")}
	switch {
	case o.Speculative < 0 || o.Speculative > spec.MaxDrafts:
		return usagef("--speculative must be 0 to %d", spec.MaxDrafts)
	case o.ReasoningField != "both" && o.ReasoningField != "reasoning" && o.ReasoningField != "reasoning_content":
		return usagef("--reasoning-field is both, reasoning or reasoning_content")
	}
	if c.Duration("sse-ping") < 0 || c.Duration("grace") < 0 {
		return usagef("--sse-ping and --grace must not be negative")
	}
	o.Ping, o.Origins = c.Duration("sse-ping"), c.StringSlice("cors-origin")
	if c.Bool("log-requests") {
		var mu sync.Mutex
		o.Log = func(line string) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintln(c.App.ErrWriter, safetext.Line(line))
		}
	}
	if o.MaxSeqs < 1 || o.MaxQueue < 1 || o.MaxLen < 0 || o.Threads < 0 || o.MaxLogprobs < -1 || c.Int("port") < 0 || c.Int("port") > 65535 {
		return usagef("--max-num-seqs and --max-queue must be positive, --port from 0 to 65535")
	}
	if o.CacheBytes, err = size(c, "max-memory"); err != nil {
		return err
	}
	if o.MaxBody, err = size(c, "max-body"); err != nil {
		return err
	}
	if name := c.String("api-key-env"); name != "" {
		if o.Key = os.Getenv(name); o.Key == "" {
			return usagef("--api-key-env: the variable %s is empty", name)
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(c.String("host"), strconv.Itoa(c.Int("port"))))
	if err != nil {
		return &exitError{code: exitIO, err: err}
	}
	defer func() { _ = l.Close() }()
	h, gate, failed := openGate(l)
	s, err := serve.New(args[0], o)
	if err != nil {
		_ = h.Close()
		return err
	}
	gate.Open(s)
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && o.Key == "" {
		fmt.Fprintln(c.App.ErrWriter, "note: anyone who reaches this address may use the model; --api-key-env asks for a key")
	}
	fmt.Fprintf(c.App.ErrWriter, "%s on http://%s\n", safetext.Line(args[0]), l.Addr())
	patience.Store(int64(c.Duration("grace")))
	defer patience.Store(0)
	return listen(c.Context, h, failed, s, c.Duration("grace"))
}

// openGate answers at once, with 503 until the gate is opened.
func openGate(l net.Listener) (h *http.Server, gate *serve.Gate, failed chan error) {
	gate, failed = new(serve.Gate), make(chan error, 1)
	h = &http.Server{Handler: gate, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	go func() { failed <- h.Serve(l) }()
	return h, gate, failed
}

// listen waits until ctx is done, then lets running requests end.
func listen(ctx context.Context, h *http.Server, failed <-chan error, s *serve.Server, wait time.Duration) error {
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		s.Stop(stop)
		if h.Shutdown(stop) != nil {
			_ = h.Close()
		}
	}
	if closed := s.Close(); err == nil || errors.Is(err, http.ErrServerClosed) {
		return closed
	}
	return &exitError{code: exitIO, err: err}
}
