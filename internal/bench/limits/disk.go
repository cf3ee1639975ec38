package limits

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
)

// The names of what Disk measures.
const (
	WriteFlush = "write and flush a file"
	Rewrite    = "write it again and flush"
	ReadCached = "read it, cached"
	ReadCold   = "read it, not cached"
)

// Disk measures a file of size bytes in dir, which is removed: written and
// flushed to the disk, written again over the same blocks, read from the page
// cache and, where the system can be asked to forget a file's pages (Linux),
// from the disk. One thread, 4 MiB at a time.
func Disk(dir string, size int64) (out Limits, err error) {
	dir, err = os.MkdirTemp(dir, "glmconv-limits-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	name := filepath.Join(dir, "plain")
	buf := make([]byte, 4<<20)
	for i := range buf {
		buf[i] = byte(i * 2654435761 >> 7)
	}
	add := func(what string, n int, one func() error) {
		if err != nil {
			return
		}
		var r float64
		if r, err = Median(n, func() (float64, error) {
			var e error
			r := Timed(func() float64 { e = one(); return float64(size) })
			return r, e
		}); err != nil {
			err = fmt.Errorf("%s: %w", what, err)
			return
		}
		out = append(out, Limit{what, "GB/s", 1, r})
	}
	add(WriteFlush, 1, func() error { return WriteFile(name, size, buf) })
	add(Rewrite, 3, func() error { return WriteFile(name, size, buf) })
	add(ReadCached, 3, func() error { return ReadFile(name, buf) })
	if err == nil && Forget(name) {
		add(ReadCold, 3, func() error {
			Forget(name)
			return ReadFile(name, buf)
		})
	}
	return out, err
}

// Forget asks the system to drop a file's pages from its cache and returns
// whether it can be asked.
func Forget(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return fsx.DontNeed(f, 0, 0)
}

// WriteFile writes size bytes over a file, buf at a time, and flushes it.
func WriteFile(name string, size int64, buf []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for left := size; left > 0 && err == nil; left -= int64(len(buf)) {
		_, err = f.Write(buf[:min(left, int64(len(buf)))])
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// ReadFile reads a file to its end, buf at a time.
func ReadFile(name string, buf []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for err == nil {
		_, err = f.Read(buf)
	}
	if err == io.EOF {
		return nil
	}
	return err
}
