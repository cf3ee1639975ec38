package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/rss"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	reports "github.com/glmconv/glmconv/verify/report"
)

func cmdVerify() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "run source and result side by side and gate on the difference",
		ArgsUsage: "SRC DST | SRC [DST] --endpoint URL | --merge FILE...",
		Description: "It passes only if all of this holds: every tensor is accounted for and copies are equal, weights\n" +
			"are no farther from the source than rounding explains, the mean KL(source||result) of the logits\n" +
			"is at most --tol (its one-sided 95 % bound), tail, NRMSE and flips are within their limits, and the\n" +
			"MTP layer agrees with the model as often as the source's does.\n\n" +
			"--index I --count N --partial FILE does part I of N, on any machine; --merge FILE... makes\n" +
			"the verdict of the files of all parts, which is that of one run.\n\n" +
			"--endpoint URL asks a live server: are the log-probabilities that it gives to fixed texts\n" +
			"those of the bundled runtime on the same folder, and whose fault is it if not. With two\n" +
			"folders SRC is the original and DST what is served.\n\n" +
			"Exit codes: 0 pass, 1 fail, 3 undecided (flat logits, too few tokens, an interval that\nstraddles --tol), 65 the two cannot be compared. With --endpoint: 65 another model, or answers that are none, 74 the connection broke, 75 not ready.",
		Flags: append(append(append(corpusFlags(" (default: the built-in corpus)", 2048, 128),
			&cli.Float64Flag{Name: "tol", Usage: "ceiling of the mean KL in nats per token (default: 1e-2, with 4-bit weights 5e-2)"},
			&cli.StringFlag{Name: "reference", Usage: "what a quantized source is taken for: source (its own forward pass, as served) or weights (decoded, activations unrounded) (default: source; weights for bf16 results)"},
			&cli.BoolFlag{Name: "all-tokens", Usage: "read all tokens even where those of the first batch decide"},
			&cli.StringFlag{Name: "report", Usage: "`FILE`.html: the report as one self-contained page"},
			&cli.StringFlag{Name: "json", Usage: "`FILE`: the result as JSON"},
			&cli.StringFlag{Name: "junit", Usage: "`FILE`: a JUnit test case per check"},
			memoryFlag(),
			&cli.StringFlag{Name: "state", Usage: "`DIR` that keeps where a killed run was, to go on from (default: the user's cache folder; none: do not)"},
			workersFlag("computing"),
			&cli.BoolFlag{Name: "skip-forward", Usage: "exact checks and weight errors only"},
		), partFlags()...), endpointFlags()...),
		Action: runVerify,
	}
}

// reportFlags are the flags that name a file for the result, and what goes there.
var reportFlags = []struct {
	name  string
	write func(io.Writer, *verify.Result) error
}{{"report", reports.HTML}, {"json", reports.JSON}, {"junit", reports.JUnit}}

