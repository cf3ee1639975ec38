package runtime

import (
	"sync"

	"github.com/glmconv/glmconv/glm"
)

// Streaming is a Provider that holds one tile for each caller and, where it is
// told what comes next, two tiles that it reads meanwhile.
type Streaming struct {
	l    *loader
	tile int64 // bytes
	vec  vectors

	mu    sync.Mutex
	queue []*glm.Tensor // what will be asked for, in order
	lo    int           // row of the first of them that is read next
	ready []*reading    // in the order of the queue
	wg    sync.WaitGroup
}

// readAhead is how many tiles are read before they are asked for.
const readAhead = 2

// reading is a tile on its way.
type reading struct {
	name string
	lo   int
	done chan struct{} // closed when w and err are there
	w    *Weight
	err  error
}

// NewStreaming returns a Provider that reads tiles of about tileBytes
// (default 16 MiB, at least one row) from src.
func NewStreaming(cfg *glm.Config, src Source, tileBytes int64) (*Streaming, error) {
	l, err := newLoader(cfg, src)
	if err != nil {
		return nil, err
	}
	l.buffers = new(buffers)
	if tileBytes <= 0 {
		tileBytes = 16 << 20
	}
	return &Streaming{l: l, tile: tileBytes}, nil
}

// WeightsOnly makes products with unquantized inputs, whatever the checkpoint
// declares: what the weights alone change. It is called before the first
// product.
func (s *Streaming) WeightsOnly() { s.l.weightsOnly = true }

// Has implements Provider.
func (s *Streaming) Has(t *glm.Tensor) bool { return s.l.has(t) }

// Missing implements Provider.
func (s *Streaming) Missing() []glm.Tensor { return s.l.missing }

// Vector implements Provider.
func (s *Streaming) Vector(t *glm.Tensor) ([]float32, error) { return s.vec.get(s.l, t) }

// prefetch says which weights will be asked for next, whole and in this order; some
// may be left out. It replaces what was said before. Tiles are read and decoded
// in the background, two at a time, while those before them are computed with.
func (s *Streaming) prefetch(ts ...*glm.Tensor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue, s.lo, s.ready = s.queue[:0], 0, nil
	for _, t := range ts {
		if t != nil {
			s.queue = append(s.queue, t)
		}
	}
	s.pump()
}

// pump starts reading what comes next while there is room.
func (s *Streaming) pump() {
	for len(s.queue) > 0 && len(s.ready) < readAhead {
		t, lo := s.queue[0], s.lo
		if s.lo = s.end(t, lo); int64(s.lo) >= t.Shape[0] {
			s.queue, s.lo = s.queue[1:], 0
		}
		r := &reading{name: t.Name, lo: lo, done: make(chan struct{})}
		s.ready = append(s.ready, r)
		s.wg.Go(func() {
			defer close(r.done)
			r.w, r.err = s.l.rows(t, lo, s.end(t, lo))
		})
	}
}

// Stop forgets what was to come and waits for what is being read; after it the
// source may be closed.
func (s *Streaming) Stop() {
	s.prefetch()
	s.wg.Wait()
}

// end is the row after the tile that begins at row lo.
func (s *Streaming) end(t *glm.Tensor, lo int) int {
	size := int64(2)
	if s.l.decode != nil {
		size = 4
	}
	n := int(max(1, s.tile/max(1, size*t.Shape[1])))
	align := s.l.align(t)
	return min((lo+n+align-1)/align*align, int(t.Shape[0]))
}

// Tile implements Provider.
func (s *Streaming) Tile(t *glm.Tensor, lo int) (*Weight, error) {
	if r := s.take(t, lo); r != nil {
		<-r.done
		return r.w, r.err
	}
	return s.l.rows(t, lo, s.end(t, lo))
}

// take returns the tile if it is on its way; what comes before it in the queue
// was left out.
func (s *Streaming) take(t *glm.Tensor, lo int) *reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.ready {
		if r.name == t.Name && r.lo == lo {
			s.ready = append(s.ready[:0], s.ready[i+1:]...)
			s.pump()
			return r
		}
	}
	return nil
}

// Release implements Provider; the tile's memory is used again.
func (s *Streaming) Release(w *Weight) {
	if w != nil && w.release != nil {
		w.release()
		w.release, w.Data, w.Quant = nil, nil, nil
	}
}

// Gather implements Provider.
func (s *Streaming) Gather(dst []float32, t *glm.Tensor, rows []int) error {
	return gather(dst, rows, int(t.Shape[1]), func(lo int) (*Weight, error) { return s.l.rows(t, lo, lo+1) })
}

// prefetch tells the provider what the next products need.
func (m *Model) prefetch(ts ...*glm.Tensor) {
	if s, ok := m.p.(*Streaming); ok {
		s.prefetch(ts...)
	}
}
