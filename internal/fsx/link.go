package fsx

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// LinkTree gives every file below src a second name at the same place below
// dst, and makes the folders. skip leaves a name out, of a folder all that is
// in it; names are relative to src. Links that lead out of src are refused as
// [Dir] refuses them.
func LinkTree(ctx context.Context, fsys FS, src, dst string, skip func(rel string, e fs.DirEntry) (bool, error)) error {
	from, err := OpenDir(src)
	if err != nil {
		return err
	}
	defer from.Close()
	return filepath.WalkDir(src, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil || rel == "." {
			return err
		}
		if out, err := skip(rel, e); err != nil {
			return err
		} else if out && e.IsDir() {
			return filepath.SkipDir
		} else if out {
			return nil
		}
		if _, err := from.Stat(rel); err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		if e.IsDir() {
			return fsys.MkdirAll(to)
		}
		return LinkOrCopy(ctx, fsys, path, to)
	})
}

// Twins tells whether b is what LinkTree made of a: a second name of the file, or
// a copy of its size.
func Twins(fsys FS, a, b string) bool {
	x, err := fsys.Stat(a)
	if err != nil {
		return false
	}
	y, err := fsys.Stat(b)
	return err == nil && (os.SameFile(x, y) || x.Mode().IsRegular() && y.Mode().IsRegular() && x.Size() == y.Size())
}

// LinkOrCopy makes a hard link, or a copy where the file system or the device
// does not allow one. A symbolic link is followed: caches of downloads consist
// of them, and a link to a link would depend on the cache.
func LinkOrCopy(ctx context.Context, fsys FS, from, to string) error {
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	err = fsys.Link(real, to)
	if err == nil || errors.Is(err, fs.ErrExist) || !linkUnsupported(err) {
		return err
	}
	in, err := os.Open(real)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := CreateTemp(fsys, to)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, Stoppable(ctx, in), make([]byte, 4<<20)); err != nil {
		return errors.Join(err, Discard(fsys, out))
	}
	return Commit(fsys, out, to)
}

// linkUnsupported tells whether a failed link is a reason to copy: another
// device, a file system without links, a file of someone else, too many links.
func linkUnsupported(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, fs.ErrPermission)
}
