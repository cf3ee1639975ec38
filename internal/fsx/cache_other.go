//go:build !linux

package fsx

import "os"

// WillNeed asks the system to read a range of a file into its page cache.
func WillNeed(*os.File, int64, int64) {}

// DontNeed lets the system drop a range of a file from its page cache. It returns
// false where there is no such thing.
func DontNeed(*os.File, int64, int64) bool { return false }

func writeBack(*os.File, int64, int64) {}

// Memory returns the bytes of the machine's memory, 0 if nobody can tell.
func Memory() int64 { return 0 }
