package reach

import (
	"container/list"
	"context"
	"sync"
)

// blockSize is what data is fetched in, aligned in the file.
const blockSize = 8 << 20

// blocks holds the blocks of a source that are on their way or were read last. A
// block is fetched once and shared by all who read in it.
type blocks struct {
	ctx   context.Context //nolint:containedctx // of the source: a fetch outlives the read that began it
	fetch func(ctx context.Context, f *file, index int64, p []byte) error
	max   int

	mu   sync.Mutex
	m    map[blockKey]*block
	idle *list.List // of blocks that nobody reads, longest unused first
	free [][]byte
}

type blockKey struct {
	f     *file
	index int64
}

type block struct {
	key   blockKey
	ready chan struct{}
	data  []byte
	err   error
	users int
	elem  *list.Element
}

func newBlocks(ctx context.Context, most int, fetch func(context.Context, *file, int64, []byte) error) *blocks {
	return &blocks{ctx: ctx, fetch: fetch, max: most, m: map[blockKey]*block{}, idle: list.New()}
}

// read copies from the blocks that p lies in.
func (b *blocks) read(ctx context.Context, f *file, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		blk := b.acquire(blockKey{f, at / blockSize})
		select {
		case <-blk.ready:
		case <-ctx.Done():
			b.release(blk)
			return done, ctx.Err()
		}
		if blk.err != nil {
			b.release(blk)
			return done, blk.err
		}
		done += copy(p[done:], blk.data[at%blockSize:])
		b.release(blk)
	}
	return done, nil
}

// ahead starts fetching a block if there is room; it reports whether the block is
// there or on its way.
func (b *blocks) ahead(key blockKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m[key] != nil {
		return true
	}
	if len(b.m) >= b.max {
		front := b.idle.Front()
		if front == nil {
			return false
		}
		b.drop(front.Value.(*block))
	}
	blk := b.start(key)
	blk.users-- // the fetch alone holds it
	return true
}

// acquire returns a block, on its way if it is not there. Readers may take more
// than max blocks, or they would wait for each other.
func (b *blocks) acquire(key blockKey) *block {
	b.mu.Lock()
	defer b.mu.Unlock()
	blk := b.m[key]
	if blk == nil {
		for len(b.m) >= b.max && b.idle.Len() > 0 {
			b.drop(b.idle.Front().Value.(*block))
		}
		return b.start(key)
	}
	if blk.elem != nil {
		b.idle.Remove(blk.elem)
		blk.elem = nil
	}
	blk.users++
	return blk
}

// start begins a fetch: one user is the caller, one the fetch.
func (b *blocks) start(key blockKey) *block {
	n := min(blockSize, key.f.Size-key.index*blockSize)
	blk := &block{key: key, ready: make(chan struct{}), users: 2}
	if len(b.free) > 0 {
		last := len(b.free) - 1
		blk.data, b.free = b.free[last][:n], b.free[:last]
	} else {
		blk.data = make([]byte, n, min(blockSize, max(n, key.f.Size)))
	}
	b.m[key] = blk
	go func() {
		blk.err = b.fetch(b.ctx, key.f, key.index, blk.data)
		close(blk.ready)
		b.release(blk)
	}()
	return blk
}

func (b *blocks) release(blk *block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if blk.users--; blk.users > 0 {
		return
	}
	blk.elem = b.idle.PushBack(blk)
	if blk.err != nil || len(b.m) > b.max {
		b.drop(blk) // what failed may succeed when it is asked for again
	}
}

// drop forgets an idle block and keeps its memory.
func (b *blocks) drop(blk *block) {
	b.idle.Remove(blk.elem)
	delete(b.m, blk.key)
	if cap(blk.data) == blockSize && len(b.free) < 2 {
		b.free = append(b.free, blk.data)
	}
}

// has reports whether a block is there or on its way.
func (b *blocks) has(key blockKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m[key] != nil
}

// dontNeed drops the blocks that lie in a range as a whole.
func (b *blocks) dontNeed(f *file, off, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := (off + blockSize - 1) / blockSize; (i+1)*blockSize <= off+n; i++ {
		if blk := b.m[blockKey{f, i}]; blk != nil && blk.elem != nil {
			b.drop(blk)
		}
	}
}
