package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/recipe"
)

func cmdRecipe() *cli.Command {
	return &cli.Command{
		Name:      "recipe",
		Usage:     "say how to serve a checkpoint: parallel sizes, flags, whether it fits",
		ArgsUsage: "DIR",
		Description: "Reads headers, starts nothing. A set-up that would crash, not fit or compute wrong numbers is\n" +
			"refused with the rule, its source and the nearest one that works. Without DIR, --model plans a\npublished checkpoint with nothing on disk.\n\n" +
			"  glmconv recipe Air-w8a8 --engine sglang --hardware a100-80g:4\n" +
			"  glmconv recipe --model glm-5 --scheme w4a8 --engine vllm-ascend@0.20 --hardware ascend-a3:16 --explain\n" +
			"  glmconv recipe GLM-5-w8a8 --engine vllm-ascend --hardware ascend-a3:16 --prefill 2x16 --decode 4x16 --out script --out-dir deploy\n" +
			"  glmconv recipe Air-w8a8 --html recipes.html\n\n" +
			"Exit codes: 0 printed, 1 refused, 2 wrong usage, 3 printed but tight, 65 no checkpoint.",
		Flags:  recipeFlags(),
		Action: runRecipe,
	}
}

func recipeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "engine", Usage: "vllm, sglang or vllm-ascend, each with @RELEASE, or all for a comparison (required)"},
		&cli.StringFlag{Name: "hardware", Usage: "ID:DEVICES[xNODES]: a100-80g:4, h200:8x2; or custom:mem=96GiB,cc=9.0,n=8 (required)"},
		&cli.StringFlag{Name: "model", Usage: "a published checkpoint instead of DIR: glm-4.5-air, glm-5 …"},
		&cli.StringFlag{Name: "scheme", Usage: "with --model: what it is quantized to (default: BF16)"},
		&cli.StringFlag{Name: "format", Usage: "with --model: compressed-tensors, hf-fp8 or ascend"},
		&cli.StringFlag{Name: "topology", Usage: "single, multi or pd (default: multi with several nodes, pd with --prefill)"},
		&cli.StringFlag{Name: "goal", Value: recipe.Throughput, Usage: strings.Join(recipe.Goals, ", ")},
		&cli.IntFlag{Name: "tp", Usage: "force the tensor-parallel degree"},
		&cli.IntFlag{Name: "ep", Usage: "force the expert-parallel degree: 1 (off), or the ranks of TP x DP (SGLang: of TP)"},
		&cli.IntFlag{Name: "dp", Usage: "force the number of data-parallel ranks or replicas"},
		&cli.IntFlag{Name: "pp", Usage: "force pipeline stages"},
		&cli.IntFlag{Name: "max-model-len", Usage: "tokens of one request that must fit (default: the model's own, or what fits)"},
		&cli.IntFlag{Name: "concurrency", Usage: "requests of that length that must fit at once"},
		&cli.StringFlag{Name: "kv-dtype", Value: "auto", Usage: "auto, bf16 or fp8"},
		&cli.IntFlag{Name: "mtp", Value: recipe.AutoMTP, Usage: "drafts of the MTP layer (default: by goal)"},
		&cli.BoolFlag{Name: "no-mtp", Usage: "no speculative decoding"},
		&cli.StringFlag{Name: "tools", Usage: "tool-call parser, or none (default: the model's)"},
		&cli.StringFlag{Name: "reasoning", Usage: "reasoning parser, or none (default: the model's)"},
		&cli.StringFlag{Name: "served-model-name", Usage: "name that clients use"},
		&cli.StringFlag{Name: "image", Usage: "container image (default: by table and release)"},
		&cli.StringFlag{Name: "prefill", Usage: "NODESxDEVICES of the prefill group"},
		&cli.StringFlag{Name: "decode", Usage: "NODESxDEVICES of the decode group"},
		&cli.StringFlag{Name: "node-ip", Usage: "addresses of all nodes, with commas (default: placeholders)"},
		&cli.StringFlag{Name: "interface", Usage: "network interface that joins the nodes"},
		&cli.StringSliceFlag{Name: "out", Usage: strings.Join(recipe.Forms, ", ") + " (repeatable; default: command)"},
		&cli.StringFlag{Name: "out-dir", Usage: "write the files there"},
		&cli.StringFlag{Name: "html", Usage: "write answers for all devices, engines and goals in one page to `FILE`; --engine and --hardware need not be given"},
		&cli.BoolFlag{Name: "explain", Usage: "the arithmetic, the reasons and what was rejected"},
		&cli.BoolFlag{Name: "json", Usage: "the decision as JSON"},
		&cli.BoolFlag{Name: "unverified", Usage: "print also what no source has verified"},
	}
}

