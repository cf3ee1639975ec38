// Command glmsynth writes a synthetic GLM checkpoint: true names, shapes and
// files, random weights. For tests and benchmarks.
//
//	glmsynth --preset glm-4.5-air --gb 4 OUT             # true widths, fewer layers and experts
//	glmsynth --preset glm-5 --sparse OUT                 # all of it, 1.5 TB of holes
//	glmsynth --preset glm-5.2 --layers 4 --experts 8 --vocab 4096 --fused --v5 OUT
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/safetensors"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "glmsynth:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("glmsynth: want one output directory (glmsynth --help)")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, dir, err := parse(args, stderr)
	if err != nil {
		return err
	}
	plan, err := synth.NewPlan(o)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := plan.Write(ctx, dir); err != nil {
		return err
	}
	took := time.Since(start)
	c := plan.Config
	fmt.Fprintf(stdout, "%s: %s, %d layers (%d MTP), %d experts, vocabulary %s: %s tensors in %d files, %s in %.1f s\n",
		dir, c.Family, c.Layers, c.MTPLayers, c.Experts, progress.Thousands(int64(c.VocabSize)),
		progress.Thousands(int64(plan.Tensors)), len(plan.Files), progress.Bytes(plan.Bytes), took.Seconds())
	return nil
}

// parse reads the flags and the folder to write.
func parse(args []string, stderr io.Writer) (o synth.Options, dir string, err error) {
	fs := flag.NewFlagSet("glmsynth", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.Preset, "preset", "", "published model: "+strings.Join(glm.Presets(), ", ")+" (default glm-4.5-air)")
	config := fs.String("config", "", "config.json `file` instead of a preset")
	fs.IntVar(&o.Layers, "layers", 0, "decoder layers to keep, without the MTP layer (0: all)")
	fs.IntVar(&o.Experts, "experts", 0, "routed experts to keep (0: all)")
	fs.IntVar(&o.Vocab, "vocab", 0, "rows of the vocabulary to keep (0: all)")
	gb := fs.Float64("gb", 0, "choose layers, experts and vocabulary, where not given, for about this many GB (1e9 bytes)")
	fs.BoolVar(&o.Sparse, "sparse", false, "true headers and sizes, holes for data")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of the random weights")
	shard := fs.String("shard-size", "4GiB", "largest data of a shard")
	fs.BoolVar(&o.Fused, "fused", false, "experts stacked as transformers 5 saves them")
	fs.BoolVar(&o.V5Config, "v5", false, "config.json in the naming of transformers 5")
	mtp := fs.String("mtp", "", "MTP layer: copies, plain or none (default as published)")
	place := fs.String("mtp-place", "", "MTP layer in: shards, listed or unlisted mtp.safetensors (default as published)")
	dtype := fs.String("dtype", "BF16", "BF16, F16 or F32")
	fs.IntVar(&o.Workers, "workers", 0, "goroutines (0: one a core)")
	var out []string
	for rest := args; ; { // flags may follow the directory
		if err := fs.Parse(rest); err != nil {
			return o, "", err
		}
		if fs.NArg() == 0 {
			break
		}
		out, rest = append(out, fs.Arg(0)), fs.Args()[1:]
	}
	if len(out) != 1 {
		return o, "", errUsage
	}
	if o.ShardBytes, err = progress.ParseBytes(*shard); err != nil {
		return o, "", err
	}
	if o.DType, err = parseDType(*dtype); err != nil {
		return o, "", err
	}
	o.MTP, o.MTPPlace = synth.MTPState(*mtp), synth.MTPPlace(*place)
	if *config != "" {
		if o.Config, err = os.ReadFile(*config); err != nil {
			return o, "", err
		}
	} else if o.Preset == "" {
		o.Preset = "glm-4.5-air"
	}
	if *gb > 0 {
		if o, err = synth.ScaleTo(o, int64(*gb*1e9)); err != nil {
			return o, "", err
		}
	}
	return o, out[0], nil
}

func parseDType(s string) (safetensors.DType, error) {
	d, ok := safetensors.ParseDType(strings.ToUpper(s))
	if !ok {
		return d, fmt.Errorf("unknown dtype %q", s)
	}
	return d, nil
}
