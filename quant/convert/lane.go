package convert

import (
	"context"
	"errors"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// lane writes one shard. The pool's goroutines do all the work: each reads,
// computes and writes a tile while it is in its core's cache, and then hashes
// what is next in the order of the file, its own tile or others that wait,
// unless another goroutine is at that. So no core waits for a stage of its own,
// and nothing moves between cores without need.
type lane struct {
	c      *converter
	f      *quant.File
	w      *safetensors.Writer
	late   map[quant.OutputRef]*[]byte // outputs that come at the end of the file; the map is fixed
	sem    *semaphore.Weighted
	cancel context.CancelFunc
	all    sync.WaitGroup // tiles not taken yet

	mu    sync.Mutex
	queue []*tile // not taken yet, in the order of the file
	busy  bool    // a goroutine takes tiles

	// Of the goroutine that takes tiles.
	receipt *receipt
	sum     uint64   // of the source's bytes so far
	side    [][]byte // companions of the present item
	stats   numeric.Stats
	zero    int64 // bytes of the present item in pages of zeros
	err     error // of the first tile that failed
}

// writeShard writes one shard with the goroutines of the pool.
func (c *converter) writeShard(ctx context.Context, f *quant.File, pool *pool, budget int64) (err error) {
	unlock, err := c.shardLock(f)
	if err != nil {
		return c.unlessFinished(err)
	}
	defer unlock()
	if r, err := c.receipt(ctx, f); err != nil || r != nil {
		return err // another process wrote it since we looked
	} else if c.finished() {
		return nil
	}
	w, err := safetensors.Create(c.fs, c.dst, f.Plan)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Abort())
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &lane{c: c, f: f, w: w, late: map[quant.OutputRef]*[]byte{}, sem: semaphore.NewWeighted(budget), cancel: cancel,
		receipt: &receipt{Name: f.Plan.Name, Size: f.Plan.Size}}
	for _, o := range f.Tail {
		l.late[o] = new([]byte)
	}
	err = l.deal(ctx, pool, budget)
	l.all.Wait()
	if l.err != nil { // why dealing ended, if it did
		return l.err
	}
	if err != nil {
		return err
	}
	for _, o := range f.Tail {
		if _, err := w.Write(*l.late[o]); err != nil {
			return err
		}
	}
	if err := c.seal(ctx, f, l.receipt, l.sum); err != nil {
		return err
	}
	if l.receipt.SHA256, err = w.Commit(); err != nil {
		return err
	}
	c.forget(f)
	if err := c.keepReceipt(l.receipt); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote = append(c.wrote, f.Plan.Name)
	return nil
}

// forget drops a finished file's source from the page cache where the whole
// source would fill it: other programs' pages are worth more than what is not
// read again.
func (c *converter) forget(f *quant.File) {
	if m := fsx.Memory(); m == 0 || c.plan.SourceBytes < m/2 {
		return
	}
	for _, i := range f.Items {
		it := &c.plan.Items[i]
		if it.Action == quant.Make {
			continue
		}
		if it.Stored == nil {
			c.src.DontNeed(it.Source, it.Offset, it.Bytes)
			continue
		}
		for _, t := range it.Stored.Parts() {
			c.src.DontNeed(t, 0, t.Size)
		}
	}
}

// deal cuts the items of the file into tiles and hands them to the pool in
// order.
func (l *lane) deal(ctx context.Context, pool *pool, budget int64) error {
	c := l.c
	for _, i := range l.f.Items {
		it := &c.plan.Items[i]
		total, step, unit := c.cut(it)
		cost, _ := tileCost(c.plan, it)
		for at := 0; at == 0 || at < total; at += step {
			rows := min(step, total-at)
			t := &tile{item: it, index: i, row0: at, rows: rows, bytes: rows * int(unit), cost: min(cost, budget)}
			if it.Stored != nil { // a share, for the progress
				t.bytes = int(share(it.Bytes, at+rows, total) - share(it.Bytes, at, total))
			}
			t.last = at+step >= total
			t.at = l.place(t, total)
			if err := l.sem.Acquire(ctx, t.cost); err != nil {
				return err
			}
			if it.Stored == nil && it.Action != quant.Make {
				c.src.WillNeed(it.Source, it.Offset+int64(at)*unit, int64(t.bytes))
			}
			l.all.Add(1)
			l.mu.Lock()
			l.queue = append(l.queue, t)
			l.mu.Unlock()
			pool.work <- func(s *scratch) { l.run(ctx, t, s) }
		}
	}
	return nil
}

// place returns where the first output of a tile lies in the file, -1 if it
// comes at the end. total is the number of the item's rows.
func (l *lane) place(t *tile, total int) int64 {
	if l.late[quant.OutputRef{Item: t.index}] != nil {
		return -1
	}
	return t.item.At + share(t.item.First, t.row0, total)
}

// share returns part of total of size, part <= total.
func share(size int64, part, total int) int64 {
	if part >= total {
		return size
	}
	hi, lo := bits.Mul64(uint64(size), uint64(part))
	n, _ := bits.Div64(hi, lo, uint64(total))
	return int64(n)
}

// run computes and writes a tile, then takes what is next.
func (l *lane) run(ctx context.Context, t *tile, s *scratch) {
	if t.err = ctx.Err(); t.err == nil {
		t.err = l.c.compute(ctx, t, s)
	}
	if t.err == nil && t.at >= 0 {
		t.err = l.w.PutAt(t.out[0], t.at)
	}
	l.mu.Lock()
	t.done = true
	if l.busy { // who is at it sees this tile
		l.mu.Unlock()
		return
	}
	l.busy = true
	for len(l.queue) > 0 && l.queue[0].done {
		next := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		l.take(next)
		l.mu.Lock()
	}
	l.busy = false
	l.mu.Unlock()
}

// take hashes a tile, the next one in the order of the file, and lets go of it.
func (l *lane) take(t *tile) {
	if l.err == nil {
		if l.err = t.err; l.err == nil {
			l.err = l.keep(t)
		}
		if l.err != nil {
			l.cancel()
		}
	}
	if len(t.out) > 0 {
		l.c.buffers.put(t.out[0])
	}
	l.sem.Release(t.cost)
	l.all.Done()
}

// keep hashes the first output and collects the others: an item's companions
// are written after it, odd-sized outputs at the end of the file.
func (l *lane) keep(t *tile) error {
	if t.row0 == 0 {
		l.side, l.stats, l.zero = make([][]byte, len(t.out)), numeric.Stats{}, 0
	}
	l.stats.Add(t.stats)
	l.zero += t.zero
	l.sum += t.sum
	for k, b := range t.out {
		if late := l.late[quant.OutputRef{Item: t.index, Output: k}]; late != nil {
			*late = append(*late, b...)
		} else if k > 0 {
			l.side[k] = append(l.side[k], b...)
		} else if err := l.w.Hash(b); err != nil {
			return err
		}
	}
	if t.last {
		l.receipt.noteZeros(t.item, l.zero)
		for _, b := range l.side[1:] {
			if _, err := l.w.Write(b); err != nil {
				return err
			}
		}
		if t.item.Action == quant.Quantize {
			l.receipt.Tensors = append(l.receipt.Tensors, tensorStats{Name: t.item.Name(), Scheme: t.item.Scheme, Stats: l.stats})
		}
	}
	l.c.tick(int64(t.bytes), shortName(t.item))
	return nil
}
