// Command verify measures a verification beside what bounds it: reading both
// checkpoints once, and computing the forward passes that it compares with all
// weights in memory. They take turns; the ratio is that of verification to the
// longer of the other two, median of the runs.
//
//	go run ./internal/bench/verify [-bytes 4GB] [-tokens 512] [-dir DIR] [-runs 5] [-max-memory 1GiB] [-json FILE]
//
// The source is a synthetic checkpoint with GLM-4.5-Air's widths and no MTP
// layer, the result its w8a8 form for vLLM; both lie in DIR (by default the
// system's temporary folder), are in the page cache and are removed at the end.
// Computing is every sequence through both models and, as in a verification, a
// quarter of them a second time; what both models take for every sequence once is
// printed as well. Verification also compares and rounds every weight, hashes
// files and takes statistics.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// figure is what -json writes; times in seconds, medians.
type figure struct {
	Schema  string  `json:"schema"`
	Tokens  int     `json:"tokens"`
	Runs    int     `json:"runs"`
	Bytes   int64   `json:"bytes"` // of both checkpoints
	Verify  float64 `json:"verify_seconds"`
	Read    float64 `json:"read_seconds"`
	Compute float64 `json:"compute_seconds"` // every sequence, those that are probed twice
	Passes  float64 `json:"passes_seconds"`  // every sequence once
	Ratio   float64 `json:"ratio"`           // to the longer of read and compute
	ToOnce  float64 `json:"ratio_to_passes"` // to the longer of read and passes
}

