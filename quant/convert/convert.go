package convert

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// Options say how a plan is carried out; none of them changes a byte of the
// result. The zero value is the default of the command.
type Options struct {
	Workers   int   // goroutines that compute (0: one a core)
	MaxMemory int64 // bytes of peak memory (0: 1 GiB)
	Resume    bool  // go on with an unfinished directory
	// Index and Count select part Index (from 1) of Count; zero means all.
	Index, Count int
	Version      string         // recorded in the manifest
	FS           safetensors.FS // what is written through; nil: the operating system's files
	// Progress receives the source's bytes read so far, those to read and the
	// tensor or step at work. It may be nil; it is called from several
	// goroutines, one at a time, and not for every step if it takes long.
	Progress func(done, total int64, detail string)
}

// Result is what a conversion did.
type Result struct {
	AlreadyDone bool
	// Unrecorded says of what was already done that its manifest has no checksums
	// of the source: it was compared by names, shapes and sizes.
	Unrecorded bool
	Pending    []string      // shards of other parts that are still missing; the result is not finished
	Stats      quant.Summary // weight errors, of the whole result once it is finished
	Zeros      []quant.Zeros // weights of the source that are zero or have holes, once the result is finished
	BytesRead  int64
	Seconds    float64
}

// Run carries out a plan: src is the checkpoint it was made for, dst the
// directory to fill. Shards are written first, each under a temporary name
// until it is complete and on disk, then the other files, then the manifest,
// whose presence means that the result is whole.
//
// The same plan gives the same bytes for any number of workers, for parts run
// in any order or at the same time, and after any interruption. An error
// leaves the finished shards in place for Resume, and nothing else under a
// final name.
func Run(ctx context.Context, p *quant.Plan, src *safetensors.Checkpoint, dst string, o Options) (*Result, error) {
	start := time.Now()
	c := &converter{plan: p, src: src, dst: dst, o: o, fs: o.FS, globals: newGlobals(p)}
	if err := requireInputs(p); err != nil {
		return nil, err
	}
	if err := c.defaults(); err != nil {
		return nil, err
	}
	unlock, done, err := c.claim(ctx)
	if err != nil || done {
		return &Result{AlreadyDone: done, Unrecorded: done && !c.recorded}, c.explain(err)
	}
	defer unlock()
	todo, err := c.todo(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	if err := c.checkSpace(todo, c.dst, true); err != nil {
		return nil, err
	}
	// One more than there are workers: a thread that copies to or from the page
	// cache keeps its slot until the scheduler notices.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), min(c.o.Workers, runtime.NumCPU())+1)))
	old := debug.SetMemoryLimit(c.o.memoryLimit())
	defer debug.SetMemoryLimit(old)
	if err := c.writeShards(ctx, todo); err != nil {
		c.discard(err)
		return nil, c.explain(err)
	}
	if m := source.Find(src.Dir()); m != nil {
		if err := m.Settle(ctx); err != nil {
			c.discard(err)
			return nil, c.explain(err)
		}
		if err := c.keepChecks(m); err != nil {
			return nil, c.explain(err)
		}
	}
	res := &Result{BytesRead: c.read.Load()}
	if res.Pending, err = c.finish(ctx); err != nil {
		return nil, c.explain(err)
	}
	if n := len(res.Pending); n > 0 && c.o.Count == 1 {
		return nil, &quant.Error{Kind: ErrResultChanged, Resumable: true,
			Reason: fmt.Sprintf("%s lacks %d of %d shards at the end: something removed them meanwhile, first %s", c.dst, n, len(p.Files), res.Pending[0]),
			Advice: "let nothing else write to the result, and resume"}
	}
	res.Stats, res.Zeros = c.summary, c.zeros
	res.Seconds = time.Since(start).Seconds()
	return res, nil
}

// converter is one call of Run.
type converter struct {
	plan     *quant.Plan
	src      *safetensors.Checkpoint
	dst      string
	o        Options
	fs       fsx.FS
	read     atomic.Int64
	total    int64
	progress chan struct{} // holds one token: serialises the callback
	summary  quant.Summary
	zeros    []quant.Zeros
	globals  *globals
	buffers  buffers
	early    kept
	recorded bool // the manifest of a finished result has checksums of the source

	mu        sync.Mutex
	wrote     []string                // shards of this run
	confirmed map[string][]sourceFile // by shard: the source that it was found to be of
	stale     map[string]string       // shards of other bytes: a file of the source that changed
}

func (o Options) memoryLimit() int64 { return o.MaxMemory / 8 * 7 }

func (c *converter) defaults() error {
	if c.fs == nil {
		c.fs = fsx.OS
	}
	if c.o.Workers <= 0 {
		c.o.Workers = runtime.GOMAXPROCS(0)
	}
	if c.o.MaxMemory <= 0 {
		c.o.MaxMemory = 1 << 30
	}
	if c.o.Count == 0 && c.o.Index == 0 {
		c.o.Index, c.o.Count = 1, 1
	}
	if c.o.Count < 1 || c.o.Index < 1 || c.o.Index > c.o.Count {
		return fail(ErrPart, "parts are numbered from 1", "part %d of %d does not exist", c.o.Index, c.o.Count)
	}
	if low := minMemory(c.plan); c.o.MaxMemory < low {
		return fail(quant.ErrMemory, "allow it more", "%d MiB of memory are too little: this plan needs %d MiB", c.o.MaxMemory>>20, (low+1<<20-1)>>20)
	}
	if source.Scheme(c.dst) == "" {
		c.dst = filepath.Clean(c.dst)
	}
	c.progress = make(chan struct{}, 1)
	return nil
}

func (c *converter) state(name string) string { return filepath.Join(c.dst, fsx.StateDir, name) }

// outside refuses a destination that is the source, lies in it or holds it.
func outside(src, dst string) error {
	how, err := fsx.Overlap(src, dst)
	if err != nil || how == "" {
		return err
	}
	if how == "contains" {
		return fail(ErrDestination, "choose a directory outside of the source", "%s contains the source", dst)
	}
	return fail(ErrDestination, "choose a directory outside of the source", "the result cannot be written into the source (%s)", dst)
}

// writeShards writes the shards that are still to do, a few at a time, with
// one pool of computing goroutines for all.
func (c *converter) writeShards(ctx context.Context, todo []int) error {
	g, ctx := errgroup.WithContext(ctx)
	pool := newPool(c.o.Workers)
	defer pool.close()
	lanes, budget := lanes(c.plan, c.o, len(todo))
	c.early = kept{buffers: &c.buffers, files: map[int]bool{}, room: keptMemory(c.plan, c.o, lanes, budget)}
	for _, i := range todo {
		c.early.files[i] = true
	}
	next := atomic.Int64{}
	for range lanes {
		g.Go(func() error {
			for {
				at := int(next.Add(1)) - 1
				if at >= len(todo) {
					return nil
				}
				if err := c.writeShard(ctx, &c.plan.Files[todo[at]], pool, budget); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// tick counts bytes and reports progress; a callback at work is not waited for.
func (c *converter) tick(n int64, detail string) { c.report(c.read.Add(n), detail) }

func (c *converter) report(done int64, detail string) {
	if c.o.Progress == nil {
		return
	}
	select {
	case c.progress <- struct{}{}:
		c.o.Progress(done, c.total, detail)
		<-c.progress
	default:
	}
}
