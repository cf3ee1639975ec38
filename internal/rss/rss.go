// Package rss tells how much memory processes held at their peak.
//
// getrusage(2) does not: the figure of a process begins at what its parent held
// when it forked. Linux keeps a high-water mark of the memory itself, VmHWM in
// /proc/PID/status, which a new program begins anew; it is what is read there.
package rss

import (
	"os/exec"
	"time"
)

// Self returns the largest resident size that this process has had, in bytes, 0
// where the system does not tell.
func Self() int64 {
	if n := highWater("self"); n > 0 {
		return n
	}
	return usage(nil)
}

// look is how often a child's mark is read.
const look = 2 * time.Millisecond

// Run runs a command like cmd.Run and returns the largest resident size it was
// seen to have, in bytes. getrusage's figure, which knows the last moments and
// the children of the command, counts where it is above what this process has
// held, or where there is no other.
func Run(cmd *exec.Cmd) (peak int64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	pid := pidName(cmd.Process.Pid)
	for {
		select {
		case err := <-done:
			if u := usage(cmd.ProcessState); peak == 0 || u > Self() {
				peak = max(peak, u)
			}
			return peak, err
		case <-time.After(look):
			peak = max(peak, highWater(pid))
		}
	}
}
