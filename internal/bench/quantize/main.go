// Command quantize measures conversions beside the floor of the machine they
// run on. The floor is the time to read the same bytes, to stream them through
// memory, to hash the result (SHA-256) and to write it, each alone on all
// cores and added; it is taken before every conversion, so that both see the
// same machine. Ratios are what to quote; rates change from hour to hour.
//
//	go run ./internal/bench/quantize [-bytes 1GiB] [-dir DIR] [-runs 5] [-scheme S] [-cold] [-json FILE]
//
// The source is a synthetic checkpoint with GLM-4.5-Air's widths; source and
// results lie in DIR (default: /dev/shm where there is one, or the system's
// temporary folder) and are removed. Figures are medians of the runs. Results
// are flushed as always, which costs nothing on a memory file system.
//
// With -cold and DIR on a disk, the source is dropped from the page cache before
// it is read (Linux), and the floor is the disk's: reading the source while
// as many bytes as the result has are written and flushed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// figure is one conversion beside its floor; times in seconds, medians.
type figure struct {
	Name   string  `json:"name"`
	GBps   float64 `json:"source_gb_per_s"`
	Time   float64 `json:"seconds"`
	Floor  float64 `json:"floor_seconds"`
	Read   float64 `json:"floor_read_seconds"`
	Stream float64 `json:"floor_stream_seconds"`
	Hash   float64 `json:"floor_hash_seconds"`
	Write  float64 `json:"floor_write_seconds"`
	Ratio  float64 `json:"ratio"` // time to floor, median of the pairs
}

// options say what to measure.
type options struct {
	source       synth.Options
	size         string
	dir          string
	runs         int
	only         string
	json         string
	cold         bool
	processorLog string
}

