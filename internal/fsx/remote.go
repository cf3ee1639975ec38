package fsx

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/glmconv/glmconv/source"
)

// Remote is an FS that is no file system: a bucket. Nothing of it can be locked or
// opened by the operating system's calls, and several machines write it at once.
type Remote interface {
	FS
	// Lock returns [ErrLocked] if another process seems to write the file that the
	// lock is named after. It holds nothing off: of two writers the first to finish
	// a file wins, and the second one's bytes must be the same.
	Lock(path string) (unlock func() error, err error)
	// Mount lets a folder be read by the functions of this package under its name,
	// as it is now, until unmount is called.
	Mount(dir string) (unmount func(), err error)
	// Begin is called before the first shard is written. shared is false if
	// only one process may write: the first to finish a file would not win.
	Begin(resume bool) (shared bool, err error)
}

// LockOn is [Lock] for the files of an FS.
func LockOn(fsys FS, path string) (unlock func() error, err error) {
	if r, ok := fsys.(Remote); ok {
		return r.Lock(path)
	}
	return Lock(path)
}

// Reading runs read while the files of a folder can be read by the functions of
// this package.
func Reading(fsys FS, dir string, read func() error) error {
	if r, ok := fsys.(Remote); ok {
		unmount, err := r.Mount(dir)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err == nil {
			defer unmount()
		}
	}
	return read()
}

// overlapRemote is [Overlap] where one of the two is an address.
func overlapRemote(src, dst string) string {
	src, dst = strings.TrimSuffix(src, "/")+"/", strings.TrimSuffix(dst, "/")+"/"
	switch {
	case src == dst:
		return "is"
	case strings.HasPrefix(dst, src):
		return "lies inside"
	case strings.HasPrefix(src, dst):
		return "contains"
	}
	return ""
}

func remote(path string) bool { return source.Scheme(path) != "" }
