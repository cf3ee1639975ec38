package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// process runs a command line in a process of its own and returns its exit code,
// -1 if a signal ended it.
func process(t *testing.T, line []string, during func(p *os.Process)) (code int, text string) {
	t.Helper()
	cmd := exec.Command(line[0], line[1:]...)
	var out bytes.Buffer
	cmd.Stderr = &out
	require.NoError(t, cmd.Start())
	if during != nil {
		during(cmd.Process)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	assert.NotContains(t, out.String(), "goroutine ", "%v", line)
	return cmd.ProcessState.ExitCode(), out.String()
}

func glmconvLine(args []string) []string { return append([]string{"glmconv"}, args...) }

// signalled runs the job of a setting and signals it at a random moment.
func (s *setting) signalled(t *testing.T, r *rand.Rand, took time.Duration, sig os.Signal) (hit bool) {
	t.Helper()
	s.reset(t)
	after := time.Duration(r.Int64N(int64(took)))
	var sent time.Time
	code, text := process(t, glmconvLine(s.fill(s.args)), func(p *os.Process) {
		time.Sleep(after)
		_ = p.Signal(sig) // it may have ended
		sent = time.Now()
	})
	hit = code < 0 || code == exitInterrupted
	what := fmt.Sprintf("%s, %v after %v", s.name, sig, after)
	if sig == syscall.SIGTERM && hit {
		assert.Less(t, time.Since(sent), 5*time.Second, "%s: it does not end", what)
		// -1: before the program had begun to listen
		assert.Contains(t, []int{exitOK, exitInterrupted, -1}, code, "%s: %s", what, text)
	}
	s.promise(t, what)
	return hit
}

// TestSweepSignals kills commands and asks them to end at random moments.
func TestSweepSignals(t *testing.T) {
	for _, s := range settings(t, func(j job) bool { return j.name != "demo --out" || budget() > 0 }) {
		t.Run(s.name, func(t *testing.T) {
			s.reset(t)
			start := time.Now()
			code, text := process(t, glmconvLine(s.fill(s.args)), nil)
			require.Equal(t, exitOK, code, text)
			took := time.Since(start) * 5 / 4
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
			for name, sig := range map[string]os.Signal{"kills (SIGKILL)": syscall.SIGKILL, "SIGTERM in every phase": syscall.SIGTERM} {
				c := count{Suite: name, Job: s.name}
				least := 4
				if s.name == "demo --out" { // half a minute each
					least = 1
				}
				for end := time.Now().Add(budget() / 20); c.Points < least || time.Now().Before(end); {
					c.Points++
					if s.signalled(t, r, took, sig) {
						c.Hit++
					}
				}
				record(t, c)
			}
		})
	}
}

// calls are system calls that a disk can fail, with what it says.
var calls = []struct {
	name string
	errs []string
}{
	{"pwrite64", []string{"ENOSPC", "EIO", "EDQUOT"}}, {"fsync", []string{"EIO", "ENOSPC"}}, {"fallocate", []string{"ENOSPC", "EDQUOT"}},
	{"renameat", []string{"EIO", "ENOSPC", "EACCES"}}, {"unlinkat", []string{"EIO", "EACCES"}}, {"mkdirat", []string{"ENOSPC", "EACCES"}},
	{"pread64", []string{"EIO"}}, {"linkat", []string{"ENOSPC", "EIO", "EACCES"}}, {"getdents64", []string{"EIO"}}, {"flock", []string{"EIO"}},
}

// TestSweepSystemCalls lets the kernel refuse system calls of the real program,
// reads among them, by strace.
func TestSweepSystemCalls(t *testing.T) {
	const suite = "system calls failed by strace"
	if out, err := exec.Command("strace", "-f", "-e", "inject=fsync:error=EIO:when=9999", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		why := fmt.Sprintf("strace cannot trace here: %v %s", err, out)
		record(t, count{Suite: suite, Job: "all", Skipped: why})
		t.Skip("SKIPPED: " + why)
	}
	for _, s := range settings(t, func(j job) bool { return !j.heavy || j.name == "logits" }) {
		t.Run(s.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 4))
			c := count{Suite: suite, Job: s.name}
			for end := time.Now().Add(budget() / 15); c.Points < 5 || time.Now().Before(end); c.Points++ {
				call := calls[r.IntN(len(calls))]
				errno := call.errs[r.IntN(len(call.errs))]
				when := fmt.Sprint(1 + r.IntN(4)) // counted for each thread
				if r.IntN(3) == 0 {
					when += "+"
				}
				s.reset(t)
				log := filepath.Join(t.TempDir(), "strace")
				line := append([]string{"strace", "-f", "-qq", "-o", log, "-e", "trace=" + call.name,
					"-e", "inject=" + call.name + ":error=" + errno + ":when=" + when}, glmconvLine(s.fill(s.args))...)
				code, text := process(t, line, nil)
				raw, err := os.ReadFile(log)
				require.NoError(t, err)
				what := fmt.Sprintf("%s, %s %s when=%s", s.name, call.name, errno, when)
				if code == 127 && strings.Contains(text, "loading shared libraries") {
					continue // the loader was hit, the program has not begun
				}
				if bytes.Contains(raw, []byte("(INJECTED)")) {
					c.Hit++
					assert.Contains(t, []int{exitOK, exitIO}, code, "%s: %s", what, text)
				} else {
					assert.Equal(t, exitOK, code, "%s: %s", what, text)
				}
				if code != exitOK {
					assert.Regexp(t, `(?m)^hint: `, text, what)
				}
				s.promise(t, what)
			}
			record(t, c)
		})
	}
}

