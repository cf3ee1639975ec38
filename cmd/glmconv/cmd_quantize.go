package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/internal/rss"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/source"
)

func cmdQuantize() *cli.Command {
	return &cli.Command{
		Name:      "quantize",
		Usage:     "write the quantised checkpoint",
		ArgsUsage: "--scheme S SRC DST",
		Description: "Reads the checkpoint SRC, in full precision or quantised, and writes DST in the layout that the\n" +
			"engines load, MTP layer included. A shard has its final name only when it is\n" +
			"complete and on disk; DST is finished when glmconv-manifest.json is there. An\n" +
			"interrupted run goes on with --resume. --index I --count N writes part I of N, so\n" +
			"that several processes or machines can share the work; the part that finds all\n" +
			"others done completes DST. DST may be s3://BUCKET/PREFIX: objects appear when\n" +
			"they are whole, the manifest last.\n\n" +
			"Exit codes: 0 done or already done, 2 usage or an impossible combination, 65 bad\n" +
			"source, 74 I/O failed (resumable), 75 another process holds DST, 130 interrupted.",
		Flags: append(append(append(planFlags(), learnFlags()...), engineFlags()...),
			&cli.BoolFlag{Name: "resume", Usage: "go on with an interrupted DST"},
			&cli.StringFlag{Name: "index", Usage: "write only part `I`, counted from 1; auto: the task of a Slurm array or of an indexed Kubernetes job"},
			countFlag(),
			&cli.BoolFlag{Name: "no-forward", Usage: "run no forward pass: schemes that need one are refused"},
			&cli.StringFlag{Name: "plan", Usage: "`FILE` of plan --save: its commit is read, and no listing or header is asked for again"},
			&cli.BoolFlag{Name: "force", Usage: "write into a bucket although another process seems to be at it"},
			&cli.BoolFlag{Name: "dry-run", Usage: "the same as plan"},
		),
		Action: quantize,
	}
}

// quantizeResult is the result of quantize --json.
type quantizeResult struct {
	Schema      string        `json:"schema"`
	AlreadyDone bool          `json:"already_done"`
	Pending     []string      `json:"pending"`
	SourceBytes int64         `json:"source_bytes"`
	ResultBytes int64         `json:"result_bytes"`
	Seconds     float64       `json:"seconds"`
	PeakRSS     int64         `json:"peak_rss"`
	Errors      quant.Summary `json:"errors"`
	Zeros       []quant.Zeros `json:"zeros"` // weights of the source that are zero or have holes

	Network *reach.Traffic `json:"network,omitempty"` // of a remote source
}

func quantize(c *cli.Context) error {
	want := []string{"SRC", "DST"}
	if c.Bool("dry-run") && c.NArg() == 1 {
		want = want[:1]
	}
	args, err := paths(c, want...)
	if err != nil {
		return err
	}
	src, p, err := makePlan(c, args[0])
	if err != nil {
		return err
	}
	defer src.Close()
	if err := fitsPlan(c, p); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		err := showPlan(c, p)
		if err == nil && !c.Bool("json") && len(args) > 1 && source.Scheme(args[1]) != "" {
			_, err = fmt.Fprint(c.App.Writer, uploadLine(p))
		}
		return err
	}
	o, err := convertOptions(c)
	if err != nil {
		return err
	}
	if src.rotated != nil { // weights that are rotated from the left are held besides
		o.MaxMemory -= o.MaxMemory / 4
	}
	o.Resume = c.Bool("resume")
	if o.Index, o.Count, err = partOf(c); err != nil {
		return err
	}
	if p, err = withInputs(c, src.Checkpoint, p); err != nil {
		return err
	}
	bar, err := newProgress(c, "quantize")
	if err != nil {
		return err
	}
	o.Progress = bar.Update
	for _, n := range p.Notes {
		fmt.Fprintf(c.App.ErrWriter, "note: %s\n", safetext.Line(n))
	}
	closing, err := writeBucket(c, c.Args().Get(1), p, &o)
	if err != nil {
		return err
	}
	defer closing()
	res, err := convert.Run(c.Context, p, src.Checkpoint, args[1], o)
	bar.Close()
	if err != nil {
		return err
	}
	if len(res.Pending) == 0 {
		src.learnt()
	}
	warnZeros(c, res.Zeros)
	if c.Bool("json") {
		return writeJSON(c, quantizeResult{"glmconv.quantize/1", res.AlreadyDone, res.Pending, p.SourceBytes, p.ResultBytes, res.Seconds, rss.Self(), res.Stats, append([]quant.Zeros{}, res.Zeros...), network(c)})
	}
	_, err = fmt.Fprint(c.App.Writer, describeResult(p, res, args[1]))
	return err
}

// warnZeros says which weights of the source are zero or have holes.
func warnZeros(c *cli.Context, zeros []quant.Zeros) {
	const most = 5
	for _, z := range zeros[:min(most, len(zeros))] {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", safetext.Line(z.String()))
	}
	if n := len(zeros); n > most {
		fmt.Fprintf(c.App.ErrWriter, "warning: %d weights more are zero or have a hole of zeros\n", n-most)
	}
	if len(zeros) > 0 {
		fmt.Fprintln(c.App.ErrWriter, "hint: compare the source's files with the SHA-256 of their hub, and convert again")
	}
}

// describeResult is what a person reads when the work is done.
func describeResult(p *quant.Plan, res *convert.Result, dst string) string {
	if res.Unrecorded {
		return fmt.Sprintf("already done: %s is finished and was made by this plan (by a version that noted no checksums of the source: names, shapes and sizes are the same)\n", dst)
	}
	if res.AlreadyDone {
		return fmt.Sprintf("already done: %s is finished and was made by this plan from this source\n", dst)
	}
	var b strings.Builder
	if n := len(res.Pending); n > 0 {
		fmt.Fprintf(&b, "part done: %d of %d shards are still missing; the part that writes the last one completes %s\n", n, len(p.Files), dst)
		return b.String()
	}
	rate := int64(float64(res.BytesRead) / max(res.Seconds, 1e-9))
	fmt.Fprintf(&b, "done in %s · %s → %s · %s/s · peak %s\n", duration(res.Seconds), progress.Bytes(p.SourceBytes), progress.Bytes(p.ResultBytes), progress.Bytes(rate), progress.Bytes(rss.Self()))
	for i, e := range res.Stats.Schemes {
		head := ""
		if i == 0 {
			head = "weight error"
		}
		plain := ""
		if e.Plain > e.Relative*1.001 {
			plain = fmt.Sprintf(" (scale search; plain rounding %.2f %%)", 100*e.Plain)
		}
		fmt.Fprintf(&b, "%-13s %-14s %6.2f %%%s\n", head, e.Scheme, 100*e.Relative, plain)
	}
	if len(res.Stats.Worst) > 0 {
		w := res.Stats.Worst[0]
		fmt.Fprintf(&b, "%-13s %s %.2f %%\n", "worst", strings.TrimSuffix(w.Name, ".weight"), 100*w.Relative)
	}
	fmt.Fprintf(&b, "%-13s glmconv verify %s %s\n", "next", p.Dir(), dst)
	if p.CopiesForMTP() {
		fmt.Fprintf(&b, "%-13s layer %d holds its own embed_tokens and shared_head.head\n", "MTP", p.Model.MTP.Layer)
	}
	return b.String()
}

func duration(s float64) string {
	if s < 60 {
		return fmt.Sprintf("%.1fs", s)
	}
	return fmt.Sprintf("%dm%02ds", int(s)/60, int(s)%60)
}
