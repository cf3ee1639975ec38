package main

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// planFlags are the flags that decide what a result is.
func planFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "scheme", Usage: "what it becomes: " + schemeNames() + " (required unless --recipe)"},
		&cli.StringFlag{Name: "recipe", Usage: "as published for Ascend, in place of --scheme: " + recipeNames()},
		&cli.StringFlag{Name: "format", Usage: "compressed-tensors, hf-fp8, ascend, modelopt or plain (default: by scheme and family; plan says which and why)"},
		&cli.StringFlag{Name: "arith", Value: "best", Usage: "best (smaller error) or compat (the bytes of llm-compressor, msmodelslim or ModelOpt)"},
		&cli.StringFlag{Name: "group-size", Value: "128", Usage: "int4 group: 32, 64 or 128, or channel: one scale for each output channel (w4a8)"},
		&cli.BoolFlag{Name: "zero-points", Usage: "asymmetric codes, where engines have kernels for them"},
		&cli.StringFlag{Name: "rest", Usage: "what becomes of linears beside the routed experts: bf16 (as in SRC), fp8 or same of nvfp4, mxfp4, mxfp8 and the like (default: bf16); bf16, int8 or same of w4a8 as compressed-tensors (default: same)"},
		&cli.StringFlag{Name: "mtp", Value: "auto", Usage: "auto, quantize, float or drop: what becomes of the MTP layer"},
		&cli.StringSliceFlag{Name: "ignore", Usage: "leave modules alone: a name, or re: and a pattern (repeatable; no match is an error)"},
		&cli.StringSliceFlag{Name: "target", Usage: "quantise only these modules: a name, or re: and a pattern (repeatable; no match is an error)"},
		&cli.StringFlag{Name: "fold", Usage: "off; gamma: norms give their gains, as powers of two, to the weights that read them; search: with --calib, where it helps, and value and up rows too (exact; adapters trained on SRC do not fit the result; default: off, search with --calib)"},
		&cli.BoolFlag{Name: "requantize", Usage: "convert a source that has the scheme already"},
		&cli.BoolFlag{Name: "allow-lossy-source", Usage: "convert a source with less than 8 bits per weight"},
		&cli.BoolFlag{Name: "static", Usage: "with --calib: inputs of attention get one scale each, as in published Ascend checkpoints, whose fused kernels want them (w8a8 and w4a8 as ascend)"},
		&cli.StringFlag{Name: "kv", Usage: "c8: ask engines to keep caches in int8: index keys and latents of sparse attention, keys and values of GLM-4.x (with --calib); ascend only"},
		&cli.BoolFlag{Name: "rotate", Usage: "turn the residual stream into a basis without outliers before rounding (QuaRot; exact; ascend only unless the MTP layer is dropped)"},
		&cli.StringFlag{Name: "shard-size", Value: "4GiB", Usage: "output shard size where the layout does not keep the source's shards"},
		workersFlag("computing"),
		memoryFlag(),
		jsonFlag(),
	}
}

func cmdPlan() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "say what quantize would make of a checkpoint, without reading a weight",
		ArgsUsage: "--scheme S SRC",
		Description: "Every tensor's fate and why, bytes by kind, peak memory, and for each engine the\n" +
			"parallel sizes that will load, the rule that forbids the others, and the flags that\n" +
			"the serve command must carry. Reads headers, and the gains of norms on a disk; with\n" +
			"--calib also the weights that folds are searched for, and with --budget or --target-kl\n" +
			"the model, to measure which groups of weights gain most from richer formats.",
		Flags: append(append(append(planFlags(), learnFlags()...), engineFlags()...),
			&cli.StringFlag{Name: "save", Usage: "`FILE` for the plan with the headers and the commit it was made of: quantize --plan FILE reads none of them again"}),
		Action: func(c *cli.Context) error {
			args, err := paths(c, "SRC")
			if err != nil {
				return err
			}
			if _, err := engineQuery(c); err != nil {
				return err
			}
			out, err := openOutput("save", c.String("save"))
			if err != nil {
				return err
			}
			src, p, err := makePlan(c, args[0])
			if err != nil {
				return err
			}
			defer src.Close()
			if err := savePlan(c, out, c.Args().First(), p); err != nil {
				return err
			}
			return showPlan(c, p)
		},
	}
}

// opened is a checkpoint that a plan was made of.
type opened struct {
	*safetensors.Checkpoint
	rotated *quant.Rotated // nil: it is the folder itself
	learnt  func()         // removes what learning left on disk
	release func()         // unlocks it
}

