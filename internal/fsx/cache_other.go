//go:build !linux

package fsx

import "os"

// willNeed asks the system to read a range of a file into its page cache.
func willNeed(*os.File, int64, int64) {}

// dontNeed lets the system drop a range of a file from its page cache. It returns
// false where there is no such thing.
func dontNeed(*os.File, int64, int64) bool { return false }

func writeBack(*os.File, int64, int64) {}

// Memory returns the bytes of the machine's memory, 0 if nobody can tell.
func Memory() int64 { return 0 }
