package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/internal/jsonwalk"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/internal/safetext"
)

// newApp builds the command tree. Everything a command prints goes through the
// two writers, so that tests can look at it.
func newApp(stdout, stderr io.Writer) *cli.App {
	useOwnHelp()
	app := &cli.App{
		Name:            "glmconv",
		Usage:           "quantise GLM checkpoints for vLLM, SGLang and vllm-ascend, and prove the result",
		Writer:          stdout,
		ErrWriter:       stderr,
		HideVersion:     true,
		HideHelpCommand: true, // see spoken
		Description: "New here? This shows everything in a few seconds, without a file or a network:\n\n  glmconv demo\n\n" +
			"With a checkpoint of your own, a folder with config.json and *.safetensors:\n\n" +
			"  glmconv inspect SRC                        what is it, is it whole?\n" +
			"  glmconv plan --scheme w8a8 SRC             what would become of it, who would load it?\n" +
			"  glmconv quantize --scheme w8a8 SRC DST     write it\n" +
			"  glmconv check DST                          judge any checkpoint by itself\n" +
			"  glmconv verify SRC DST                     prove the result against its source\n\n" +
			"SRC can be an address as well: " + reach.Schemes + ".\n\n" +
			"glmconv COMMAND --help lists every flag; glmconv explain CODE says what a message means.\n\n" +
			"Exit codes: 0 done, 1 negative verdict, 2 wrong usage, 3 undecided, 65 bad input,\n" +
			"74 I/O failed (what was complete is kept; --resume goes on), 75 temporary, 130 interrupted.",
		Commands: []*cli.Command{
			cmdInspect(), cmdPlan(), cmdCalibrate(), cmdQuantize(), cmdSubmit(), cmdMTPRemap(), cmdRepair(), cmdCheck(), cmdDiff(), cmdVerify(), cmdPush(), cmdRun(), cmdLogits(), cmdRecipe(), cmdBench(), cmdServe(), cmdDemo(), cmdExplain(), cmdCompletion(), cmdVersion(),
		},
		ExitErrHandler: func(*cli.Context, error) {}, // report does it, once
		OnUsageError:   onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c.App, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		c.OnUsageError = onUsageError
		c.Flags = append(c.Flags, commonFlags()...)
		if remoteCommands[c.Name] > 0 {
			c.Flags = append(c.Flags, remoteFlags()...)
		}
		c.Before = setUp
		if n := sources[c.Name]; n > 0 {
			c.Action = explained(c.Action, n)
			if c.Name == "run" || c.Name == "logits" || c.Name == "serve" {
				c.Action = guarded(c.Action)
			}
		}
	}
	return app
}

// sources says how many of a command's arguments, from the first on, are
// checkpoints that it reads.
var sources = map[string]int{
	"inspect": 1, "plan": 1, "calibrate": 1, "check": 1, "quantize": 1, "mtp-remap": 1, "repair": 1, "run": 1, "logits": 1, "recipe": 1, "serve": 1, "diff": 2, "verify": 2,
}

// commonFlags are the flags that every command shares.
func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "progress", Value: "auto", Usage: "auto, bar, line, json or none"},
		&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "debug, info, warn or error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json"},
	}
}

func setUp(c *cli.Context) error {
	if err := cpu.Problem(); err != nil {
		return &exitError{code: exitUsage, err: err}
	}
	return setUpLogging(c)
}

func setUpLogging(c *cli.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return usagef("--log-level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch c.String("log-format") {
	case "text":
		slog.SetDefault(slog.New(slog.NewTextHandler(c.App.ErrWriter, opts)))
	case "json":
		slog.SetDefault(slog.New(slog.NewJSONHandler(c.App.ErrWriter, opts)))
	default:
		return usagef("--log-format must be text or json, not %q", c.String("log-format"))
	}
	return nil
}

// newProgress returns the reporter that --progress asks for.
func newProgress(c *cli.Context, verb string) (progress.Reporter, error) {
	w := raw(c.App.ErrWriter) // a bar moves the cursor itself
	r, err := progress.New(w, progress.Mode(c.String("progress")), verb, isTerminal(w) && os.Getenv("TERM") != "dumb")
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	return r, nil
}

// raw returns the writer below one that makes text safe to show.
func raw(w io.Writer) io.Writer {
	if p, ok := w.(*safetext.Writer); ok {
		return p.Raw()
	}
	return w
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// paths returns the command's arguments, which must be exactly those named;
// addresses are mounted (see readable).
func paths(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	switch {
	case len(names) == 0 && len(args) > 0:
		return nil, usagef("%s takes no arguments, got %q; see glmconv %[1]s --help", c.Command.Name, args[0])
	case len(args) != len(names):
		return nil, usagef("%s needs %s, got %d argument(s); see glmconv %s --help",
			c.Command.Name, strings.Join(names, " and "), len(args), c.Command.Name)
	}
	for i, a := range args {
		if a == "" {
			return nil, usagef("%s is empty: %s needs the name of a folder", names[i], c.Command.Name)
		}
	}
	for i := range args {
		var err error
		if args[i], err = readable(c, i, args[i]); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// writeJSON prints v as the command's result.
func writeJSON(c *cli.Context, v any) error {
	var compact bytes.Buffer
	enc := json.NewEncoder(&compact)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return jsonwalk.WriteIndented(c.App.Writer, compact.Bytes())
}

// size reads a flag that holds a number of bytes.
func size(c *cli.Context, flag string) (int64, error) {
	n, err := progress.ParseBytes(c.String(flag))
	if err != nil {
		return 0, usagef("--%s: %w", flag, err)
	}
	return n, nil
}
