package fsx

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/source"
)

// Input is an open file that is read: an *os.File, or a file of a mounted source.
type Input interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

// OpenInput is [OpenRegular] that also finds files of mounted sources.
func OpenInput(path string) (Input, error) {
	if m := source.Find(filepath.Dir(path)); m != nil {
		return m.Open(filepath.Base(path))
	}
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stat is os.Stat, also for files of mounted sources.
func Stat(path string) (fs.FileInfo, error) {
	if m := source.Find(filepath.Dir(path)); m != nil {
		return m.Stat(filepath.Base(path))
	}
	return os.Stat(path)
}

// IsDir reports whether a path leads to a folder, or to a mounted source.
func IsDir(path string) bool {
	if source.Find(path) != nil {
		return true
	}
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// ReadDir lists a folder by name, or a mounted source.
func ReadDir(path string) ([]fs.DirEntry, error) {
	if m := source.Find(path); m != nil {
		return m.ReadDir(), nil
	}
	return os.ReadDir(path)
}

// hinted is an input that takes hints about what is read soon and what is not.
type hinted interface {
	WillNeed(off, n int64)
	DontNeed(off, n int64)
}

// WillNeed lets the system or the source read a range ahead. It promises nothing.
func WillNeed(in Input, off, n int64) {
	switch f := in.(type) {
	case *os.File:
		willNeed(f, off, n)
	case hinted:
		f.WillNeed(off, n)
	}
}

// DontNeed lets the system drop a range of a file, to its end for n = 0, from its
// page cache, or the source from its memory; what is not on disk yet stays. It
// returns false where there is no such thing.
func DontNeed(in Input, off, n int64) bool {
	switch f := in.(type) {
	case *os.File:
		return dontNeed(f, off, n)
	case hinted:
		f.DontNeed(off, n)
		return true
	}
	return false
}
