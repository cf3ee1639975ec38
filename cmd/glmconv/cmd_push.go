package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/source"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/check"
)

func cmdPush() *cli.Command {
	return &cli.Command{
		Name:      "push",
		Usage:     "check a result, draft its model card, and hand it to the hub's own client",
		ArgsUsage: "DIR hf://ORG/NAME[@REV]",
		Description: "Checks DIR as check does: what is not good, or not finished, is not published. Writes\n" +
			"a draft of README.md if there is none: the base model, the scheme, how it was made\n" +
			"and, with --verify, the figures of verify --json. Then prints the command of the\n" +
			"hub's own client, hf (pip install huggingface_hub), which uploads; --run runs it,\n" +
			"with the credentials that it has. glmconv itself sends nothing.\n\n" +
			"Exit codes: 0 printed or uploaded, 1 not good, 2 usage or no hf, 3 not judged,\n" +
			"65 not a finished result, 74 the upload failed (repeat it: hf goes on).",
		Flags: append(engineFlags(),
			&cli.StringFlag{Name: "verify", Usage: "`FILE` that verify --json wrote of this result, for the card"},
			&cli.StringFlag{Name: "base", Usage: "base model as ORG/NAME, where the manifest does not name it"},
			&cli.BoolFlag{Name: "private", Usage: "if the repository is made, make it private"},
			&cli.BoolFlag{Name: "pr", Usage: "upload as a pull request"},
			&cli.BoolFlag{Name: "run", Usage: "run the command"},
			workersFlag("hashing"),
		),
		Action: push,
	}
}

func push(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) != 2 {
		return usagef("push needs DIR and hf://ORG/NAME, got %d argument(s); see glmconv push --help", len(args))
	}
	id, rev, err := reach.Repository(args[1])
	if err != nil {
		return err
	}
	if source.Scheme(args[0]) != "" {
		return notRemote("push", 0, args[0])
	}
	if b := c.String("base"); b != "" {
		if _, _, err := reach.Repository("hf://" + b); err != nil {
			return usagef("--base must be ORG/NAME, not %q", b)
		}
	}
	m, err := finishedResult(args[0])
	if err != nil {
		return err
	}
	proof, err := readProof(c, args[0], m)
	if err != nil {
		return err
	}
	if err := checkForPush(c, args[0]); err != nil {
		return err
	}
	if err := draftCard(c, args[0], m, proof); err != nil {
		return err
	}
	return upload(c, uploadCommand(c, args[0], id, rev))
}

// finishedResult reads the manifest of a result that may be published.
func finishedResult(dir string) (*quant.Manifest, error) {
	if _, err := os.Stat(filepath.Join(dir, fsx.StateDir)); err == nil {
		return nil, &exitError{code: exitBadInput, err: fmt.Errorf("%s is not finished: a conversion can be resumed there", dir)}
	}
	m, err := quant.ReadManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &exitError{code: exitBadInput, err: fmt.Errorf("%s has no %s: push publishes finished results of glmconv", dir, quant.ManifestName)}
	}
	return m, err
}

// readProof reads the verdict of --verify, nil if there is none. It must be a pass
// of a result of this scheme and format.
func readProof(c *cli.Context, dir string, m *quant.Manifest) (*verify.Result, error) {
	name := c.String("verify")
	if name == "" {
		return nil, nil
	}
	b, err := fsx.ReadRegular(name, fsx.MaxInput)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return &exitError{code: exitBadInput, err: fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...))}
	}
	var r verify.Result
	if err := json.Unmarshal(b, &r); err != nil || r.Schema != verify.Schema {
		return nil, bad("is not what verify --json writes")
	}
	switch {
	case r.Verdict != verify.Pass:
		return nil, bad("has the verdict %s: what did not pass is not published", r.Verdict)
	case r.Identity.Scheme != string(m.Scheme) || r.Identity.Format != string(m.Format):
		return nil, bad("is of a result in %s (%s), %s is in %s (%s)", r.Identity.Scheme, r.Identity.Format, dir, m.Scheme, m.Format)
	case filepath.Base(filepath.Clean(r.Identity.Result)) != filepath.Base(filepath.Clean(dir)):
		fmt.Fprintf(c.App.ErrWriter, "warning: %s was written of %s: make sure that it is this result\n", name, r.Identity.Result)
	}
	return &r, nil
}

// checkForPush lets only good results pass, and says what is wrong with others.
func checkForPush(c *cli.Context, dir string) error {
	rep, err := check.Run(c.Context, dir, check.Options{Engines: c.StringSlice("engine"), Hardware: c.String("hardware"), Workers: c.Int("workers")})
	if err != nil {
		return err
	}
	if rep.OK {
		_, err := fmt.Fprintf(c.App.ErrWriter, "note: check: good, %d files compared with their hashes\n", rep.Files)
		return err
	}
	if _, err := fmt.Fprint(c.App.Writer, rep.Text()); err != nil {
		return err
	}
	if rep.Verdict == nil {
		return &exitError{code: exitUndecided, silent: true}
	}
	return verdict(false)
}

// uploadCommand is the command of the hub's client.
func uploadCommand(c *cli.Context, dir, id, rev string) []string {
	if strings.HasPrefix(dir, "-") {
		dir = "./" + dir
	}
	out := []string{"hf", "upload", id, dir, ".", "--exclude", ".glmconv*"}
	if rev != "" {
		out = append(out, "--revision", rev)
	}
	if c.Bool("private") {
		out = append(out, "--private")
	}
	if c.Bool("pr") {
		out = append(out, "--create-pr")
	}
	return out
}

// upload prints a command or runs it.
func upload(c *cli.Context, words []string) error {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellQuote(w)
	}
	if _, err := fmt.Fprintln(c.App.Writer, strings.Join(quoted, " ")); err != nil || !c.Bool("run") {
		return err
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return usagef("hf, the hub's own client, is not on PATH: pip install huggingface_hub")
	}
	cmd := exec.CommandContext(c.Context, path, words[1:]...) //nolint:gosec // the words are ours, arguments are passed as they are
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdout, cmd.Stderr = c.App.Writer, c.App.ErrWriter
	if err := cmd.Run(); err != nil {
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		return &exitError{code: exitIO, err: fmt.Errorf("hf upload failed: %w; the same command goes on where it ended", err)}
	}
	return nil
}
