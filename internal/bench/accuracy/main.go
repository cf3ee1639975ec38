// Command accuracy measures what calibration gains: for each scheme, a checkpoint
// is quantized by rounding and with everything that calibration has, and both
// results are judged by verify on text that was not calibrated on.
//
//	go run ./internal/bench/accuracy [-schemes w4a16,w8a8] [-calib FILE] [-eval FILE] [-tokens 8192] [-calib-tokens 16384] [-json FILE] GLMCONV MODEL…
//
// GLMCONV is the command that is measured. Without files both texts are those that
// are built in, which share nothing. The table has the mean KL in thousandths of a
// nat a token (and without the worst 1 % of tokens), its one-sided 95 % bound, how
// far the calibrated result lies from the rounded one at the same positions with
// the standard error of that difference over sequences (of both means), the 99th percentile, the
// share of changed first choices, the size, and the seconds that quantize took.
//
//	go run ./internal/bench/accuracy -cost [-cost-only statistics|learning] [-cost-tokens 512] [-pairs 5] [-rows 768] [-narrowest N] [-widest N] [-cpuprofile FILE]
//
// measures what it costs instead, at GLM-4.5-Air's widths with 2 layers and 16
// experts.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/verify"
)

type options struct {
	schemes, calib, eval, json string
	tokens, calibTokens        int
	command                    string
	models                     []string
}

