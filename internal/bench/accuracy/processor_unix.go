//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// processor returns the seconds of processor time, user and system, that fn takes on
// all cores.
func processor(fn func() error) (float64, error) {
	before, err := used()
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := used()
	return after - before, err
}

func used() (float64, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime), nil
}