func main() {
	o := options{source: synth.Options{Preset: "glm-4.5-air"}}
	flag.StringVar(&o.size, "bytes", "1GiB", "size of the source")
	flag.StringVar(&o.dir, "dir", "", "where source and results lie")
	flag.IntVar(&o.runs, "runs", 5, "measurements of each figure")
	flag.StringVar(&o.only, "scheme", "", "only this scheme")
	flag.StringVar(&o.json, "json", "", "also write JSON to this file")
	flag.BoolVar(&o.cold, "cold", false, "read the source from the disk")
	flag.StringVar(&o.processorLog, "cpuprofile", "", "write a processor profile to this file")
	flag.Parse()
	figures, err := measure(context.Background(), o)
	if err == nil {
		err = show(os.Stdout, figures)
	}
	if err == nil && o.json != "" {
		err = store(o.json, figures)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func show(w io.Writer, figures []figure) error {
	_, err := fmt.Fprintf(w, "%-28s %9s %8s %8s %6s   floor: read + stream + hash + write\n", "conversion", "GB/s", "time s", "floor s", "ratio")
	for _, f := range figures {
		if err == nil {
			_, err = fmt.Fprintf(w, "%-28s %9.2f %8.3f %8.3f %6.2f   %.3f + %.3f + %.3f + %.3f\n", f.Name, f.GBps, f.Time, f.Floor, f.Ratio, f.Read,
				f.Stream, f.Hash, f.Write)
		}
	}
	return err
}

func store(name string, figures []figure) error {
	b, err := json.MarshalIndent(map[string]any{"schema": "glmconv.bench-quantize/2", "figures": figures}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o600)
}

// measure makes the source and takes all figures.
func measure(ctx context.Context, o options) (_ []figure, err error) {
	dir := o.dir
	if dir == "" {
		dir = os.TempDir()
		if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
			dir = "/dev/shm"
		}
	}
	if dir, err = os.MkdirTemp(dir, "glmconv-bench-*"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ckpt, files, err := source(ctx, filepath.Join(dir, "source"), o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ckpt.Close() }()
	b := newBench(dir, o.cold)
	if o.processorLog != "" {
		f, err := os.Create(o.processorLog)
		if err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer func() { pprof.StopCPUProfile(); err = errors.Join(err, f.Close()) }()
	}
	var out []figure
	var fp8 *safetensors.Checkpoint
	var fp8Files []string
	for _, c := range rows {
		if o.only != "" && string(c.s) != o.only {
			continue
		}
		from, list, name := ckpt, files, fmt.Sprintf("%s %s", c.s, c.f)
		if c.fp8 {
			if fp8 == nil {
				if fp8, fp8Files, err = fp8Of(ctx, ckpt, filepath.Join(dir, "fp8")); err != nil {
					return nil, err
				}
				defer func() { _ = fp8.Close() }()
			}
			from, list, name = fp8, fp8Files, name+", from block FP8"
		}
		if c.o.Arith == numeric.Compat {
			name += ", compat"
		}
		p, err := quant.NewPlan(from, c.s, c.f, c.o)
		if err != nil {
			return nil, err
		}
		f, err := b.conversion(ctx, p, from, list, o.runs)
		if err != nil {
			return nil, err
		}
		f.Name = name
		out = append(out, f)
	}
	return out, nil
}

// rows are the conversions that are measured. FP4 and MX schemes take all
// linears, so that nearly all bytes are rounded as in the others.
var rows = func() (list []row) {
	same := quant.Options{Rest: layout.RestSame, MTP: layout.MTPQuantize}
	compat := same
	compat.Arith = numeric.Compat
	list = []row{{s: quant.W8A8, f: layout.CompressedTensors}, {s: quant.W8A8, f: layout.Ascend}, {s: quant.FP8, f: layout.CompressedTensors},
		{s: quant.FP8Block, f: layout.HFFP8}, {s: quant.W4A8, f: layout.CompressedTensors}, {s: quant.W4A8, f: layout.Ascend},
		{s: quant.W4A16, f: layout.CompressedTensors},
		{s: quant.W8A8, f: layout.CompressedTensors, fp8: true}, {s: quant.FP8, f: layout.CompressedTensors, fp8: true}, {s: quant.BF16, f: layout.Plain, fp8: true}}
	for _, s := range []quant.Scheme{quant.NVFP4A16, quant.MXFP4, quant.MXFP8} {
		list = append(list, row{s: s, f: layout.CompressedTensors, o: same}, row{s: s, f: layout.CompressedTensors, o: compat})
	}
	return list
}()

// row is one of them.
type row struct {
	s   quant.Scheme
	f   quant.Format
	o   quant.Options
	fp8 bool // from the block FP8 form of the source
}

// fp8Of converts a checkpoint to block FP8 and opens the result.
func fp8Of(ctx context.Context, ckpt *safetensors.Checkpoint, dir string) (*safetensors.Checkpoint, []string, error) {
	p, err := quant.NewPlan(ckpt, quant.FP8Block, layout.HFFP8, quant.Options{MTP: layout.MTPQuantize})
	if err != nil {
		return nil, nil, err
	}
	if _, err := convert.Run(ctx, p, ckpt, dir, convert.Options{}); err != nil {
		return nil, nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil {
		return nil, nil, err
	}
	out, err := safetensors.OpenDir(dir)
	return out, files, err
}

// source makes a checkpoint of about the given size and lists its shards.
func source(ctx context.Context, dir string, o options) (*safetensors.Checkpoint, []string, error) {
	want, err := progress.ParseBytes(o.size)
	if err != nil {
		return nil, nil, err
	}
	scaled, err := synth.ScaleTo(o.source, want)
	if err != nil {
		return nil, nil, err
	}
	plan, err := synth.NewPlan(scaled)
	if err != nil {
		return nil, nil, err
	}
	if err := plan.Write(ctx, dir); err != nil {
		return nil, nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil {
		return nil, nil, err
	}
	ckpt, err := safetensors.OpenDir(dir)
	return ckpt, files, err
}

// conversion pairs one conversion with its floor, runs times.
func (b *bench) conversion(ctx context.Context, p *quant.Plan, ckpt *safetensors.Checkpoint, files []string, runs int) (f figure, err error) {
	dst := filepath.Join(b.dir, "result")
	var all [7][]float64 // ratio, time, floor and its parts
	for range max(runs, 1) {
		if err := os.RemoveAll(dst); err != nil {
			return f, err
		}
		fl, err := b.floor(files, p.SourceBytes, p.ResultBytes)
		if err != nil {
			return f, err
		}
		if b.cold {
			forget(files)
		}
		start := time.Now()
		if _, err := convert.Run(ctx, p, ckpt, dst, convert.Options{}); err != nil {
			return f, err
		}
		took := time.Since(start)
		for i, v := range []float64{took.Seconds() / fl.total().Seconds(), took.Seconds(), fl.total().Seconds(), fl.read.Seconds(), fl.stream.Seconds(),
			fl.hash.Seconds(), fl.write.Seconds()} {
			all[i] = append(all[i], v)
		}
	}
	m := func(i int) float64 { return limits.MedianOf(all[i]) }
	f = figure{Ratio: m(0), Time: m(1), Floor: m(2), Read: m(3), Stream: m(4), Hash: m(5), Write: m(6)}
	f.GBps = float64(p.SourceBytes) / f.Time / 1e9
	return f, os.RemoveAll(dst)
}
