// Command quantize measures conversions beside the limits of the machine they
// run on: the rates of copying memory and of writing and reading files, taken
// in the same run. Ratios are what to quote; the rates themselves change from
// machine to machine and from hour to hour.
//
//	go run ./internal/bench/quantize [-bytes 1GiB] [-dir DIR] [-runs 3] [-json]
//
// The source is a synthetic checkpoint with GLM-4.5-Air's widths; source and
// results lie in DIR (default: the system's temporary folder) and are removed.
// Every figure is the median of the runs. Results are flushed to the disk.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// figure is one line of the table.
type figure struct {
	Name  string  `json:"name"`
	GBps  float64 `json:"gb_per_s"`        // of the source, for conversions
	Ratio float64 `json:"ratio,omitempty"` // to the memory copy
}

func main() {
	size := flag.String("bytes", "1GiB", "size of the source")
	dir := flag.String("dir", "", "where source and results lie")
	runs := flag.Int("runs", 3, "measurements of each figure")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	figures, err := measure(context.Background(), *dir, *size, *runs)
	if err == nil {
		err = show(os.Stdout, figures, *asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func show(w io.Writer, figures []figure, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"schema": "glmconv.bench-quantize/1", "figures": figures})
	}
	for _, f := range figures {
		if _, err := fmt.Fprintf(w, "%-28s %6.2f GB/s   %5.2f of the memory copy\n", f.Name, f.GBps, f.Ratio); err != nil {
			return err
		}
	}
	return nil
}

// measure makes the source and takes all figures.
func measure(ctx context.Context, dir, size string, runs int) (_ []figure, err error) {
	want, err := progress.ParseBytes(size)
	if err != nil {
		return nil, err
	}
	if dir, err = os.MkdirTemp(dir, "glmconv-bench-*"); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o, err := synth.ScaleTo(synth.Options{Preset: "glm-4.5-air"}, want)
	if err != nil {
		return nil, err
	}
	plan, err := synth.NewPlan(o)
	if err != nil {
		return nil, err
	}
	src := filepath.Join(dir, "source")
	if err := plan.Write(ctx, src); err != nil {
		return nil, err
	}
	ckpt, err := safetensors.OpenDir(src)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ckpt.Close() }()

	var out []figure
	add := func(name string, one func() (bytes int64, err error)) error {
		var rates []float64
		for range max(runs, 1) {
			start := time.Now()
			n, err := one()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			rates = append(rates, float64(n)/time.Since(start).Seconds()/1e9)
		}
		slices.Sort(rates)
		f := figure{Name: name, GBps: rates[len(rates)/2]}
		out = append(out, f)
		out[len(out)-1].Ratio = f.GBps / out[0].GBps
		return nil
	}
	a, b := make([]byte, 256<<20), make([]byte, 256<<20)
	copy(b, a)
	copy(a, b) // both paged in
	if err := add("memory copy, one thread", func() (int64, error) { return int64(copy(a, b)), nil }); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "plain")
	if err := add("write and flush a file", func() (int64, error) { return int64(len(a)), limits.WriteFile(file, int64(len(a)), a) }); err != nil {
		return nil, err
	}
	if err := add("read it, cached", func() (int64, error) { return int64(len(b)), limits.ReadFile(file, b) }); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		s quant.Scheme
		f quant.Format
	}{{quant.FP8, layout.CompressedTensors}, {quant.FP8Block, layout.HFFP8}, {quant.W8A8, layout.CompressedTensors}, {quant.W8A8, layout.Ascend}, {quant.W4A8, layout.Ascend}, {quant.W4A16, layout.CompressedTensors}} {
		p, err := quant.NewPlan(ckpt, c.s, c.f, quant.Options{})
		if err != nil {
			return nil, err
		}
		dst := filepath.Join(dir, "result")
		err = add(fmt.Sprintf("%s %s", c.s, c.f), func() (int64, error) {
			if err := os.RemoveAll(dst); err != nil {
				return 0, err
			}
			_, err := quant.Convert(ctx, p, ckpt, dst, quant.ConvertOptions{})
			return p.SourceBytes, err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