// figure is one result.
type figure struct {
	Model    string  `json:"model"`
	Scheme   string  `json:"scheme"`
	Calib    bool    `json:"calib"`
	KL       float64 `json:"kl"`
	Upper95  float64 `json:"kl_upper95"`
	P99      float64 `json:"kl_p99"`
	Flips    float64 `json:"flip_rate"`
	Draft    float64 `json:"mtp_agreement"` // of the first draft; 0 without an MTP layer
	DraftSrc float64 `json:"mtp_agreement_source"`
	Bytes    int64   `json:"bytes"`
	Seconds  float64 `json:"seconds"`               // of quantize
	Trim     float64 `json:"kl_trim"`               // mean without the worst 1 % of tokens
	Diff     float64 `json:"kl_difference"`         // mean of KL less that of rounding, of a calibrated result
	DiffErr  float64 `json:"kl_difference_std_err"` // over sequences, paired
	TrimDiff float64 `json:"kl_trim_difference"`    // of Trim, and its error
	TrimErr  float64 `json:"kl_trim_difference_std_err"`

	kl        []float64 // by position
	sequences int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var o options
	flag.StringVar(&o.schemes, "schemes", "w4a16,w4a8,w8a8,nvfp4,mxfp4", "schemes to measure")
	flag.StringVar(&o.calib, "calib", "", "text to calibrate with")
	flag.StringVar(&o.eval, "eval", "", "text to judge with")
	flag.StringVar(&o.json, "json", "", "also write JSON to this file")
	flag.IntVar(&o.tokens, "tokens", 8192, "tokens to judge with, in sequences of 128")
	flag.IntVar(&o.calibTokens, "calib-tokens", 16384, "tokens to calibrate with, in sequences of 128")
	c := costs{source: synth.Options{Preset: "glm-4.5-air", Layers: 2, Experts: 16, Vocab: 4096, MTP: synth.MTPNone, Seed: 1}}
	cost := flag.Bool("cost", false, "measure what statistics and learning cost, at GLM-4.5-Air's widths")
	flag.StringVar(&c.only, "cost-only", "", "statistics or learning")
	flag.IntVar(&c.tokens, "cost-tokens", 512, "tokens of -cost")
	flag.IntVar(&c.pairs, "pairs", 5, "pairs of runs of -cost")
	flag.IntVar(&c.rows, "rows", 768, "rows of each width that -cost learns")
	flag.IntVar(&c.narrowest, "narrowest", 0, "columns of the narrowest weights that -cost learns")
	flag.IntVar(&c.widest, "widest", 1<<20, "columns of the widest weights that -cost learns")
	flag.StringVar(&c.profile, "cpuprofile", "", "write a processor profile of -cost's learning to this file")
	flag.Parse()
	if *cost {
		if err := c.run(ctx, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	err := errors.New("which command, and which models?")
	if flag.NArg() > 1 {
		o.command, o.models = flag.Arg(0), flag.Args()[1:]
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures all models and schemes.
func run(ctx context.Context, o options, w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "glmconv-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(w, "| model | scheme | codes | mean KL · 1000 | trim | 95 % bound | less rounding | trim less rounding | p99 | flips | MTP (source) | size | time |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	var all []figure
	for i, model := range o.models {
		stats := filepath.Join(dir, fmt.Sprintf("stats-%d", i))
		args := []string{"calibrate", "--tokens", strconv.Itoa(o.calibTokens), "--seq-len", "128"}
		if o.calib != "" {
			args = append(args, "--text", o.calib)
		}
		if err := o.glmconv(ctx, append(args, model, stats)...); err != nil {
			return err
		}
		for scheme := range strings.SplitSeq(o.schemes, ",") {
			for _, with := range [][]string{nil, {"--calib", stats}} {
				f := figure{Model: filepath.Base(model), Scheme: scheme, Calib: with != nil}
				if err := o.measure(ctx, &f, model, filepath.Join(dir, "result"), with); err != nil {
					return err
				}
				if f.Trim = trimmed(f.kl); f.Calib {
					plain := all[len(all)-1].kl
					f.Diff, f.DiffErr = paired(f.kl, plain, f.sequences)
					f.TrimDiff, f.TrimErr = pairedTrim(f.kl, plain, f.sequences)
				}
				all = append(all, f)
				f.row(w)
			}
		}
	}
	if o.json == "" {
		return nil
	}
	raw, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, raw, 0o644)
}

// row prints a figure.
func (f *figure) row(w io.Writer) {
	codes := map[bool]string{false: "rounding", true: "calibrated"}[f.Calib]
	less, trim := "–", "–"
	if f.Calib {
		less, trim = fmt.Sprintf("%.2f ± %.2f", 1000*f.Diff, 1000*f.DiffErr), fmt.Sprintf("%.3f ± %.3f", 1000*f.TrimDiff, 1000*f.TrimErr)
	}
	fmt.Fprintf(w, "| %s | %s | %s | %.2f | %.2f | %.2f | %s | %s | %.1f | %.2f %% | %.3f (%.3f) | %s | %.1fs |\n", f.Model, f.Scheme, codes,
		1000*f.KL, 1000*f.Trim, 1000*f.Upper95, less, trim, 1000*f.P99, 100*f.Flips, f.Draft, f.DraftSrc, progress.Bytes(f.Bytes), f.Seconds)
}

// trimmed is the mean without the largest hundredth.
func trimmed(kl []float64) (mean float64) {
	kl = slices.Sorted(slices.Values(kl))
	kl = kl[:len(kl)*99/100]
	for _, v := range kl {
		mean += v / float64(len(kl))
	}
	return mean
}

// paired is the mean of a − b at the same positions, and its standard error over
// sequences of one length; 0 where they are not the same or too few.
func paired(a, b []float64, sequences int) (mean, err float64) {
	if len(a) != len(b) || sequences < 2 || len(a) < sequences {
		return 0, 0
	}
	n := (len(a) + sequences - 1) / sequences
	var means []float64
	for at := 0; at < len(a); at += n {
		end, sum := min(at+n, len(a)), 0.0
		for i := at; i < end; i++ {
			sum += a[i] - b[i]
		}
		mean += sum / float64(len(a))
		means = append(means, sum/float64(end-at))
	}
	for _, m := range means {
		err += (m - mean) * (m - mean)
	}
	k := float64(len(means))
	return mean, math.Sqrt(err / (k - 1) / k)
}

// jackknifed is in how many parts, whole sequences each, pairedTrim leaves one out.
const jackknifed = 64

// pairedTrim is the difference of what trimmed makes of a and b at the same positions,
// and its standard error, by a jackknife over sequences of one length; 0 where they are
// not the same or too few.
func pairedTrim(a, b []float64, sequences int) (diff, err float64) {
	if len(a) != len(b) || sequences < 2 || len(a) < sequences {
		return 0, 0
	}
	each := (len(a) + sequences - 1) / sequences
	parts := min(sequences, jackknifed)
	var without []float64
	mean := 0.0
	for p := range parts {
		lo, hi := min(p*sequences/parts*each, len(a)), min((p+1)*sequences/parts*each, len(a))
		rest := func(x []float64) float64 { return trimmed(slices.Concat(x[:lo], x[hi:])) }
		without = append(without, rest(a)-rest(b))
		mean += without[p] / float64(parts)
	}
	for _, d := range without {
		err += (d - mean) * (d - mean)
	}
	n := float64(parts)
	return trimmed(a) - trimmed(b), math.Sqrt(err * (n - 1) / n)
}

// measure quantizes a model and judges the result.
func (o *options) measure(ctx context.Context, f *figure, model, dst string, with []string) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(dst)) }()
	begin := time.Now()
	if err := o.glmconv(ctx, append(append([]string{"quantize", "--scheme", f.Scheme}, with...), model, dst)...); err != nil {
		return err
	}
	f.Seconds = time.Since(begin).Seconds()
	entries, err := os.ReadDir(dst)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			f.Bytes += st.Size()
		}
	}
	report := dst + ".json"
	defer func() { err = errors.Join(err, os.RemoveAll(report)) }()
	args := []string{"verify", "--json", report, "--state", "none", "--all-tokens", "--tokens", strconv.Itoa(o.tokens), "--seq-len", "128"}
	if o.eval != "" {
		args = append(args, "--text", o.eval)
	}
	failed := o.glmconv(ctx, append(args, model, dst)...) // a verdict, if there are figures
	raw, err := os.ReadFile(report)
	if err != nil {
		return errors.Join(failed, err)
	}
	var r verify.Result
	if err := json.Unmarshal(raw, &r); err != nil || r.Tokens == 0 {
		return errors.Join(failed, err, fmt.Errorf("%s of %s was not judged", f.Scheme, f.Model))
	}
	f.KL, f.Upper95, f.P99, f.Flips = r.KL.Mean, r.KL.Upper95, r.KL.P99, r.FlipRate
	f.kl, f.sequences = r.Logits.PerToken, r.Logits.Sequences
	if r.MTP != nil && len(r.MTP.Result.Agreement) > 0 && len(r.MTP.Source.Agreement) > 0 {
		f.Draft, f.DraftSrc = float64(r.MTP.Result.Agreement[0]), float64(r.MTP.Source.Agreement[0])
	}
	return nil
}

// glmconv runs the command.
func (o *options) glmconv(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, o.command, append(args[:1:1], append([]string{"--progress", "none"}, args[1:]...)...)...)
	var text strings.Builder
	cmd.Stderr = &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(text.String()))
	}
	return nil
}