// TestSweepFullDisk converts onto file systems that are too small, and goes on
// when they have grown.
func TestSweepFullDisk(t *testing.T) {
	const suite = "full file systems (tmpfs)"
	for _, s := range settings(t, func(j job) bool { return !j.heavy && !strings.HasSuffix(j.name, "--undo") }) {
		t.Run(s.name, func(t *testing.T) {
			s.reset(t)
			mount := filepath.Join(t.TempDir(), "disk")
			require.NoError(t, os.Mkdir(mount, 0o755))
			if err := syscall.Mount("none", mount, "tmpfs", 0, "size=64m"); err != nil {
				why := fmt.Sprintf("a tmpfs cannot be mounted here: %v", err)
				record(t, count{Suite: suite, Job: s.name, Skipped: why})
				t.Skip("SKIPPED: " + why)
			}
			defer func() { require.NoError(t, syscall.Unmount(mount, 0)) }()
			on := *s
			on.dir = filepath.Join(mount, "dir")
			resize := func(kib int64) error {
				return syscall.Mount("none", mount, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dk", kib))
			}
			c := count{Suite: suite, Job: s.name}
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 5))
			for end := time.Now().Add(budget() / 30); c.Points < 4 || time.Now().Before(end); c.Points++ {
				on.reset(t)
				var st syscall.Statfs_t
				require.NoError(t, syscall.Statfs(mount, &st))
				used := int64(st.Blocks-st.Bfree) * st.Bsize >> 10
				require.NoError(t, resize(max(4, used+4*r.Int64N(250)))) // 0 is no limit, after which there cannot be one again
				code, text := process(t, glmconvLine(on.fill(on.args)), nil)
				if code != exitOK {
					c.Hit++
					assert.Equal(t, exitIO, code, text)
					assert.Regexp(t, `(?m)^hint: `, text)
				}
				require.NoError(t, resize(64<<10))
				on.promise(t, s.name+" on a full file system")
			}
			record(t, c)
		})
	}
}

// TestSweepLimits runs commands under a limit of the size of files.
func TestSweepLimits(t *testing.T) {
	for _, s := range settings(t, func(j job) bool { return !j.heavy || j.name == "logits" }) {
		t.Run(s.name, func(t *testing.T) {
			c := count{Suite: "limits (RLIMIT_FSIZE)", Job: s.name}
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 6))
			for end := time.Now().Add(budget() / 30); c.Points < 3 || time.Now().Before(end); c.Points++ {
				s.reset(t)
				blocks := r.IntN(600)
				line := append([]string{"sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$@"`, blocks), "sh"}, glmconvLine(s.fill(s.args))...)
				code, text := process(t, line, nil)
				if code != exitOK {
					c.Hit++
					assert.Equal(t, exitIO, code, "%s, %d blocks: %s", s.name, blocks, text)
					assert.Regexp(t, `(?m)^hint: `, text)
				}
				s.promise(t, fmt.Sprintf("%s with files of %d blocks", s.name, blocks))
			}
			record(t, c)
		})
	}
}

// TestSweepTwoProcesses runs a command twice at the same time in one folder: each
// ends well or says that the other one is there, and what stands there is whole.
func TestSweepTwoProcesses(t *testing.T) {
	for _, s := range settings(t, func(j job) bool { return j.name != "demo --out" && !strings.HasSuffix(j.name, "--undo") }) {
		t.Run(s.name, func(t *testing.T) {
			c := count{Suite: "two processes in one folder", Job: s.name}
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 7))
			args := s.args
			if s.again != nil {
				args = s.again
			}
			for end := time.Now().Add(budget() / 30); c.Points < 3 || time.Now().Before(end); c.Points++ {
				s.reset(t)
				codes, texts := make([]int, 2), make([]string, 2)
				var wg sync.WaitGroup
				later := time.Duration(r.Int64N(int64(60 * time.Millisecond)))
				for i := range codes {
					wg.Add(1)
					go func() {
						defer wg.Done()
						time.Sleep(time.Duration(i) * later)
						codes[i], texts[i] = process(t, glmconvLine(s.fill(args)), nil)
					}()
				}
				wg.Wait()
				c.Hit++
				for i, code := range codes {
					assert.Contains(t, []int{exitOK, exitTemporary, s.done}, code, texts[i])
				}
				assert.Contains(t, codes, exitOK, "both gave up: %s", strings.Join(texts, "; "))
				s.promise(t, fmt.Sprintf("%s twice, %v apart", s.name, later))
			}
			record(t, c)
		})
	}
}
