package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/check"
	reports "github.com/glmconv/glmconv/verify/report"
)

func cmdDemo() *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "the whole story on a small built-in model: remap, quantise, check, verify",
		ArgsUsage: " ",
		Description: "Extracts a trained 2-million-parameter GLM-5-like checkpoint, gives its MTP layer the\n" +
			"missing tensors, quantises it in every scheme its shapes allow, checks each result, runs it\n" +
			"beside the source, and prints sizes, weight errors and the divergence of the logits. The\n" +
			"report of the default w4a8 conversion is kept. Needs no file and no network.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "keep the files in this directory (default: a temporary one, removed)"},
			&cli.StringFlag{Name: "report", Value: "glmconv-demo.html", Usage: "where the HTML report goes; empty for nowhere"},
			jsonFlag(),
		},
		Action: runDemo,
	}
}

// demoResult is the result of demo --json.
type demoResult struct {
	Schema string    `json:"schema"`
	Rows   []demoRow `json:"rows"`
}

type demoRow struct {
	Scheme  layout.Scheme       `json:"scheme"`
	Format  layout.Format       `json:"format"`
	Bytes   int64               `json:"bytes"`
	Errors  []quant.SchemeError `json:"errors"`
	Check   bool                `json:"check"`
	Verdict verify.Verdict      `json:"verdict"`
	KL      float64             `json:"kl"`      // mean, nats per token
	Upper95 float64             `json:"upper95"` // its bound
	Refused string              `json:"refused"`

	result *verify.Result
}

func runDemo(c *cli.Context) error {
	if _, err := paths(c); err != nil {
		return err
	}
	report, err := openOutput("report", c.String("report"))
	if err != nil {
		return err
	}
	dir := c.String("out")
	if dir == "" {
		tmp, err := os.MkdirTemp("", "glmconv-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	say := func(format string, args ...any) {
		if !c.Bool("json") {
			text := fmt.Sprintf(format, args...)
			if c.String("out") == "" { // the folder is gone afterwards
				text = strings.ReplaceAll(strings.ReplaceAll(text, dir+string(os.PathSeparator), ""), " in "+dir, "")
			}
			fmt.Fprint(c.App.Writer, text)
		}
	}
	model := filepath.Join(dir, demo.Name)
	if err := demoModel(c.Context, model, say); err != nil {
		return err
	}
	src, err := safetensors.OpenDir(model)
	if err != nil {
		return err
	}
	defer src.Close()
	res := demoResult{Schema: "glmconv.demo/1"}
	good, shown, err := demoTable(c.Context, &res, src, dir, say)
	if err != nil {
		return err
	}
	if report != nil && shown != nil {
		if err := report.put(func(w io.Writer) error { return reports.HTML(w, shown) }); err != nil {
			return err
		}
		say("\nthe report of w4a8 is in %s\n", report.path)
	}
	say("next          glmconv inspect DIR, with a checkpoint of your own\n")
	if c.Bool("json") {
		if err := writeJSON(c, res); err != nil {
			return err
		}
	} else if c.String("out") != "" {
		say("\nthe files are in %s\n", dir)
	}
	return verdict(good)
}

// demoModel writes the built-in model, shows what it is, and remaps its MTP layer.
func demoModel(ctx context.Context, model string, say func(string, ...any)) error {
	if err := demo.ExtractThrough(disk, model); err != nil {
		return err
	}
	in, err := check.Inspect(model)
	if err != nil {
		return err
	}
	say("%s\n", in.Text())
	r, err := mtp.NewRemap(model, mtp.Options{FS: disk})
	if err != nil {
		return err
	}
	say("$ glmconv mtp-remap %s\n%s\n", demo.Name, r.Text())
	return r.Apply(ctx)
}

// demoTable converts the model to all that it can be, a line each. good: check and
// verify agree that every result is; shown is the comparison to report on.
func demoTable(ctx context.Context, res *demoResult, src *safetensors.Checkpoint, dir string, say func(string, ...any)) (good bool, shown *verify.Result, err error) {
	say("$ glmconv quantize --scheme … --format … %s …\n\n  %-10s %-19s %10s %8s  %-44s %-6s %-9s %s\n", demo.Name, "scheme", "format", "size", "source", "weight error", "check", "mean KL", "verify")
	good = true
	for _, s := range layout.Schemes {
		for _, f := range layout.Formats {
			if layout.Supported(s, f) != nil || s == layout.BF16 || s.Micro() && (s != layout.NVFP4A16 || f != layout.CompressedTensors) || s == layout.Int4Int8 {
				continue
			}
			row, source, err := demoConvert(ctx, src, dir, s, f)
			if err != nil {
				return false, nil, err
			}
			res.Rows = append(res.Rows, row)
			if row.Refused != "" {
				say("  %-10s %-19s %10s %8s  %s\n", s, f, "-", "-", row.Refused)
				continue
			}
			good = good && row.Check && row.Verdict == verify.Pass
			checked := map[bool]string{true: "ok", false: "FAILED"}[row.Check]
			say("  %-10s %-19s %10s %7.0f%%  %-44s %-6s %-9.4f %s\n", s, f, progress.Bytes(row.Bytes), 100*float64(row.Bytes)/float64(source), errorsText(row.Errors), checked, row.KL, row.Verdict)
			if s == layout.W4A8 && f == layout.Ascend {
				shown = row.result
			}
		}
	}
	return good, shown, nil
}

// demoConvert quantises the demo model one way and checks the result.
func demoConvert(ctx context.Context, src *safetensors.Checkpoint, dir string, s layout.Scheme, f layout.Format) (demoRow, int64, error) {
	row := demoRow{Scheme: s, Format: f}
	p, err := quant.NewPlan(src, s, f, quant.Options{})
	var impossible *layout.ImpossibleError
	if errors.As(err, &impossible) {
		row.Refused = "not for these shapes: " + impossible.Rule
		return row, 0, nil
	} else if err != nil {
		return row, 0, err
	}
	dst := filepath.Join(dir, fmt.Sprintf("%s-%s-%s", demo.Name, s, f))
	out, err := convert.Run(ctx, p, src, dst, convert.Options{Version: currentBuild().Version, Resume: true, FS: disk})
	if err != nil {
		return row, 0, err
	}
	row.Bytes, row.Errors = p.ResultBytes, out.Stats.Schemes
	if out.AlreadyDone { // by an earlier demo with the same --out
		m, err := quant.ReadManifest(dst)
		if err != nil {
			return row, 0, err
		}
		row.Errors = m.Errors.Schemes
	}
	rep, err := check.Run(ctx, dst, check.Options{})
	if err != nil {
		return row, 0, err
	}
	row.Check = rep.OK
	if row.result, err = verify.Compare(ctx, src.Dir(), dst, verify.Options{Tokens: demoTokens, SeqLen: 64}); err != nil {
		return row, 0, err
	}
	row.result.Identity.Version = currentBuild().Version
	row.Verdict, row.KL, row.Upper95 = row.result.Verdict, row.result.KL.Mean, row.result.KL.Upper95
	return row, p.SourceBytes, nil
}

// demoTokens are enough for a verdict on the small model.
const demoTokens = 512

func errorsText(list []quant.SchemeError) string {
	text := ""
	for i, e := range list {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %.2f %%", e.Scheme, 100*e.Relative)
	}
	return text
}