// verifyOptions reads the flags that say how to compare, and the tokens.
func verifyOptions(c *cli.Context) (verify.Options, error) {
	o := verify.Options{Tol: c.Float64("tol"), Tokens: c.Int("tokens"), SeqLen: c.Int("seq-len"), Workers: c.Int("workers"), SkipForward: c.Bool("skip-forward"), AllTokens: c.Bool("all-tokens"),
		Reference: c.String("reference")}
	switch {
	case c.IsSet("tol") && !(o.Tol > 0):
		return o, usagef("--tol must be above 0")
	case o.Tokens < 1 || o.SeqLen < 1:
		return o, usagef("--tokens and --seq-len must be at least 1")
	case o.Workers < 0:
		return o, usagef("--workers cannot be negative")
	case o.Reference != "" && o.Reference != verify.ReferenceSource && o.Reference != verify.ReferenceWeights:
		return o, usagef("--reference is source or weights, not %q", o.Reference)
	case c.IsSet("text") && c.IsSet("token-ids"):
		return o, usagef("give --text or --token-ids, not both")
	}
	var err error
	if o.MaxMemory, err = size(c, "max-memory"); err != nil {
		return o, err
	}
	o.State = stateDir(c.String("state"))
	if name := c.String("token-ids"); name != "" {
		if o.TokenIDs, err = readTokenIDs(name); err != nil {
			return o, err
		}
	}
	if name := c.String("text"); name != "" {
		if o.Text, err = readText(name); err != nil {
			return o, err
		}
	}
	o.FS, o.Warn = disk, func(text string) { fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", safetext.Line(text)) }
	return o, nil
}

func runVerify(c *cli.Context) error {
	if err := checkEndpointFlags(c); err != nil {
		return err
	}
	if len(c.StringSlice("endpoint")) > 0 {
		return runEndpoint(c)
	}
	if c.Bool("merge") {
		return runMerge(c)
	}
	index, count, err := verifyPart(c)
	if err != nil {
		return err
	}
	args, err := paths(c, "SRC", "DST")
	if err != nil {
		return err
	}
	o, err := verifyOptions(c)
	if err != nil {
		return err
	}
	if count > 0 {
		return runPart(c, args[0], args[1], o, index, count)
	}
	bar, err := newProgress(c, "verify")
	if err != nil {
		return err
	}
	files, err := reportFiles(c)
	if err != nil {
		return err
	}
	o.Progress = verifyProgress(bar)
	r, err := verify.Compare(c.Context, args[0], args[1], o)
	bar.Close()
	if err = stopped(err, &o); err == nil {
		err = settleRemotes(c)
	}
	if err != nil {
		return refused(err, args[0], args[1], files)
	}
	return sayVerdict(c, r, files)
}

// reportFiles opens the files for the result.
func reportFiles(c *cli.Context) (files []*output, err error) {
	for _, flag := range reportFlags {
		f, err := openOutput(flag.name, c.String(flag.name))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// verifyProgress shows how far a verification is: bytes are the bar's unit, and a
// stage of the forward pass moves its label.
func verifyProgress(bar progress.Reporter) func(done, total int64, stage string) {
	var read int64
	return func(done, total int64, stage string) {
		if stage == "weights" {
			read = done
			bar.Update(done, total, "weights")
			return
		}
		bar.Update(read, read, fmt.Sprintf("%s %d %%", stage, 100*done/max(total, 1)))
	}
}

// sayVerdict prints a result, writes its files and makes the exit code of it.
func sayVerdict(c *cli.Context, r *verify.Result, files []*output) error {
	r.Identity.Version, r.PeakRSS = currentBuild().Version, rss.Self()
	// The verdict comes first: whatever file fails then, it has been said.
	_, err := fmt.Fprint(c.App.Writer, reports.Text(r))
	for i, flag := range reportFlags {
		err = errors.Join(err, files[i].put(func(w io.Writer) error { return flag.write(w, r) }))
	}
	if err != nil {
		return err
	}
	if r.Verdict == verify.Undecided {
		return &exitError{code: exitUndecided, silent: true}
	}
	return verdict(r.Verdict == verify.Pass)
}

// refused writes the files of a run whose checkpoints cannot be compared, and
// returns its error. Other errors say nothing of the checkpoints.
func refused(err error, src, dst string, files []*output) error {
	if codeOf(err) != exitBadInput {
		return err
	}
	e := verify.Refusal{Reason: oneLine(err.Error()), Hint: hintOf(err), Exit: exitBadInput}
	var bad *verify.Error
	var file *safetensors.Error
	switch {
	case errors.As(err, &bad):
		e.Where = bad.Where
	case errors.As(err, &file):
		e.Where = file.File
	}
	r := verify.Refused(src, dst, e)
	r.Identity.Version, r.PeakRSS = currentBuild().Version, rss.Self()
	for i, flag := range reportFlags {
		if late := files[i].put(func(w io.Writer) error { return flag.write(w, r) }); late != nil {
			return errors.Join(err, late)
		}
	}
	return err
}

// readText reads documents: a line with a JSON object each, or one plain text.
func readText(name string) ([]string, error) {
	data, err := fsx.ReadRegular(name, fsx.MaxInput)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(strings.TrimSpace(string(data)), "{\"") {
		return []string{string(data)}, nil
	}
	var out []string
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, 64<<20)
	for n := 1; s.Scan(); n++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		var d struct{ Text *string }
		if err := json.Unmarshal(s.Bytes(), &d); err != nil || d.Text == nil {
			return nil, fmt.Errorf("%s: line %d is no JSON object with a \"text\" field", name, n)
		}
		out = append(out, *d.Text)
	}
	return out, s.Err()
}

// stateDir is the folder for the state of killed runs, "" for none.
func stateDir(flag string) string {
	switch flag {
	case "none":
		return ""
	case "":
		if dir, err := os.UserCacheDir(); err == nil {
			return filepath.Join(dir, "glmconv")
		}
	}
	return flag
}
