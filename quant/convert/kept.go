package convert

import (
	"sync"

	"github.com/glmconv/glmconv/quant"
)

// mostKept is how many bytes of the source are kept between the two readings
// that a global scale asks for: two sets of fused projections of an expert of
// GLM-5.
const mostKept = 128 << 20

// kept holds bytes of the source that were read for a global scale until their
// tile is rounded, as far as there is room: the others are read again.
type kept struct {
	buffers *buffers
	files   map[int]bool // that are written, by their numbers: tiles of others never come
	mu      sync.Mutex
	room    int64 // bytes
	tiles   map[tilePlace][]byte
}

// tilePlace names a tile of a plan.
type tilePlace struct {
	item *quant.Item
	row0 int
}

func (t *tile) place() tilePlace { return tilePlace{t.item, t.row0} }

// buffer returns the bytes to read a tile into, nil if there is no room for them
// or the tile is not rounded in this run.
func (k *kept) buffer(t *tile) []byte {
	n := t.bytes
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.room < int64(n) || !k.files[t.item.File] {
		return nil
	}
	k.room -= int64(n)
	return k.buffers.get(n)
}

// put keeps a tile's bytes, which came from buffer.
func (k *kept) put(t *tile, b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tiles == nil {
		k.tiles = map[tilePlace][]byte{}
	}
	k.tiles[t.place()] = b
}

// take returns a tile's bytes, nil if they were not kept. They are the caller's,
// who gives them back by release.
func (k *kept) take(t *tile) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.tiles[t.place()]
	delete(k.tiles, t.place())
	return b
}

// release takes a buffer back.
func (k *kept) release(b []byte) {
	if b == nil {
		return
	}
	k.mu.Lock()
	k.room += int64(len(b))
	k.mu.Unlock()
	k.buffers.put(b)
}

// keptMemory is how much of the memory that lanes leave is for bytes that are
// kept: none in a plan without global scales.
func keptMemory(p *quant.Plan, o Options, lanes int, budget int64) int64 {
	global := false
	for i := range p.Items {
		if global = p.Items[i].HasGlobalScale(); global {
			break
		}
	}
	if !global {
		return 0
	}
	_, scratch, spool := largest(p)
	spare := o.MaxMemory/10*7 - fixedMemory(p) - scratch*int64(o.Workers) - int64(lanes)*(budget+2*spool)
	return max(0, min(spare/2, mostKept))
}
