package main

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

// errnos are what disks say.
var errnos = []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.EACCES}

// TestSweepFaults fails the n-th operation of every command that writes, once
// and from then on, with every error that a disk has: the command ends with 74
// and advice, leaves nothing under a temporary name that it could remove, and
// keeps the promise.
func TestSweepFaults(t *testing.T) {
	for _, s := range settings(t, func(job) bool { return true }) {
		t.Run(s.name, func(t *testing.T) {
			counter := &fsx.Faulty{FS: fsx.OS}
			s.reset(t)
			runOn(t, counter, s.fill(s.args))
			total := counter.Count()
			require.Greater(t, total, 3, "too few operations")
			sample := 20
			if s.heavy {
				sample = 3
			}
			if s.name == "demo --out" { // half a minute each
				sample = 1
			}
			c := count{Suite: "failed operations", Job: s.name}
			try := func(n, kind int) {
				c.Points++
				if s.fault(t, n, kind) {
					c.Hit++
				}
			}
			for i, n := range spread(total, sample) {
				try(n, i)
			}
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
			for end := time.Now().Add(budget() / 10); time.Now().Before(end); {
				try(1+r.IntN(total), r.IntN(4*len(errnos)))
			}
			record(t, c)
		})
	}
}

// runOn runs a command on a file system.
func runOn(t *testing.T, fsys fsx.FS, args []string) (int, string) {
	t.Helper()
	disk = fsys
	defer func() { disk = nil }()
	return runCommand(t, args)
}

// fault lets operation n fail; kind chooses the error, whether it stays and
// whether a write is cut short.
func (s *setting) fault(t *testing.T, n, kind int) (hit bool) {
	t.Helper()
	faulty := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: errnos[kind%len(errnos)], Sticky: kind/4%2 == 1, Short: kind/8%2 == 1}
	s.reset(t)
	code, text := runOn(t, faulty, s.fill(s.args))
	what := fmt.Sprintf("%s, operation %d, %v, sticky %v, short %v", s.name, n, faulty.Err, faulty.Sticky, faulty.Short)
	if !faulty.Hit() { // the order of operations of parallel work is not always the same
		require.Equal(t, exitOK, code, "%s: %s", what, text)
		return false
	}
	if code != exitOK {
		assert.Equal(t, exitIO, code, "%s: %s", what, text)
		assert.Regexp(t, `(?m)^glmconv: `, text, what)
		assert.Regexp(t, `(?m)^hint: `, text, what)
	}
	if !faulty.Sticky && faulty.Ops()[n-1][:6] != "remove" {
		assert.Empty(t, leftovers(t, s.dir), what)
	}
	s.promise(t, what)
	return true
}

// TestSweepPowerCuts cuts the power after every change that a command makes and
// lays out what a disk may have of it, writes lost and torn and names without
// each other: every such folder keeps the promise.
func TestSweepPowerCuts(t *testing.T) {
	for _, s := range settings(t, func(j job) bool { return !j.heavy || j.name == "logits" }) {
		t.Run(s.name, func(t *testing.T) {
			s.reset(t)
			rec, err := fsx.Record(s.dir)
			require.NoError(t, err)
			code, text := runOn(t, rec, s.fill(s.args))
			require.Equal(t, exitOK, code, text)
			c := count{Suite: "power cuts", Job: s.name}
			try := func(n int, seed uint64) {
				c.Points++
				c.Hit++
				require.NoError(t, rec.Crash(n, seed))
				s.promise(t, fmt.Sprintf("%s, power cut after %d of %d changes, seed %d", s.name, n, rec.Len(), seed))
			}
			sample := 25
			if s.heavy {
				sample = 4
			}
			for i, n := range spread(rec.Len()+1, sample) {
				try(n-1, uint64(i%5))
			}
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
			for end := time.Now().Add(budget() / 10); time.Now().Before(end); {
				try(r.IntN(rec.Len()+1), r.Uint64N(1<<20))
			}
			record(t, c)
		})
	}
}
