package runtime

// LayerCache holds what a layer's attention remembers of the tokens of one
// sequence: keys and values of grouped-query attention, latents and index keys
// of latent attention. Slot i belongs to the
// i-th token. A fork shares the slots before it with its parent.
type LayerCache struct {
	parent  *LayerCache
	base    int         // slots that are read from the parent
	n       int         // own slots
	streams [][]float32 // one for each kind of row
	widths  []int
}

// Len returns the number of slots.
func (c *LayerCache) Len() int { return c.base + c.n }

// Truncate forgets the slots from n on. A fork cannot forget what it shares.
func (c *LayerCache) Truncate(n int) {
	c.n = min(c.n, max(0, n-c.base))
	for i, w := range c.widths {
		c.streams[i] = c.streams[i][:c.n*w]
	}
}

// Fork returns a cache that starts with the first n slots of c. They are
// shared: c must keep them as long as the fork is used.
func (c *LayerCache) Fork(n int) *LayerCache {
	n = min(n, c.Len())
	for c.parent != nil && n <= c.base {
		c = c.parent
	}
	return &LayerCache{parent: c, base: n}
}

// Clone returns a cache of the first n slots of c, which it shares nothing with.
func (c *LayerCache) Clone(n int) *LayerCache {
	n = min(n, c.Len())
	out := &LayerCache{}
	if n == 0 {
		return out
	}
	for c.parent != nil && n <= c.base {
		c = c.parent
	}
	out.grow(n, c.widths...)
	for i, w := range c.widths {
		if c.parent == nil {
			copy(out.streams[i], c.streams[i][:n*w])
			continue
		}
		for slot := range n {
			copy(out.streams[i][slot*w:][:w], c.row(i, slot))
		}
	}
	return out
}

// grow appends n slots and returns the index of the first; rows are filled in
// by row. The widths are those of the attention block.
func (c *LayerCache) grow(n int, widths ...int) int {
	if c.streams == nil {
		c.widths = widths
		c.streams = make([][]float32, len(widths))
	}
	first := c.Len()
	for i, w := range widths {
		s := c.streams[i]
		if need := (c.n + n) * w; cap(s) < need {
			s = append(make([]float32, 0, max(need, 2*cap(s))), s...)
		}
		c.streams[i] = s[:(c.n+n)*w]
	}
	c.n += n
	return first
}

// row returns the row of a stream that belongs to a slot.
func (c *LayerCache) row(stream, slot int) []float32 {
	for c.parent != nil && slot < c.base {
		c = c.parent
	}
	w := c.widths[stream]
	return c.streams[stream][(slot-c.base)*w:][:w:w]
}

// run returns the rows of a stream from a slot on and how many of them lie one
// after the other.
func (c *LayerCache) run(stream, slot int) (rows []float32, n int) {
	end := c.Len()
	for c.parent != nil && slot < c.base {
		end = min(end, c.base)
		c = c.parent
	}
	w := c.widths[stream]
	return c.streams[stream][(slot-c.base)*w : (end-c.base)*w], end - slot
}

// release frees the rows but keeps the length: the cache cannot be read again.
func (c *LayerCache) release() {
	clear(c.streams)
}