// Close closes the checkpoint.
func (o *opened) Close() {
	defer o.release()
	if o.rotated != nil {
		_ = o.rotated.Close()
		return
	}
	o.Checkpoint.Close()
}

// planOptions are those of a plan that flags name.
func planOptions(c *cli.Context) (quant.Options, error) {
	o := quant.Options{KV: quant.KVMode(c.String("kv")), MTP: layout.MTPMode(c.String("mtp")), Ignore: c.StringSlice("ignore"), Target: c.StringSlice("target"),
		Requantize: c.Bool("requantize"), AllowLossy: c.Bool("allow-lossy-source"), Rest: layout.RestMode(c.String("rest")), ZeroPoints: c.Bool("zero-points")}
	if c.IsSet("group-size") {
		var err error
		if o.GroupSize, err = groupSize(c.String("group-size")); err != nil {
			return o, err
		}
	}
	switch c.String("arith") {
	case "best":
	case "compat":
		o.Arith = numeric.Compat
	default:
		return o, usagef("--arith must be best or compat, not %q", c.String("arith"))
	}
	switch o.MTP {
	case layout.MTPAuto, layout.MTPQuantize, layout.MTPFloat, layout.MTPDrop:
	default:
		return o, usagef("--mtp must be auto, quantize, float or drop, not %q", o.MTP)
	}
	var err error
	if o.Fold, err = foldMode(c); err != nil {
		return o, err
	}
	o.ShardSize, err = size(c, "shard-size")
	return o, err
}

// groupSize reads --group-size.
func groupSize(text string) (int, error) {
	if text == "channel" {
		return layout.PerChannel, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		return 0, usagef("--group-size must be 32, 64, 128 or channel, not %q", text)
	}
	return n, nil
}

// makePlan opens a checkpoint and plans what the flags ask for.
func makePlan(c *cli.Context, dir string) (*opened, *quant.Plan, error) {
	recipe, err := recipeOf(c)
	if err != nil {
		return nil, nil, err
	}
	scheme, format, err := schemeOf(c, recipe)
	if err != nil {
		return nil, nil, err
	}
	o, err := planOptions(c)
	if err != nil {
		return nil, nil, err
	}
	// Headers leave little behind: collecting at every doubling of so little would
	// only cost time. The plan of a large model is another matter: it is to stay small.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	static := c.Bool("static") || recipe != nil && recipe.Static
	if static && c.String("calib") == "" {
		return nil, nil, &layout.ImpossibleError{What: "static inputs without --calib", Rule: "the scales of inputs are made of the ranges that they take on text",
			Nearest: "gather them first: glmconv calibrate --text FILE SRC STATS, then --calib STATS"}
	}
	src, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	if c.String("save") == "" {
		for _, s := range remotesOf(c).open {
			s.Forget()
		}
	}
	debug.SetGCPercent(100)
	turn := c.Bool("rotate") || recipe != nil
	if c.String("calib") == "" && !turn { // what is learnt, or turned, takes what it needs
		old := debug.SetMemoryLimit(-1)
		defer debug.SetMemoryLimit(old)
		debug.SetMemoryLimit(min(old, planMemory(src.Len()))) // headers are all that is read meanwhile: blocks of a remote source come later
	}
	l := &learner{c: c, src: src, scheme: scheme, format: format, o: o, recipe: recipe, static: static, turn: turn}
	out, err := l.open(dir)
	if err != nil {
		src.Close()
		return nil, nil, err
	}
	return out, l.plan, nil
}

// planMemory is how many bytes the process may grow to, code aside, while it plans
// a checkpoint of n tensors before the collector has to look for what is not needed
// any more: 1.6 KB a tensor are needed at the most, 0.9 when the plan is made.
func planMemory(n int) int64 { return 24<<20 + int64(n)*1500 }

// recipeOf reads --recipe and refuses flags that it decides.
func recipeOf(c *cli.Context) (*quant.Recipe, error) {
	name := c.String("recipe")
	if name == "" {
		return nil, nil
	}
	for _, f := range []string{"scheme", "static", "rotate", "kv", "mtp", "rest", "group-size", "zero-points"} {
		if c.IsSet(f) {
			return nil, usagef("--recipe decides what --%s asks for: give one of them", f)
		}
	}
	return quant.LookupRecipe(name)
}

