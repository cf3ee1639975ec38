// Command kernels measures the runtime beside the limits of the machine it runs
// on: the products of an expert, a prompt and decoding, on every path of kernels
// that the processor has and in plain Go. Each figure takes turns with its
// limit, so that both see the same machine; ratios are what to quote.
//
//	go run ./internal/bench/kernels [-threads N] [-runs 7] [-only REGEXP] [-paths LIST] [-dir DIR] [-json FILE] [-cpuprofile FILE]
//
// Limits (package limits): what memory streams at, multiply-accumulates alone,
// SHA-256, a file in DIR. The model of prompt and decoding has two layers with
// GLM-4.5-Air's widths, sixteen experts and random weights (1.4 GB in DIR, by
// default the system's temporary folder, removed at the end), that of many
// sequences three dense ones of GLM-4.5 (3 GB). Every path runs in a process of
// its own under GLMCONV_CPU.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/cpu"
)

// options say what to measure.
type options struct {
	threads, runs    int
	only             string
	paths, dir, json string
	child            bool // measure this process's path, JSON to stdout
	processorLog     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var o options
	flag.IntVar(&o.threads, "threads", goruntime.GOMAXPROCS(0), "threads of limits and figures")
	flag.IntVar(&o.runs, "runs", 7, "pairs of limit and figure; medians are shown")
	flag.StringVar(&o.only, "only", "", "figures whose name matches a regular `expression`")
	flag.StringVar(&o.paths, "paths", "", "comma-separated: amx, avx512, avx2, neon, purego (default all that there are)")
	flag.StringVar(&o.dir, "dir", "", "where the model and a file lie")
	flag.StringVar(&o.json, "json", "", "also write the figures to a `file`")
	flag.StringVar(&o.processorLog, "cpuprofile", "", "write a processor profile of each path to this `file` and the path's name")
	flag.BoolVar(&o.child, "child", false, "measure one path, for this program itself")
	flag.Parse()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// report is what -json writes.
type report struct {
	Schema  string        `json:"schema"`
	Threads int           `json:"threads"`
	Runs    int           `json:"runs"`
	Limits  limits.Limits `json:"limits"`
	Figures []figure      `json:"figures"`
}

func run(ctx context.Context, o options, w io.Writer) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	if o.child {
		if o.processorLog != "" {
			f, err := os.Create(o.processorLog + "." + cpu.Current().String())
			if err != nil {
				return err
			}
			defer func() { pprof.StopCPUProfile(); _ = f.Close() }()
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
		}
		figures, err := measure(ctx, o, only)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(figures)
	}
	if err := cpu.Problem(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "glmconv-bench-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o.dir = dir
	if only.MatchString(promptName) || only.MatchString(decodeName) {
		if err := writeModel(ctx, dir, "glm-4.5-air", modelLayers, modelExperts); err != nil {
			return err
		}
	}
	if only.MatchString(manyName) {
		if err := writeModel(ctx, filepath.Join(dir, "dense"), "glm-4.5", denseLayers, 0); err != nil {
			return err
		}
	}
	r := report{Schema: "glmconv.bench-kernels/1", Threads: o.threads, Runs: o.runs}
	r.Limits = append(limits.Memory(o.threads), limits.Compute(o.threads)...)
	disk, err := limits.Disk(dir, 1<<30)
	if err != nil {
		return err
	}
	r.Limits = append(r.Limits, disk...)
	showLimits(w, r.Limits)
	if r.Figures, err = allPaths(ctx, o); err != nil {
		return err
	}
	compare(r.Figures)
	showFigures(w, r.Figures)
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}

// allPaths runs this program once for each path.
func allPaths(ctx context.Context, o options) (out []figure, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, l := range slices.Backward(cpu.Levels()) {
		if l > cpu.Current() {
			continue
		}
		if o.paths != "" && !strings.Contains(","+o.paths+",", ","+l.String()+",") {
			continue
		}
		cmd := exec.CommandContext(ctx, self, "-child", "-threads", fmt.Sprint(o.threads), "-runs", fmt.Sprint(o.runs), "-only", o.only, "-dir", o.dir,
			"-cpuprofile", o.processorLog)
		cmd.Env = append(os.Environ(), "GLMCONV_CPU="+l.String())
		cmd.Stderr = os.Stderr
		text, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l, err)
		}
		var f []figure
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&f); err != nil {
			return nil, fmt.Errorf("%s: %w", l, err)
		}
		out = append(out, f...)
	}
	if len(out) == 0 {
		return nil, errors.New("no figure has that name, or this processor has no such path")
	}
	return out, nil
}

// measure takes the figures of this process's path. Plain Go is far slower:
// one run, and fewer tokens.
func measure(ctx context.Context, o options, only *regexp.Regexp) (out []figure, err error) {
	plain := cpu.Current() < cpu.AVX2 // NEON is for conversion only
	if plain {
		o.runs = 1
	}
	for _, g := range gemms {
		for _, m := range []int{64, 256} {
			if name := gemmName(g, m); !only.MatchString(name) || plain && m > 64 {
				continue
			}
			f, err := measureGEMM(g, cpu.Current().String(), m, o.threads, o.runs)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
	}
	if only.MatchString(promptName) || only.MatchString(decodeName) {
		f, err := measureModel(ctx, o.dir, o.threads, o.runs)
		if err != nil {
			return nil, err
		}
		out = append(out, f...)
	}
	if only.MatchString(manyName) && !plain {
		f, err := measureMany(ctx, filepath.Join(o.dir, "dense", "w8a8"), o.threads, o.runs)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}
