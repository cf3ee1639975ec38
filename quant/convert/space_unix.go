//go:build unix

package convert

import "golang.org/x/sys/unix"

// freeSpace returns the bytes that an ordinary user may still write to the
// file system of dir, or -1 if nobody can tell.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return -1
	}
	return int64(uint64(st.Bavail) * uint64(st.Bsize)) //nolint:unconvert // the widths differ between systems
}
