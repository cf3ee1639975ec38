package fsx

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate reserves real blocks. File systems that cannot (NFS before 4.2,
// some FUSE ones) get the length only; so does memory, where reserving pages
// takes half as long as writing them.
func preallocate(f *os.File, size int64) error {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) == nil && st.Type == unix.TMPFS_MAGIC {
		return extend(f, size)
	}
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