// schemeOf reads --scheme and --format.
func schemeOf(c *cli.Context, recipe *quant.Recipe) (layout.Scheme, layout.Format, error) {
	format, err := layout.ParseFormat(c.String("format"))
	switch {
	case err != nil:
		return "", "", err
	case recipe != nil && format != "" && format != layout.Ascend:
		return "", "", usagef("--recipe %s is written as ascend, not as %s", recipe.Name, format)
	case recipe != nil:
		return recipe.Scheme, layout.Ascend, nil
	case c.String("scheme") == "":
		return "", "", usagef("--scheme is required: %s", schemeNames())
	}
	scheme, err := layout.ParseScheme(c.String("scheme"))
	if err != nil {
		return "", "", unknownScheme(c.String("scheme"))
	}
	return scheme, format, nil
}

// recipeNames lists the recipes.
func recipeNames() string {
	names := make([]string, len(quant.Recipes))
	for i, r := range quant.Recipes {
		names[i] = r.Name
	}
	return strings.Join(names, ", ")
}

// foldMode reads --fold.
func foldMode(c *cli.Context) (quant.FoldMode, error) {
	switch m := quant.FoldMode(c.String("fold")); m {
	case "", quant.FoldOff, quant.FoldGamma:
		return m, nil
	case quant.FoldSearch:
		if c.String("calib") == "" {
			return "", usagef("--fold search needs statistics of activations (--calib); gamma needs none")
		}
		return "", nil // once there is a plan to search for
	default:
		return "", usagef("--fold must be off, gamma or search, not %q", m)
	}
}

// schemeNames lists the schemes.
func schemeNames() string {
	names := make([]string, len(layout.Schemes))
	for i, s := range layout.Schemes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func convertOptions(c *cli.Context) (convert.Options, error) {
	mem, err := size(c, "max-memory")
	if err != nil {
		return convert.Options{}, err
	}
	if c.Int("workers") < 0 {
		return convert.Options{}, usagef("--workers must not be negative")
	}
	held := remoteMemory(c)
	if mem < 2*held {
		return convert.Options{}, usagef("--max-memory %s is too little for %d connections, which take %d MiB: allow more, or fewer --connections", c.String("max-memory"), c.Int("connections"), held>>20)
	}
	return convert.Options{Workers: c.Int("workers"), MaxMemory: mem - held, Version: currentBuild().Version, FS: disk}, nil
}

func showPlan(c *cli.Context, p *quant.Plan) error {
	o, err := convertOptions(c)
	if err != nil {
		return err
	}
	q, err := engineQuery(c)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.WriteJSON(c.App.Writer, convert.PeakMemory(p, o), p.EnginesFor(q))
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s  memory        %s peak\n\n%s", p.Summary(), progress.Bytes(convert.PeakMemory(p, o)), engineTable(p.EnginesFor(q)))
	return err
}

// engineTable condenses the engine rows: for each release the degrees that
// load and where, the rules that forbid the others, the flags.
func engineTable(rows []engine.Row) string {
	var b strings.Builder
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Engine == rows[0].Engine && rows[n].Release == rows[0].Release {
			n++
		}
		engineLines(&b, rows[:n])
		rows = rows[n:]
	}
	return b.String()
}

// engineLines says what one release does.
func engineLines(b *strings.Builder, rows []engine.Row) {
	name, version := rows[0].Engine, rows[0].Release
	line := func(format string, args ...any) {
		fmt.Fprintf(b, "  %-12s  %s\n", name, fmt.Sprintf(format, args...))
		name = ""
	}
	s := engine.Summarize(rows)
	if s.Answer != engine.Loads {
		line("%s: %s · %s", map[engine.Answer]string{engine.Refuses: "does not load", engine.Differs: "loads and computes something else", engine.NotJudged: "not judged"}[s.Answer], s.Rule, version)
		return
	}
	line("loads with %s", strings.Join(s.Parallel, " "))
	line("%s on %s", version, s.Generations())
	if s.Rule != "" {
		line("%s", s.Rule)
	}
	for _, r := range s.Others {
		verb := map[engine.Answer]string{engine.Refuses: "not", engine.Differs: "wrong with", engine.NotJudged: "not judged:"}[r.Answer]
		line("%s %s: %s", verb, strings.Join(r.Parallel, " "), r.Rule)
	}
	for _, f := range s.Flags {
		line("%s", f)
	}
	for _, f := range s.Some {
		line("with %s: %s", strings.Join(f.Parallel, " "), f.Flag)
	}
}

// engineQuery reads the flags of engineFlags.
func engineQuery(c *cli.Context) (q engine.Query, err error) {
	for _, text := range c.StringSlice("engine") {
		r, err := engine.Find(text)
		if err != nil {
			return q, err
		}
		q.Releases = append(q.Releases, r)
	}
	if id := c.String("hardware"); id != "" {
		d, err := engine.FindDevice(id)
		if err != nil {
			return q, err
		}
		q.Hardware = &d
	}
	return q, nil
}
