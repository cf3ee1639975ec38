package main

import (
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/fsx"
)

// floor is the least time a conversion could take without overlapping
// anything: each part alone, on all cores, added.
type floor struct {
	read, stream, hash, write time.Duration
	both                      time.Duration // of a cold source: reading and writing at the same time
}

func (f floor) total() time.Duration {
	if f.both > 0 {
		return f.both
	}
	return f.read + f.stream + f.hash + f.write
}

// piece is the size of a read, of a hashed run and of a write.
const piece = 1 << 20

// bench is what the measurements of one run share.
type bench struct {
	dir     string
	cold    bool
	threads int
	scratch [][]byte // a piece a thread for reading, paged in
	stream  [][]byte // streamMemory bytes a thread
}

const streamMemory = 96 << 20 // beyond a core's share of the caches

func newBench(dir string, cold bool) *bench {
	b := &bench{dir: dir, cold: cold, threads: runtime.GOMAXPROCS(0)}
	for range b.threads {
		b.scratch = append(b.scratch, filled(piece))
		b.stream = append(b.stream, filled(streamMemory))
	}
	return b
}

func filled(n int) []byte {
	p := make([]byte, n) // noise: there are disks that compress
	_, _ = rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

// each runs f on every core and returns the time until the last is done.
func (b *bench) each(f func(thread int) error) (time.Duration, error) {
	var g errgroup.Group
	start := time.Now()
	for t := range b.threads {
		g.Go(func() error { return f(t) })
	}
	err := g.Wait()
	return time.Since(start), err
}

// reading reads all source files once, pieces dealt out in turn.
func (b *bench) reading(files []string) (time.Duration, error) {
	var open []*os.File
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		open = append(open, f)
	}
	return b.each(func(t int) error {
		for _, f := range open {
			for at := int64(t) * piece; ; at += int64(b.threads) * piece {
				if n, err := f.ReadAt(b.scratch[t], at); n == 0 || errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// streaming reads the source's bytes from memory and writes the result's,
// two read for one written when they are weights at half their size.
func (b *bench) streaming(read, written int64) (time.Duration, error) {
	return b.each(func(t int) error {
		half := streamMemory / 2
		src, dst := b.stream[t][:half], b.stream[t][half:]
		for r, w := read/int64(b.threads), written/int64(b.threads); r > 0; r -= int64(half) {
			n := min(r, int64(half)) &^ 63
			narrow(dst[:n*w/max(read/int64(b.threads), 1)&^31], src[:n])
		}
		return nil
	})
}

// narrow adds pairs of words: the traffic of a conversion with next to no
// arithmetic. Words of src beyond twice dst are read alone.
func narrow(dst, src []byte) {
	s := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(src))), len(src)/8)
	d := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst)/8)
	i := 0
	for ; i+4 <= len(d) && 2*i+8 <= len(s); i += 4 {
		a, o := s[2*i:2*i+8:2*i+8], d[i:i+4:i+4]
		o[0], o[1], o[2], o[3] = a[0]+a[1], a[2]+a[3], a[4]+a[5], a[6]+a[7]
	}
	var x uint64
	for rest := s[2*i:]; len(rest) >= 8; rest = rest[8:] {
		x += rest[0] + rest[1] + rest[2] + rest[3] + rest[4] + rest[5] + rest[6] + rest[7]
	}
	if len(d) > 0 {
		d[0] += x
	}
}

// hashing takes the SHA-256 of n bytes, a run of pieces a core.
func (b *bench) hashing(n int64) (time.Duration, error) {
	return b.each(func(t int) error {
		h := sha256.New()
		for left := n / int64(b.threads); left > 0; left -= piece {
			h.Write(b.scratch[t][:min(left, piece)])
		}
		h.Sum(nil)
		return nil
	})
}

// writing writes n bytes, a new file a core, and flushes them: on a memory file system flushing is free.
func (b *bench) writing(n int64) (took time.Duration, err error) {
	name := func(t int) string { return filepath.Join(b.dir, "floor-"+string(rune('a'+t))) }
	defer func() {
		for t := range b.threads {
			_ = os.Remove(name(t))
		}
	}()
	return b.each(func(t int) (err error) {
		f, err := os.Create(name(t))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		for left := n / int64(b.threads); left > 0; left -= piece {
			if _, err := f.Write(b.stream[t][:min(left, piece)]); err != nil {
				return err
			}
		}
		return f.Sync()
	})
}

// forget drops the files from the page cache, where there is a way to.
func forget(files []string) error {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		fsx.DontNeed(f, 0, 0)
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// transfer reads the files from the disk while it writes and flushes n bytes:
// what a conversion asks of the disk, and nothing else.
func (b *bench) transfer(files []string, n int64) (time.Duration, error) {
	if err := forget(files); err != nil {
		return 0, err
	}
	var g errgroup.Group
	start := time.Now()
	g.Go(func() error { _, err := b.reading(files); return err })
	g.Go(func() error { _, err := b.writing(n); return err })
	err := g.Wait()
	return time.Since(start), err
}

// floor measures all four for a conversion of the files to n bytes.
func (b *bench) floor(files []string, read, written int64) (f floor, err error) {
	if b.cold {
		if f.both, err = b.transfer(files, written); err != nil {
			return f, err
		}
		if err := forget(files); err != nil {
			return f, err
		}
	}
	if f.read, err = b.reading(files); err != nil {
		return f, err
	}
	if f.stream, err = b.streaming(read, written); err != nil {
		return f, err
	}
	if f.hash, err = b.hashing(written); err != nil {
		return f, err
	}
	f.write, err = b.writing(written)
	return f, err
}
