package quant

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// tile is a run of rows of one item (or a piece of a tensor that is copied) on
// its way from a computing goroutine to the writer.
type tile struct {
	item  *Item
	index int // in Plan.Items
	row0  int
	rows  int
	last  bool
	bytes int // of the source
	cost  int64
	out   [][]byte // bytes for each output of the item
	stats numeric.Stats
	err   error
	done  chan struct{}
}

// readAhead is how many tiles wait for a computing goroutine while the system
// reads them in.
const readAhead = 16

// pool runs the computing goroutines of a conversion.
type pool struct {
	work chan func(*scratch)
	wg   sync.WaitGroup
}

// scratch is what one computing goroutine reuses from tile to tile.
type scratch struct {
	src    []byte
	floats []float32
	num    numeric.Scratch
}

func newPool(workers int) *pool {
	p := &pool{work: make(chan func(*scratch), readAhead)}
	for range workers {
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			var s scratch
			for f := range p.work {
				f(&s)
			}
		}()
	}
	return p
}

func (p *pool) close() { close(p.work); p.wg.Wait() }

// writeShard writes one shard. The pool reads and computes tiles, each on one
// core from first to last, so that a tile stays in its cache; this goroutine's
// helpers deal them out and write them in order, while the Writer hashes.
func (c *converter) writeShard(ctx context.Context, f *File, pool *pool, budget int64) (err error) {
	unlock, err := c.shardLock(f)
	if err != nil {
		return c.unlessFinished(err)
	}
	defer unlock()
	if r, err := c.receipt(f); err != nil || r != nil {
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
	g, ctx := errgroup.WithContext(ctx)
	order := make(chan *tile, 512)
	sem := semaphore.NewWeighted(budget)
	g.Go(func() error {
		defer close(order)
		return c.dealTiles(ctx, f, pool, sem, budget, order)
	})
	receipt := &receipt{Name: f.Plan.Name, Size: f.Plan.Size}
	g.Go(func() error { return c.writeTiles(ctx, f, w, sem, order, receipt) })
	if err := g.Wait(); err != nil {
		for t := range order { // what was read before the failure
			<-t.done
		}
		return err
	}
	if receipt.SHA256, err = w.Commit(); err != nil {
		return err
	}
	c.forget(f)
	return c.keepReceipt(receipt)
}

// forget drops a finished file's source from the page cache where the whole
// source would fill it: other programs' pages are worth more than what is not
// read again.
func (c *converter) forget(f *File) {
	if m := fsx.Memory(); m == 0 || c.plan.SourceBytes < m/2 {
		return
	}
	for _, i := range f.Items {
		it := &c.plan.Items[i]
		c.src.DontNeed(it.Source, it.Offset, it.Bytes)
	}
}

// dealTiles cuts the items of a file into tiles and hands them to the pool in
// order.
func (c *converter) dealTiles(ctx context.Context, f *File, pool *pool, sem *semaphore.Weighted, budget int64, order chan<- *tile) error {
	for _, i := range f.Items {
		it := &c.plan.Items[i]
		step, unit := c.cut(it)
		cost, _ := c.plan.tileCost(it)
		total := int(it.Bytes / max(unit, 1))
		for at := 0; at == 0 || at < total; at += step {
			rows := min(step, total-at)
			t := &tile{item: it, index: i, row0: at, rows: rows, bytes: rows * int(unit), cost: min(cost, budget), done: make(chan struct{})}
			t.last = at+step >= total
			if err := sem.Acquire(ctx, t.cost); err != nil {
				return err
			}
			select {
			case order <- t:
			case <-ctx.Done():
				return ctx.Err()
			}
			c.src.WillNeed(it.Source, it.Offset+int64(at)*unit, int64(t.bytes))
			job := func(s *scratch) { t.err = c.compute(t, s); close(t.done) }
			select {
			case pool.work <- job:
			case <-ctx.Done():
				t.err = ctx.Err()
				close(t.done)
				return ctx.Err()
			}
		}
	}
	return nil
}

// cut returns the number of units in a tile and the bytes of a unit: rows for
// weights that are quantised, elements for what moves as it is.
func (c *converter) cut(it *Item) (step int, unit int64) {
	size := int64(it.Source.DType.Bits() / 8)
	if it.Action == Quantize {
		_, k := it.Weight.Dims()
		return c.plan.tileRows(it.Weight), int64(k) * size
	}
	return copyBytes / int(max(size, 1)), size
}

// compute reads a tile and turns it into output bytes.
func (c *converter) compute(t *tile, s *scratch) error {
	it := t.item
	unit := int64(t.bytes / max(t.rows, 1))
	if it.Action == Copy || it.Action == Alias {
		b := c.buffers.get(t.bytes)
		t.out = [][]byte{b}
		return c.src.ReadAt(it.Source, it.Offset+int64(t.row0)*unit, b)
	}
	if cap(s.src) < t.bytes {
		s.src = make([]byte, t.bytes)
	}
	src := s.src[:t.bytes]
	if err := c.src.ReadAt(it.Source, it.Offset+int64(t.row0)*unit, src); err != nil {
		return err
	}
	decoder, err := layout.DecoderOf(it.Source.DType)
	if err != nil {
		return err
	}
	if it.Action == Widen {
		n := t.bytes / decoder.Size
		if cap(s.floats) < n {
			s.floats = make([]float32, n)
		}
		decoder.Decode(s.floats[:n], src)
		t.out = [][]byte{numeric.AppendF32(c.buffers.get(4 * n)[:0], s.floats[:n])}
		return nil
	}
	_, k := it.Weight.Dims()
	spec := c.plan.lay.Numeric(it.Weight, c.plan.arith())
	first := c.buffers.get(t.rows * k)[:0]
	if spec.Code != numeric.Int4 {
		s.num.Into(first) // the codes are the bytes of the file
	}
	m, stats, err := numeric.QuantizeBytes(spec, src, decoder, t.rows, k, &s.num)
	var nf *numeric.NonFiniteError
	if errors.As(err, &nf) {
		return &NonFiniteError{File: it.Source.File, Tensor: it.Name(), Row: int64(t.row0 + nf.Row), Col: int64(nf.Col), Value: nf.Value}
	} else if err != nil {
		return fmt.Errorf("%s: %w", it.Name(), err)
	}
	t.stats = stats
	t.out = make([][]byte, len(it.Outputs))
	t.out[0] = first
	t.out, err = c.plan.lay.AppendTile(it.Weight, t.row0, m, t.out)
	return err
}

// writeTiles writes tiles in order: an item's first output as it comes, its
// companions after it, odd-sized outputs at the end of the file.
func (c *converter) writeTiles(ctx context.Context, f *File, w *safetensors.Writer, sem *semaphore.Weighted, order <-chan *tile, r *receipt) error {
	late := map[output][]byte{}
	for _, o := range f.tail {
		late[o] = nil
	}
	var side [][]byte
	var stats numeric.Stats
	for t := range order {
		select {
		case <-t.done:
		case <-ctx.Done():
			<-t.done
			return ctx.Err()
		}
		if t.err != nil {
			return t.err
		}
		if t.row0 == 0 {
			side, stats = make([][]byte, len(t.out)), numeric.Stats{}
		}
		stats.Add(t.stats)
		for k, b := range t.out[1:] {
			if o := (output{t.index, k + 1}); isLate(late, o) {
				late[o] = append(late[o], b...)
			} else {
				side[k+1] = append(side[k+1], b...)
			}
		}
		free := func() { c.buffers.put(t.out[0]); sem.Release(t.cost) }
		if o := (output{t.index, 0}); isLate(late, o) {
			late[o] = append(late[o], t.out[0]...)
			free()
		} else if err := w.WriteThen(t.out[0], free); err != nil {
			return err
		}
		if t.last {
			for _, b := range side[1:] {
				if err := w.WriteThen(b, nil); err != nil {
					return err
				}
			}
			if t.item.Action == Quantize {
				r.Tensors = append(r.Tensors, TensorStats{Name: t.item.Name(), Scheme: t.item.Scheme, Stats: stats})
			}
		}
		c.tick(int64(t.bytes), shortName(t.item))
	}
	for _, o := range f.tail {
		if err := w.WriteThen(late[o], nil); err != nil {
			return err
		}
	}
	return nil
}

func isLate(late map[output][]byte, o output) bool { _, ok := late[o]; return ok }