func runRecipe(c *cli.Context) error {
	q, err := recipeQuery(c)
	if err != nil {
		return usageOf(err)
	}
	if name := c.String("engine"); name != "all" && name != "" {
		if q.Release, err = engine.Find(name); err != nil {
			return err
		}
	}
	page, err := openOutput("html", c.String("html"))
	if err != nil {
		return err
	}
	if err := page.put(func(w io.Writer) error { return recipe.WriteHTML(w, q) }); err != nil {
		return usageOf(err)
	}
	switch {
	case c.String("engine") == "" || c.String("hardware") == "": // the page was all
		return nil
	case c.String("engine") == "all":
		return compareEngines(c, q)
	}
	r, err := recipe.Decide(q)
	if err != nil {
		return usageOf(err)
	}
	return showRecipe(c, r)
}

// usageOf gives a question that contradicts itself its exit code.
func usageOf(err error) error {
	var u *recipe.UsageError
	if errors.As(err, &u) {
		return &exitError{code: exitUsage, err: u}
	}
	return err
}

func recipeQuery(c *cli.Context) (q recipe.Query, err error) {
	switch {
	case c.String("html") != "":
	case c.String("engine") == "":
		return q, usagef("--engine is required: vllm, sglang, vllm-ascend, each with @RELEASE, or all")
	case c.String("hardware") == "":
		return q, usagef("--hardware is required: ID:DEVICES or ID:DEVICESxNODES, such as a100-80g:4")
	}
	q = recipe.Query{
		Topology: c.String("topology"), Goal: c.String("goal"), TP: c.Int("tp"), EP: c.Int("ep"), DP: c.Int("dp"), PP: c.Int("pp"),
		MaxModelLen: c.Int("max-model-len"), Concurrency: c.Int("concurrency"), KV: c.String("kv-dtype"), MTP: c.Int("mtp"),
		Tools: c.String("tools"), Reasoning: c.String("reasoning"), ServedName: c.String("served-model-name"), Interface: c.String("interface"),
		Image: c.String("image"), Unverified: c.Bool("unverified"),
	}
	if c.Bool("no-mtp") {
		q.MTP = 0
	}
	if s := c.String("node-ip"); s != "" {
		q.NodeIP = strings.Split(s, ",")
	}
	if s := c.String("hardware"); s != "" {
		if q.Hardware, err = recipe.ParseHardware(s); err != nil {
			return q, err
		}
	}
	for _, g := range []struct {
		flag string
		into *recipe.Group
	}{{"prefill", &q.Prefill}, {"decode", &q.Decode}} {
		if *g.into, err = nodeGroup(c, g.flag); err != nil {
			return q, err
		}
	}
	if q.Prefill.Nodes > 0 && q.Topology == "" {
		q.Topology = "pd"
	}
	q.Model, err = recipeModel(c)
	return q, err
}

