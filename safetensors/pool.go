package safetensors

import (
	"container/list"
	"io/fs"
	"sync"

	"github.com/glmconv/glmconv/internal/fsx"
)

// pool keeps a bounded number of files open. Models have up to 300 shards,
// and many systems allow a process 256 descriptors.
type pool struct {
	open func(name string) (fsx.Input, error)
	max  int

	mu     sync.Mutex
	m      map[string]*handle
	idle   *list.List // of *handle without users, longest unused first
	closed bool
}

type handle struct {
	name  string
	file  fsx.Input
	users int
	elem  *list.Element // place in idle, nil while in use
}

func newPool(max int, open func(string) (fsx.Input, error)) *pool {
	return &pool{open: open, max: max, m: map[string]*handle{}, idle: list.New()}
}

// acquire returns an open file that the caller must release. check is called
// when the file was opened for this call.
func (p *pool) acquire(name string, check func(fsx.Input) error) (*handle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fs.ErrClosed
	}
	h := p.m[name]
	if h == nil {
		for len(p.m) >= p.max && p.idle.Len() > 0 {
			p.drop(p.idle.Front().Value.(*handle))
		}
		f, err := p.open(name)
		if err != nil {
			return nil, err
		}
		if err := check(f); err != nil {
			_ = f.Close()
			return nil, err
		}
		h = &handle{name: name, file: f}
		p.m[name] = h
	}
	if h.elem != nil {
		p.idle.Remove(h.elem)
		h.elem = nil
	}
	h.users++
	return h, nil
}

func (p *pool) release(h *handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.users--; h.users > 0 {
		return
	}
	h.elem = p.idle.PushBack(h)
	if p.closed || len(p.m) > p.max {
		p.drop(h)
	}
}

// drop closes an idle file. Nothing was written to it, so closing cannot fail
// in a way that matters.
func (p *pool) drop(h *handle) {
	p.idle.Remove(h.elem)
	delete(p.m, h.name)
	_ = h.file.Close()
}

// close closes all files; those in use are closed by their last release.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for p.idle.Len() > 0 {
		p.drop(p.idle.Front().Value.(*handle))
	}
}