type options struct {
	source            synth.Options
	bytes, memory     int64
	tokens, runs      int
	dir, json, length string
	processorLog      string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o := options{source: synth.Options{Preset: "glm-4.5-air", MTP: synth.MTPNone}}
	flag.StringVar(&o.length, "bytes", "4GB", "size of the source")
	memory := flag.String("max-memory", "1GiB", "memory that verification may use")
	flag.IntVar(&o.tokens, "tokens", 512, "tokens to read, in sequences of 128")
	flag.IntVar(&o.runs, "runs", 5, "measurements of each")
	flag.StringVar(&o.dir, "dir", "", "where the checkpoints lie")
	flag.StringVar(&o.json, "json", "", "also write JSON to this file")
	flag.StringVar(&o.processorLog, "cpuprofile", "", "write a processor profile of verification to this file")
	flag.Parse()
	err := parse(&o.bytes, o.length)
	if err == nil {
		err = parse(&o.memory, *memory)
	}
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(n *int64, text string) (err error) {
	*n, err = progress.ParseBytes(text)
	return err
}

func run(ctx context.Context, o options, w io.Writer) (err error) {
	if o.dir, err = os.MkdirTemp(o.dir, "glmconv-bench-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	src, dst := filepath.Join(o.dir, "source"), filepath.Join(o.dir, "w8a8")
	f := figure{Schema: "glmconv.bench-verify/1", Tokens: o.tokens, Runs: o.runs}
	if f.Bytes, err = write(ctx, o, src, dst); err != nil {
		return err
	}
	ids := tokens(o.tokens)
	var total, read, compute, passes, ratio, once []float64
	for range o.runs {
		io, err := timed(func() error { return readAll(ctx, src, dst) })
		if err != nil {
			return err
		}
		short, sum := 0.0, 0.0
		for _, dir := range []string{src, dst} {
			once, all, err := alone(ctx, dir, ids, dir == src)
			if err != nil {
				return err
			}
			short, sum = short+once, sum+all
		}
		all, err := timed(func() (err error) {
			if o.processorLog != "" {
				f, err := os.Create(o.processorLog)
				if err != nil {
					return err
				}
				defer func() { pprof.StopCPUProfile(); _ = f.Close() }()
				if err := pprof.StartCPUProfile(f); err != nil {
					return err
				}
			}
			r, err := verify.Compare(ctx, src, dst, verify.Options{TokenIDs: ids, MaxMemory: o.memory, AllTokens: true})
			if err == nil && r.Logits.Tokens == 0 {
				err = errors.New("verification did not get as far as logits")
			}
			return err
		})
		if err != nil {
			return err
		}
		total, read, compute, passes = append(total, all), append(read, io), append(compute, sum), append(passes, short)
		ratio, once = append(ratio, all/max(io, sum)), append(once, all/max(io, short))
	}
	f.Verify, f.Read, f.Compute, f.Passes = limits.MedianOf(total), limits.MedianOf(read), limits.MedianOf(compute), limits.MedianOf(passes)
	f.Ratio, f.ToOnce = limits.MedianOf(ratio), limits.MedianOf(once)
	if _, err := fmt.Fprintf(w, "%d tokens, %.1f GB: verify %.2f s, reading %.2f s, computing %.2f s, ratio %.2f; every token once %.2f s, ratio %.2f\n",
		f.Tokens, float64(f.Bytes)/1e9, f.Verify, f.Read, f.Compute, f.Ratio, f.Passes, f.ToOnce); err != nil || o.json == "" {
		return err
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o600)
}

// tokens are sequences of 128, and a rest.
func tokens(n int) (out [][]int) {
	for i := range n {
		if i%128 == 0 {
			out = append(out, nil)
		}
		seq := &out[len(out)-1]
		*seq = append(*seq, (i*7919)%500+3)
	}
	return out
}

func timed(fn func() error) (float64, error) {
	start := time.Now()
	err := fn()
	return time.Since(start).Seconds(), err
}

// write makes source and result and returns their bytes.
func write(ctx context.Context, o options, src, dst string) (int64, error) {
	source, err := synth.ScaleTo(o.source, o.bytes)
	if err != nil {
		return 0, err
	}
	plan, err := synth.NewPlan(source)
	if err != nil {
		return 0, err
	}
	if err := plan.Write(ctx, src); err != nil {
		return 0, err
	}
	ckpt, err := safetensors.OpenDir(src)
	if err != nil {
		return 0, err
	}
	defer func() { _ = ckpt.Close() }()
	p, err := quant.NewPlan(ckpt, quant.W8A8, layout.CompressedTensors, quant.Options{})
	if err != nil {
		return 0, err
	}
	if _, err := convert.Run(ctx, p, ckpt, dst, convert.Options{}); err != nil {
		return 0, err
	}
	n := int64(0)
	return n, weights(src, dst, func(path string) error {
		st, err := os.Stat(path)
		if err == nil {
			n += st.Size()
		}
		return err
	})
}

// weights calls fn for every file of weights.
func weights(src, dst string, fn func(path string) error) error {
	for _, dir := range []string{src, dst} {
		names, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := fn(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll reads the files from start to end, as large pieces.
func readAll(ctx context.Context, src, dst string) error {
	buf := make([]byte, 4<<20)
	return weights(src, dst, func(path string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return limits.ReadFile(path, buf)
	})
}

// alone returns the seconds that one model takes for all sequences once, and for
// what a verification computes with it, the weights in memory and touched before.
func alone(ctx context.Context, dir string, ids [][]int, source bool) (once, all float64, err error) {
	m, err := runtime.Load(dir, runtime.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	pass := func(ids [][]int, tokens int) error {
		steps := make([]runtime.Step, len(ids))
		for i, s := range ids {
			steps[i] = runtime.Step{Session: m.NewSession(), IDs: s}
		}
		h, err := m.Forward(ctx, steps, nil)
		if err != nil {
			return err
		}
		_, err = m.Logits(ctx, h[:tokens*m.Config().HiddenSize])
		return err
	}
	n, again, probes := 0, 0, ids
	for i, s := range ids {
		if n += len(s); i%4 == 0 { // a verification computes every fourth sequence twice
			again += len(s)
			probes = append(probes[:len(probes):len(probes)], s)
		}
	}
	with := n
	if source { // the result's probes have no logits
		with += again
	}
	if err := pass(ids, n); err != nil {
		return 0, 0, err
	}
	if once, err = timed(func() error { return pass(ids, n) }); err != nil {
		return 0, 0, err
	}
	all, err = timed(func() error { return pass(probes, with) })
	return once, all, err
}
