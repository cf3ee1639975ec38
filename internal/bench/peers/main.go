package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/internal/progress"
)

type options struct {
	pairs, max int
	bytes, dir string
	only, json string
	resume     bool
	list       bool
}

func main() {
	var o options
	flag.IntVar(&o.pairs, "pairs", 5, "pairs of each row")
	flag.IntVar(&o.max, "max", 0, "end after so many pairs of each row (0: no limit)")
	flag.StringVar(&o.bytes, "bytes", "4GB", "size of the source of conversions")
	flag.StringVar(&o.dir, "dir", "", "`folder` for checkpoints and results, which stay; empty: a temporary one")
	flag.StringVar(&o.only, "only", "", "only the rows \"group: figure, peer\" that match this `regexp`")
	flag.StringVar(&o.json, "json", "", "write all samples to this file")
	flag.BoolVar(&o.resume, "resume", false, "go on with the samples in the file of -json")
	flag.BoolVar(&o.list, "list", false, "list the rows and do nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	w := &workspace{threads: runtime.GOMAXPROCS(0)}
	if w.bytes, err = progress.ParseBytes(o.bytes); err != nil {
		return err
	}
	if w.root, err = filepath.Abs("."); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(w.root, "interop", "run")); err != nil {
		return fmt.Errorf("%w: run it in the root of the project", err)
	}
	tasks, err := o.choose(w)
	if err != nil || o.list {
		return err
	}
	res := new(Results)
	if o.resume {
		if o.json == "" {
			return errors.New("-resume goes on with the file of -json, which is not given")
		}
		if res, err = load(o.json); err != nil {
			return err
		}
	}
	res.Machine, res.Threads, res.Kernels = machine(), w.threads, cpu.Current().String()
	if w.dir = o.dir; w.dir == "" {
		if w.dir, err = os.MkdirTemp("", "glmconv-peers-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(w.dir)) }()
	} else if err = os.MkdirAll(w.dir, 0o750); err != nil {
		return err
	}
	store := func() error {
		if o.json == "" {
			return nil
		}
		return res.store(o.json)
	}
	for _, t := range tasks {
		if err := take(ctx, t, res, o.pairs, o.max, store); err != nil {
			return err
		}
	}
	return res.table(os.Stdout)
}

// choose returns the tasks whose line matches -only, and prints the lines where
// they are asked for.
func (o *options) choose(w *workspace) (tasks []task, err error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, err
	}
	for _, g := range []struct {
		name  string
		tasks []task
	}{{"convert", conversions(w)}, {"matmul", products(w)}, {"runtime", generations(w)}} {
		for _, t := range g.tasks {
			r := t.rows()[0]
			line := g.name + ": " + r.Figure + ", " + r.Peer
			if !only.MatchString(line) {
				continue
			}
			tasks = append(tasks, t)
			if o.list {
				fmt.Println(line)
			}
		}
	}
	if len(tasks) == 0 && !o.list {
		return nil, fmt.Errorf("no row matches -only %q; -list shows them", o.only)
	}
	return tasks, nil
}

// machine names the processor.
func machine() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}
