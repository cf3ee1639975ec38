//go:build !linux

package fsx

import "os"

func preallocate(f *os.File, size int64) error { return extend(f, size) }