// nodeGroup reads "2x16".
func nodeGroup(c *cli.Context, flag string) (g recipe.Group, err error) {
	s := c.String(flag)
	if s == "" {
		return g, nil
	}
	nodes, devices, ok := strings.Cut(s, "x")
	g.Nodes, err = strconv.Atoi(nodes)
	if err == nil {
		g.Devices, err = strconv.Atoi(devices)
	}
	if !ok || err != nil || g.Nodes < 1 || g.Nodes > 64 || g.Devices < 1 || g.Devices > 256 {
		return g, usagef("--%s %q: write NODESxDEVICES, such as 2x16", flag, s)
	}
	return g, nil
}

func recipeModel(c *cli.Context) (*recipe.Model, error) {
	if name := c.String("model"); name != "" {
		if c.Args().Present() {
			return nil, usagef("DIR and --model exclude each other")
		}
		return recipe.Published(name, c.String("scheme"), c.String("format"))
	}
	args, err := paths(c, "DIR")
	if err != nil {
		return nil, err
	}
	if c.String("scheme") != "" || c.String("format") != "" {
		return nil, usagef("--scheme and --format go with --model: a folder is what it is")
	}
	return recipe.Open(c.Context, args[0])
}

// showRecipe prints a decision and gives it its exit code.
func showRecipe(c *cli.Context, r *recipe.Recipe) error {
	forms := recipeForms(c)
	if len(forms) == 0 {
		forms = []string{"command"}
	}
	if r.Refused != nil {
		if slices.Contains(forms, "json") {
			if err := printForm(c, r, "json"); err != nil {
				return err
			}
		}
		if c.Bool("explain") {
			fmt.Fprint(c.App.Writer, safetext.Text(r.Explain()))
		}
		return &exitError{code: exitNegative, err: &refusedError{r.Refused, r.Query.Topology == "pd"}}
	}
	if c.Bool("explain") {
		fmt.Fprint(c.App.Writer, safetext.Text(r.Explain()))
	} else {
		for _, f := range forms {
			if err := emit(c, r, f, c.String("out-dir")); err != nil {
				return usageOf(err)
			}
		}
	}
	if r.Tight {
		return &exitError{code: exitUndecided, err: &tightError{r}}
	}
	return nil
}

// recipeForms are the forms that are asked for.
func recipeForms(c *cli.Context) []string {
	if c.Bool("json") {
		return []string{"json"}
	}
	return c.StringSlice("out")
}

// emit prints a form, or writes its files to a folder.
func emit(c *cli.Context, r *recipe.Recipe, form, dir string) error {
	if dir == "" {
		return printForm(c, r, form)
	}
	files, err := r.Files(form)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return &outputError{flag: "out-dir", path: dir, err: err}
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		o, err := openOutput("out-dir", path)
		if err != nil {
			return err
		}
		if err := o.Write(f.Data); err != nil {
			return &outputError{flag: "out-dir", path: path, err: err, late: true}
		}
		if f.Exec {
			if err := os.Chmod(path, 0o755); err != nil {
				return &outputError{flag: "out-dir", path: path, err: err, late: true}
			}
		}
		fmt.Fprintf(c.App.Writer, "%s\n", safetext.Line(path))
	}
	return nil
}

func printForm(c *cli.Context, r *recipe.Recipe, form string) error {
	text, err := r.Render(form)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c.App.Writer, text)
	return err
}

// refusedError says why there is no recipe.
type refusedError struct {
	r    *recipe.Refusal
	pair bool // of prefill and decode, for which no change is tried
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("refused: %s · rule %d · %s", e.r.Detail, e.r.Rule, e.r.Source)
}

func (e *refusedError) Hint() string {
	switch {
	case e.r.Nearest == "" && e.pair:
		return "change --prefill, --decode or --hardware: what would work is not looked for where prefill and decode are apart"
	case e.r.Nearest == "":
		return "no change that was tried works; --explain lists what was rejected"
	}
	return e.r.Nearest
}

// tightError says that a recipe may not fit.
type tightError struct{ r *recipe.Recipe }

func (e *tightError) Error() string { return "tight: inside the error of the memory's figures" }
func (e *tightError) Hint() string  { return "safe with " + e.r.Safer }
