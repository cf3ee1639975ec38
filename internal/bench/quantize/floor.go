package main

import (
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/bench/limits"
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

// streamed is beyond the cores' share of the caches, and small beside the memory
// limit that a conversion sets for this process.
const streamed = 128 << 20

// bench is what the measurements of one run share.
type bench struct {
	dir     string
	cold    bool
	threads int
	in, out [][]byte       // a piece a thread: read into and hashed, written
	stream  func() float64 // GB/s of source
}

func newBench(dir string, cold bool) *bench {
	b := &bench{dir: dir, cold: cold, threads: runtime.GOMAXPROCS(0)}
	b.stream = limits.NewStreamer(b.threads, streamed)
	for range b.threads {
		b.in, b.out = append(b.in, noise()), append(b.out, noise())
	}
	return b
}

// noise is a piece that a disk cannot compress.
func noise() []byte {
	p := make([]byte, piece)
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
				if n, err := f.ReadAt(b.in[t], at); n == 0 || errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// hashing takes the SHA-256 of n bytes, a run of pieces a core.
func (b *bench) hashing(n int64) (time.Duration, error) {
	return b.each(func(t int) error {
		h := sha256.New()
		for left := n / int64(b.threads); left > 0; left -= piece {
			h.Write(b.in[t][:min(left, piece)])
		}
		h.Sum(nil)
		return nil
	})
}

// writing writes n bytes, a new file a core, and flushes them: on a memory file
// system flushing is free.
func (b *bench) writing(n int64) (took time.Duration, err error) {
	name := func(t int) string { return filepath.Join(b.dir, "floor-"+strconv.Itoa(t)) }
	defer func() {
		for t := range b.threads {
			err = errors.Join(err, os.Remove(name(t)))
		}
	}()
	return b.each(func(t int) error { return limits.WriteFile(name(t), n/int64(b.threads), b.out[t]) })
}

// forget drops the files from the page cache, where there is a way to.
func forget(files []string) {
	for _, name := range files {
		limits.Forget(name)
	}
}

// transfer reads the files from the disk while it writes and flushes n bytes:
// what a conversion asks of the disk, and nothing else.
func (b *bench) transfer(files []string, n int64) (time.Duration, error) {
	forget(files)
	var g errgroup.Group
	start := time.Now()
	g.Go(func() error { _, err := b.reading(files); return err })
	g.Go(func() error { _, err := b.writing(n); return err })
	err := g.Wait()
	return time.Since(start), err
}

// floor measures all parts for a conversion of the files to n bytes.
func (b *bench) floor(files []string, read, written int64) (f floor, err error) {
	if b.cold {
		if f.both, err = b.transfer(files, written); err != nil {
			return f, err
		}
		forget(files)
	}
	if f.read, err = b.reading(files); err != nil {
		return f, err
	}
	f.stream = time.Duration(float64(read) / b.stream()) // bytes a nanosecond
	if f.hash, err = b.hashing(written); err != nil {
		return f, err
	}
	f.write, err = b.writing(written)
	return f, err
}
