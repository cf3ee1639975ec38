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
	now  int64      // counts reads
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
	used  int64 // bytes that were read of it
	last  int64 // when it was read last
	elem  *list.Element
}

// slack is what is not read of a block although nothing is left to read: a header.
const slack = 1 << 20

// spent reports whether all of a block was read.
func (b *block) spent() bool { return b.used+slack >= int64(len(b.data)) }

// victim returns the idle block that is least likely to be read, nil if all of
// them are: what was read whole, what was begun and left long ago. With force one
// that was fetched ahead has to go, of those the one that is farthest away.
func (b *blocks) victim(force bool) *block {
	var left *block
	for e := b.idle.Front(); e != nil; e = e.Next() {
		switch blk := e.Value.(*block); {
		case blk.spent():
			return blk
		case left == nil && blk.used > 0 && b.now-blk.last > int64(4*b.max):
			left = blk
		}
	}
	if left != nil || !force || b.idle.Len() == 0 {
		return left
	}
	for e := b.idle.Back(); e != nil; e = e.Prev() {
		if blk := e.Value.(*block); blk.used == 0 {
			return blk
		}
	}
	return b.idle.Front().Value.(*block)
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
		n := copy(p[done:], blk.data[at%blockSize:])
		done += n
		b.mu.Lock()
		b.now++
		blk.used, blk.last = blk.used+int64(n), b.now
		b.mu.Unlock()
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
	if mine, files := b.waiting(key.f); mine >= max(1, b.max/files-1) {
		return false
	}
	if len(b.m) >= b.max {
		old := b.victim(false)
		if old == nil {
			return false
		}
		b.drop(old)
	}
	blk := b.start(key)
	blk.users-- // the fetch alone holds it
	return true
}

// waiting returns how many blocks of a file wait to be read, and how many files
// are being read, which share the room.
func (b *blocks) waiting(f *file) (mine, files int) {
	others := map[*file]bool{f: true}
	for key, blk := range b.m {
		others[key.f] = true
		if key.f == f && blk.used == 0 {
			mine++
		}
	}
	return mine, len(others)
}

// room is how many blocks are kept: one for each file that is read at least, or
// readers would push out what others are in the middle of.
func (b *blocks) room(f *file) int {
	_, files := b.waiting(f)
	return max(b.max, min(files+1, 2*b.max))
}

// acquire returns a block, on its way if it is not there. Readers may take more
// than max blocks, or they would wait for each other.
func (b *blocks) acquire(key blockKey) *block {
	b.mu.Lock()
	defer b.mu.Unlock()
	blk := b.m[key]
	if blk == nil {
		for len(b.m) >= b.room(key.f) && b.idle.Len() > 0 {
			b.drop(b.victim(true))
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
	switch {
	case blk.err != nil:
		b.drop(blk) // what failed may succeed when it is asked for again
	case len(b.m) > b.room(blk.key.f):
		b.drop(b.victim(true))
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
