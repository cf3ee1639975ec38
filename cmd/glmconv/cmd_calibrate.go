package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/rss"
	"github.com/glmconv/glmconv/safetensors"
)

func cmdCalibrate() *cli.Command {
	return &cli.Command{
		Name:      "calibrate",
		Usage:     "gather statistics of activations for quantize --calib",
		ArgsUsage: "[--text FILE] SRC DIR",
		Description: "Runs SRC once over a text, weights streamed, and writes what quantize --calib DIR\n" +
			"learns from: sums and samples of the inputs of every projection, and the token ids.\n" +
			"Use text of the kind that the model will serve, and none that it is judged on; without\n" +
			"--text a small built-in corpus is read, which is not the one of verify. Experts\n" +
			"that saw few tokens are named. --index I --count N runs part I of N; the parts together\n" +
			"are the statistics of one run, bit for bit. States of the tokens are kept on disk,\n" +
			"so that --max-memory holds whatever the text; --resume goes on with what is there.\n\n" +
			"Exit codes: 0 done, 2 usage, 65 unreadable source or text, 74 I/O failed.",
		Flags: append(corpusFlags(", or with \"messages\" that go through the chat template", 65536, 512),
			&cli.StringFlag{Name: "import", Usage: "`FILE` of llama.cpp's imatrix (GGUF or dat) in place of a forward pass: for --method search, without searched folds"},
			&cli.IntFlag{Name: "index", Usage: "run only part `I`, counted from 1"},
			countFlag(),
			&cli.BoolFlag{Name: "resume", Usage: "go on behind the last layer that an interrupted run finished; a part that DIR holds is not run again"},
			&cli.StringFlag{Name: "scratch", Usage: "`FOLDER` for states of all tokens and statistics of finished layers (default: in DIR)"},
			workersFlag("computing"),
			memoryFlag(),
			jsonFlag(),
		),
		Action: runCalibrate,
	}
}

// calibrateResult is the result of calibrate --json.
type calibrateResult struct {
	Schema    string           `json:"schema"`
	Tokens    int              `json:"tokens"`
	Sequences int              `json:"sequences"`
	Part      int              `json:"part"`
	Parts     int              `json:"parts"`
	Coverage  []calib.Coverage `json:"coverage"`
	PeakRSS   int64            `json:"peak_rss"`
}

func runCalibrate(c *cli.Context) error {
	args, err := paths(c, "SRC", "DIR")
	if err != nil {
		return err
	}
	o := calib.CollectOptions{Workers: c.Int("workers")}
	if o.MaxMemory, err = size(c, "max-memory"); err != nil {
		return err
	}
	part, parts := c.Int("index"), c.Int("count")
	switch {
	case c.IsSet("index") != c.IsSet("count"):
		return usagef("--index and --count belong together: --index 1 --count 4 is the first of four parts")
	case !c.IsSet("count"):
		part, parts = 1, 1
	case parts < 1 || part < 1 || part > parts || parts > 99999:
		return usagef("part %d of %d does not exist: parts are numbered from 1", part, parts)
	}
	given := 0
	for _, f := range []string{"text", "token-ids", "import"} {
		if c.String(f) != "" {
			given++
		}
	}
	if c.String("import") != "" && (given > 1 || parts > 1) {
		return usagef("--import takes the place of --text and --token-ids, and has no parts")
	}
	if given > 1 {
		return usagef("give --text or --token-ids, not both: what the model is to be calibrated with")
	}
	if c.Int("tokens") < 2 || c.Int("seq-len") < 2 || o.Workers < 0 {
		return usagef("--tokens and --seq-len must be at least 2, --workers not negative")
	}
	if how, err := fsx.Overlap(args[0], args[1]); err != nil || how != "" {
		return errors.Join(err, usagef("DIR must lie outside of SRC"))
	}
	scratch := statesDir(c, args[1], part, parts)
	done, err := calibrateDir(args[1], scratch, part, parts, c.Bool("resume"))
	if err != nil {
		return err
	}
	if done {
		if err := sameCalibration(c, args[0], args[1], part, parts); err != nil {
			return err
		}
		if err := tidy(args[1], scratch, calib.PartName(part, parts)); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "already done: part %d of %d is in %s\n", part, parts, args[1])
		return nil
	}
	if c.String("import") != "" {
		return importStatistics(c, args[0], args[1])
	}
	return calibratePart(c, args[0], calib.GatherOptions{CollectOptions: o, Dir: args[1], Part: part, Parts: parts, Scratch: scratch, FS: disk})
}

// calibrated opens the checkpoint that statistics are of.
func calibrated(dir string) (*glm.Config, *safetensors.Checkpoint, error) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, nil, err
	}
	src, err := safetensors.OpenDir(dir)
	return cfg, src, err
}

// sameCalibration refuses a finished part of another source or text.
func sameCalibration(c *cli.Context, dir, out string, part, parts int) error {
	cfg, src, err := calibrated(dir)
	if err != nil {
		return err
	}
	defer src.Close()
	source, err := calib.SourceID(src)
	if err != nil {
		return err
	}
	var seqs [][]int // of an imported matrix none are known
	if c.String("import") == "" {
		if seqs, err = calibrationIDs(c, cfg, dir); err != nil {
			return err
		}
		seqs, _ = calib.Part(seqs, part, parts)
	}
	err = calib.Holds(out, part, parts, source, seqs)
	if errors.Is(err, calib.ErrStatistics) {
		return usagef("%v: choose another folder", err)
	}
	return err
}

