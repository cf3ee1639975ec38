package fsx

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate reserves real blocks. File systems that cannot (NFS before 4.2,
// some FUSE ones) get the length only.
func preallocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
			return extend(f, size)
		default:
			return err
		}
	}
}
