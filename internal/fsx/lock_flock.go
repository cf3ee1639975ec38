//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fsx

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func lock(path string) (func() error, error) {
	for {
		f, isDir, err := openLock(path)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			_ = f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = ErrLocked
			}
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		if isDir {
			return f.Close, nil
		}
		// The holder before us removes the file when it unlocks. If that came
		// between our open and our flock we hold a lock on a file without a
		// name, which excludes nobody.
		if sameFile(f, path) {
			return func() error { return errors.Join(os.Remove(path), f.Close()) }, nil
		}
		_ = f.Close()
	}
}

func openLock(path string) (f *os.File, isDir bool, err error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		f, err = os.Open(path)
		return f, true, err
	}
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	return f, false, err
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
