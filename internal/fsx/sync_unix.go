//go:build unix

package fsx

import (
	"errors"
	"os"
	"syscall"
)

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil && syncUnsupported(err) {
		return nil
	}
	return err
}

// syncUnsupported recognises file systems that have no fsync for this kind of
// file: they answer EINVAL or ENOTSUP.
func syncUnsupported(err error) bool {
	return errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EINVAL)
}
