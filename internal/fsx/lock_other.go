//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package fsx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// lock makes a file that must not exist: systems without flock have nothing
// else that needs no further library. A killed process leaves it behind.
func lock(path string) (func() error, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, ".lock"+tempSuffix)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, &fs.PathError{Op: "lock", Path: path, Err: ErrLocked}
	}
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(f.Close(), os.Remove(path)) }, nil
}
