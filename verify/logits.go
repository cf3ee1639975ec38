package verify

import (
	"context"
	goruntime "runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/verify/stats"
)

// logitRows compares the logits of both models over the vocabulary, one row for
// each position of each sequence of a batch.
// noise are rows of the source against itself with its stream rounded, for the
// sequences that are probed. The heads are read once.
func (c *comparison) logitRows(ctx context.Context, b batch) (rows, noise []stats.Row, err error) {
	o, src, res := c.o, c.src, c.res
	var acc, own []*stats.Accumulator
	var at []int // row of the source that a row of noise is compared with
	for i, s := range b.seqs {
		for p := range s {
			next := -1
			if p+1 < len(s) {
				next = s[p+1]
			}
			if probed(b.first + i) {
				at = append(at, len(acc))
				own = append(own, stats.NewAccumulator(next))
				noise = append(noise, stats.Row{Seq: b.first + i, Pos: p})
			}
			acc = append(acc, stats.NewAccumulator(next))
			rows = append(rows, stats.Row{Seq: b.first + i, Pos: p})
		}
	}
	n := len(rows)
	err = o.heads(ctx, []head{{src.m.LogitReader(src.final), n + len(noise)}, {res.m.LogitReader(res.final), n}}, c.f.Vocab, func(_, w, stride int, z [][]float32) {
		row := func(k, i int) []float32 { return z[k][i*stride:][:w] }
		parallel(o.Workers, n+len(noise), func(i int) {
			if i < n {
				acc[i].Add(row(0, i), row(1, i))
			} else {
				own[i-n].Add(row(0, at[i-n]), row(0, i))
			}
		})
	})
	finish := func(rows []stats.Row, acc []*stats.Accumulator) {
		for i, a := range acc {
			r := a.Row()
			r.Seq, r.Pos = rows[i].Seq, rows[i].Pos
			rows[i] = r
		}
	}
	finish(rows, acc)
	finish(noise, own)
	return rows, noise, err
}

// head is a pass over the head of one model for a number of states.
type head struct {
	*runtime.LogitReader
	rows int
}

// heads advances over the vocabularies of some heads together and calls fn with
// logits of entries lo … lo+w−1, at most vocab in all: z[k] is [rows, stride].
func (o *Options) heads(ctx context.Context, list []head, vocab int, fn func(lo, w, stride int, z [][]float32)) error {
	total := 0
	for _, h := range list {
		total += h.rows
	}
	if total == 0 {
		return nil
	}
	run := o.logitRun(total, vocab)
	z := make([][]float32, len(list))
	for k, h := range list {
		z[k] = make([]float32, h.rows*run)
	}
	for lo := 0; lo < vocab; {
		width := make([]int, len(list))
		g, ctx := errgroup.WithContext(ctx)
		for k, h := range list {
			g.Go(func() (err error) {
				width[k], err = h.Next(ctx, run, z[k])
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if width[0] == 0 {
			return nil
		}
		fn(lo, min(width[0], vocab-lo), width[0], z)
		lo += width[0]
	}
	return nil
}

// logitRun is for how many entries of the vocabulary the logits of rows states
// are in memory together.
func (o *Options) logitRun(rows, vocab int) int {
	n := o.MaxMemory / 16 / int64(4*rows*runtime.LogitRun)
	return runtime.LogitRun * int(max(1, min(n, int64((vocab+runtime.LogitRun-1)/runtime.LogitRun))))
}

// parallel calls fn for 0 … n−1 on some goroutines.
func parallel(workers, n int, fn func(i int)) {
	if workers <= 0 {
		workers = goruntime.GOMAXPROCS(0)
	}
	var wg sync.WaitGroup
	for w := range min(workers, n) {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				fn(i)
			}
		})
	}
	wg.Wait()
}
