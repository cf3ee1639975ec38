package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// planFlags are the flags that decide what a result is.
func planFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "scheme", Usage: "fp8, fp8-block, w8a8, w4a8, w4a16 or w4a8-fp8 (required)"},
		&cli.StringFlag{Name: "format", Usage: "compressed-tensors, hf-fp8 or ascend (default: by scheme and family; plan says which and why)"},
		&cli.StringFlag{Name: "arith", Value: "best", Usage: "best (smaller error) or compat (the bytes of llm-compressor or msmodelslim)"},
		&cli.IntFlag{Name: "group-size", Value: 128, Usage: "int4 group: 32, 64 or 128"},
		&cli.StringFlag{Name: "mtp", Value: "auto", Usage: "auto, quantize, float or drop: what becomes of the MTP layer"},
		&cli.StringSliceFlag{Name: "ignore", Usage: "leave modules alone: a name, or re: and a pattern (repeatable; no match is an error)"},
		&cli.StringSliceFlag{Name: "target", Usage: "quantise only these modules: a name, or re: and a pattern (repeatable; no match is an error)"},
		&cli.StringFlag{Name: "shard-size", Value: "4GiB", Usage: "output shard size where the layout does not keep the source's shards"},
		&cli.IntFlag{Name: "workers", Usage: "computing threads (default: one a core)"},
		&cli.StringFlag{Name: "max-memory", Value: "1GiB", Usage: "ceiling for the process's memory"},
		&cli.BoolFlag{Name: "json", Usage: "the result as JSON"},
	}
}

func cmdPlan() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "say what quantize would make of a checkpoint, without reading a weight",
		ArgsUsage: "--scheme S SRC",
		Description: "Every tensor's fate and why, bytes by kind, peak memory, and for each engine the\n" +
			"parallel sizes that will load, the rule that forbids the others, and the flags that\n" +
			"the serve command must carry. Reads headers only.",
		Flags: planFlags(),
		Action: func(c *cli.Context) error {
			args, err := paths(c, "SRC")
			if err != nil {
				return err
			}
			src, p, err := makePlan(c, args[0])
			if err != nil {
				return err
			}
			defer src.Close()
			return showPlan(c, p)
		},
	}
}

// makePlan opens a checkpoint and plans what the flags ask for.
func makePlan(c *cli.Context, dir string) (*safetensors.Checkpoint, *quant.Plan, error) {
	if c.String("scheme") == "" {
		return nil, nil, usagef("--scheme is required: fp8, fp8-block, w8a8, w4a8, w4a16 or w4a8-fp8")
	}
	scheme, err := layout.ParseScheme(c.String("scheme"))
	if err != nil {
		return nil, nil, err
	}
	format, err := layout.ParseFormat(c.String("format"))
	if err != nil {
		return nil, nil, err
	}
	o := quant.Options{GroupSize: c.Int("group-size"), MTP: layout.MTPMode(c.String("mtp")), Ignore: c.StringSlice("ignore"), Target: c.StringSlice("target")}
	switch c.String("arith") {
	case "best":
	case "compat":
		o.Arith = numeric.Compat
	default:
		return nil, nil, usagef("--arith must be best or compat, not %q", c.String("arith"))
	}
	switch o.MTP {
	case layout.MTPAuto, layout.MTPQuantize, layout.MTPFloat, layout.MTPDrop:
	default:
		return nil, nil, usagef("--mtp must be auto, quantize, float or drop, not %q", o.MTP)
	}
	if o.ShardSize, err = size(c, "shard-size"); err != nil {
		return nil, nil, err
	}
	// A plan keeps nearly all that it allocates: collecting at every doubling of
	// so little would only cost time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	src, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	p, err := quant.NewPlan(src, scheme, format, o)
	if err != nil {
		src.Close()
		return nil, nil, err
	}
	return src, p, nil
}

func convertOptions(c *cli.Context) (quant.ConvertOptions, error) {
	mem, err := size(c, "max-memory")
	if err != nil {
		return quant.ConvertOptions{}, err
	}
	if c.Int("workers") < 0 {
		return quant.ConvertOptions{}, usagef("--workers must not be negative")
	}
	return quant.ConvertOptions{Workers: c.Int("workers"), MaxMemory: mem, Version: currentBuild().Version, FS: disk}, nil
}

func showPlan(c *cli.Context, p *quant.Plan) error {
	o, err := convertOptions(c)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c, p.JSON(o))
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s  memory        %s peak\n\n%s", p.Summary(), progress.Bytes(p.PeakMemory(o)), engineTable(p.Engines()))
	return err
}

// engineTable condenses the engine rows: for each engine the degrees that
// load, the rules that forbid the others, the flags.
func engineTable(rows []engine.Row) string {
	var b strings.Builder
	for _, e := range engine.Engines {
		var loads []string
		remark := ""
		var flags []string
		refused := map[string][]string{}
		var rules []string
		for _, r := range rows {
			switch {
			case r.Engine != e:
			case r.Loads:
				loads, remark, flags = append(loads, r.Parallel), r.Rule, r.Flags
			default:
				if refused[r.Rule] == nil {
					rules = append(rules, r.Rule)
				}
				refused[r.Rule] = append(refused[r.Rule], r.Parallel)
			}
		}
		if len(loads) == 0 {
			fmt.Fprintf(&b, "  %-12s  does not load: %s\n", e, rules[0])
			continue
		}
		fmt.Fprintf(&b, "  %-12s  loads with %s\n", e, strings.Join(loads, " "))
		if remark != "" {
			fmt.Fprintf(&b, "  %-12s  on %s\n", "", strings.TrimPrefix(remark, "on "))
		}
		for _, rule := range rules {
			fmt.Fprintf(&b, "  %-12s  not %s: %s\n", "", strings.Join(refused[rule], " "), rule)
		}
		for _, f := range flags {
			fmt.Fprintf(&b, "  %-12s  %s\n", "", f)
		}
	}
	return b.String()
}
