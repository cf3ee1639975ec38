//go:build unix

package rss

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

func pidName(pid int) string { return strconv.Itoa(pid) }

// highWater returns VmHWM of a process, 0 if it is not there.
func highWater(pid string) int64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(status, []byte("\nVmHWM:"))
	if !ok {
		return 0
	}
	if f := bytes.Fields(rest[:min(len(rest), 64)]); len(f) > 0 {
		kb, _ := strconv.ParseInt(string(f[0]), 10, 64)
		return kb << 10
	}
	return 0
}

// usage is what getrusage says of a process that has ended, or of this one.
func usage(p *os.ProcessState) int64 {
	var u syscall.Rusage
	if p == nil {
		if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
			return 0
		}
	} else if x, ok := p.SysUsage().(*syscall.Rusage); ok {
		u = *x
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(u.Maxrss)
	}
	return int64(u.Maxrss) << 10
}
