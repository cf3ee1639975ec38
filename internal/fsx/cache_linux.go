package fsx

import (
	"os"

	"golang.org/x/sys/unix"
)

// willNeed asks the system to read a range of a file into its page cache
// without waiting for it.
func willNeed(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_WILLNEED)
}

// dontNeed lets the system drop a range of a file, to its end for n = 0, from its
// page cache; what is not on disk yet stays. It returns false where there is no
// such thing.
func dontNeed(f *os.File, off, n int64) bool {
	return unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED) == nil
}

// writeBack starts writing a range to the disk.
func writeBack(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// Memory returns the bytes of the machine's memory, 0 if nobody can tell.
func Memory() int64 {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 0
	}
	return int64(s.Totalram) * int64(s.Unit) //nolint:unconvert // the widths differ between architectures
}
