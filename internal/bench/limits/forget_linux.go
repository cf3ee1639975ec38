package limits

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget asks the system to drop a file's pages from its cache.
func forget(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) == nil
}