// importStatistics writes the statistics of an importance matrix of llama.cpp.
func importStatistics(c *cli.Context, dir, out string) error {
	cfg, src, err := calibrated(dir)
	if err != nil {
		return err
	}
	defer src.Close()
	name := c.String("import")
	raw, err := fsx.ReadRegular(name, fsx.MaxInput)
	if err != nil {
		return err
	}
	st, unknown, err := calib.Import(cfg, raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if st.Source, err = calib.SourceID(src); err != nil {
		return err
	}
	if err := fsx.Or(disk).MkdirAll(out); err != nil {
		return err
	}
	if err := st.Write(disk, out, 1, 1); err != nil {
		return err
	}
	if c.Bool("json") {
		coverage, err := st.Coverage(cfg)
		if err != nil {
			return err
		}
		return writeJSON(c, calibrateResult{"glmconv.calibrate/1", 0, 0, 1, 1, append([]calib.Coverage{}, coverage...), rss.Self()})
	}
	_, err = fmt.Fprintf(c.App.Writer, "mean squares of the inputs of %d weights, %d names without one\n", len(st.Names()), len(unknown))
	return err
}

// statesDir is where a part keeps its states and finished layers.
func statesDir(c *cli.Context, dir string, part, parts int) string {
	name := fmt.Sprintf("states-%05d-of-%05d", part, parts)
	if s := c.String("scratch"); s != "" {
		return filepath.Join(s, name)
	}
	return fsx.TempName(filepath.Join(dir, name))
}

// tidy removes what a run that wrote a part, and was ended then, has left.
func tidy(dir, scratch, part string) error {
	left, err := filepath.Glob(filepath.Join(dir, "."+part+".*"))
	if err == nil && len(left) > 0 {
		_, err = fsx.OpenOutput(disk, filepath.Join(dir, part)) // which has the lock, and leaves none
	}
	return errors.Join(err, calib.Forget(disk, scratch))
}

// calibrateDir looks at what is in the folder; done means that the part is.
func calibrateDir(dir, scratch string, part, parts int, resume bool) (done bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	own := calib.PartName(part, parts)
	for _, e := range entries {
		switch {
		case e.Name() == own:
			done = true
		case e.Name() == filepath.Base(scratch) && !resume:
			return false, usagef("%s holds layers of an interrupted run: --resume goes on with them", dir)
		case fsx.IsTemp(e.Name()), strings.HasSuffix(e.Name(), fmt.Sprintf("-of-%05d.safetensors", parts)) && parts > 1, resume:
			continue
		default:
			return false, usagef("%s is not empty (%s): choose another folder, or --resume", dir, e.Name())
		}
	}
	if done && !resume {
		return false, usagef("%s holds this part already: choose another folder, or --resume", dir)
	}
	return done, nil
}

// calibratePart runs one part.
func calibratePart(c *cli.Context, dir string, o calib.GatherOptions) error {
	out, part, parts := o.Dir, o.Part, o.Parts
	cfg, src, err := calibrated(dir)
	if err != nil {
		return err
	}
	defer src.Close()
	seqs, err := calibrationIDs(c, cfg, dir)
	if err != nil {
		return err
	}
	if len(seqs) < parts {
		return fmt.Errorf("the text has %d sequences, too few for %d parts", len(seqs), parts)
	}
	if err := fsx.Or(disk).MkdirAll(out); err != nil {
		return err
	}
	// Two processes with the same part take turns.
	file, err := fsx.OpenOutput(disk, filepath.Join(out, calib.PartName(part, parts)))
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	bar, err := newProgress(c, "calibrate")
	if err != nil {
		return err
	}
	o.Progress = bar.Update
	o.Text = calib.TextID(seqs)
	seqs, o.First = calib.Part(seqs, part, parts)
	var st *calib.Statistics
	err = file.Replace(func(string) error {
		st, err = calib.Gather(c.Context, cfg, src, seqs, o)
		return err
	})
	bar.Close()
	if err != nil {
		return err
	}
	coverage, err := st.Coverage(cfg)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c, calibrateResult{"glmconv.calibrate/1", st.Tokens(), len(seqs), part, parts, append([]calib.Coverage{}, coverage...), rss.Self()})
	}
	fmt.Fprintf(c.App.Writer, "%d tokens in %d sequences, part %d of %d · peak %s\n", st.Tokens(), len(seqs), part, parts, progress.Bytes(rss.Self()))
	rare := 0
	for _, x := range coverage {
		fmt.Fprintf(c.App.Writer, "layer %-4d %d experts: least %d tokens, median %d, %d below 64\n", x.Layer, x.Experts, x.Least, x.Median, x.Rare)
		rare += x.Rare
	}
	if rare > 0 {
		fmt.Fprintf(c.App.ErrWriter, "warning: %d experts saw fewer than 64 tokens; more text, or text of more kinds, would serve them\n", rare)
	}
	return nil
}

// scratchDir is where codes are learnt: the folder asked for, or one in the
// statistics' folder.
func scratchDir(c *cli.Context, dir string) string {
	if s := c.String("scratch"); s != "" {
		return s
	}
	return filepath.Join(dir, "scratch")
}
