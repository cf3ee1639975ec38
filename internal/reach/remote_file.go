package reach

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/glmconv/glmconv/source"
)

// opened is an open shard.
type opened struct {
	s *Source
	f *file
}

func (o opened) Entry() source.Entry { return o.f.Entry }
func (o opened) Close() error        { return nil }

// ReadAt reads headers by one small range, data by blocks.
func (o opened) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f := o.f
	var end error
	if left := f.Size - off; off < 0 || left < int64(len(p)) {
		if off < 0 || left <= 0 {
			return 0, io.EOF
		}
		p, end = p[:left], io.EOF
	}
	if err := f.damaged(); err != nil {
		return 0, err
	}
	if off == 0 && len(p) <= 8 || off == 8 { // safetensors: the length of the header, then the header
		n, err := o.s.readHead(ctx, f, p, off)
		if err == nil {
			err = end
		}
		return n, err
	}
	o.s.weights.Store(true)
	if o.alone(off, len(p)) {
		if off/blockSize == (off+int64(len(p))-1)/blockSize && o.s.cache.read(f, p, off) {
			return len(p), end
		}
		if err := o.s.small(ctx, f, p, off); err != nil {
			return 0, err
		}
		return len(p), end
	}
	o.ahead(off, int64(len(p)))
	n, err := o.s.blocks.read(ctx, f, p, off)
	if err == nil {
		err = end
	}
	return n, err
}

// headKind and restKind are what a cache keeps a header under: its first bytes, and
// what they do not hold of it.
const headKind = "head"

var restKind = fmt.Sprint("head from ", headSize)

// maxAlone is the longest read that is asked for by itself.
const maxAlone = 64 << 10

// alone reports whether a read is a small one of a place that nothing else is read
// around: a norm, a bias, one scale. A block for each would be most of the model.
// Without a network all is read by blocks, which is what a cache has.
func (o opened) alone(off int64, n int) bool {
	f := o.f
	f.mu.Lock()
	follows := off == f.end
	f.end = off + int64(n)
	f.mu.Unlock()
	return n <= maxAlone && !follows && !o.s.c.o.Offline && !o.s.blocks.has(blockKey{f, off / blockSize})
}

// readHead serves the beginning of a file from its first bytes, which are kept,
// and asks for the rest of a long header by another range.
func (s *Source) readHead(ctx context.Context, f *file, p []byte, off int64) (int, error) {
	f.mu.Lock()
	head := f.head
	f.mu.Unlock()
	if head == nil {
		n := min(headSize, f.Size)
		if head = s.cache.keptSmall(f, headKind, n); head == nil {
			head = make([]byte, n)
			if err := s.small(ctx, f, head, 0); err != nil {
				return 0, err
			}
			s.cache.keepSmall(f, headKind, head)
		}
		if text := pointer(head); text != "" {
			return 0, &source.Error{Kind: source.ErrRefused, Where: f.where, Reason: text, Advice: "the repository was uploaded without Git LFS; ask its owner"}
		}
		f.mu.Lock()
		f.head = head
		f.mu.Unlock()
	}
	f.mu.Lock()
	f.headed(head)
	f.mu.Unlock()
	n := 0
	if off < int64(len(head)) {
		n = copy(p, head[off:])
	}
	if n == len(p) {
		return n, nil
	}
	rest := p[n:]
	if kept := s.cache.keptSmall(f, restKind, int64(len(rest))); kept != nil {
		copy(rest, kept)
	} else {
		if err := s.small(ctx, f, rest, off+int64(n)); err != nil {
			return n, err
		}
		s.cache.keepSmall(f, restKind, rest)
	}
	if off+int64(n) == int64(len(head)) {
		f.mu.Lock()
		f.headed(head, rest)
		f.mu.Unlock()
	}
	return len(p), nil
}

// pointer says what a Git LFS pointer stands for, "" for other content.
func pointer(head []byte) string {
	if len(head) >= 1024 || !strings.HasPrefix(string(head), "version https://git-lfs.github.com/spec/v1") {
		return ""
	}
	size := "?"
	for line := range strings.Lines(string(head)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "size "); ok {
			size = n
		}
	}
	return "is a Git LFS pointer, the file has " + size + " bytes"
}

// ahead widens the window of blocks that are fetched before they are asked for
// while a file is read in order.
func (o opened) ahead(off, n int64) {
	f := o.f
	first, last := off/blockSize, (off+n-1)/blockSize
	f.mu.Lock()
	switch {
	case first == f.last+1 || f.last == -1:
		f.reach = min(2*max(f.reach, 1), o.s.c.o.Connections)
	case first != f.last:
		f.reach = 0
	}
	f.last = last
	reach := f.reach
	f.mu.Unlock()
	for i := first; i <= last+int64(reach) && i*blockSize < f.Size; i++ {
		if i > last && !o.s.blocks.ahead(blockKey{f, i}) {
			return
		}
	}
}

// WillNeed is described at source.File.
func (o opened) WillNeed(off, n int64) {
	for i := off / blockSize; i*blockSize < min(off+n, o.f.Size); i++ {
		if !o.s.blocks.ahead(blockKey{o.f, i}) {
			return
		}
	}
}

// DontNeed is described at source.File.
func (o opened) DontNeed(off, n int64) { o.s.blocks.dontNeed(o.f, off, n) }
