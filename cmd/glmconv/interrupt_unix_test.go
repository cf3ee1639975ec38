//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
)

// stop runs a command line, sends signals some time after its start, and
// returns its exit code, how long after the first signal it ended, and what it
// said.
func stop(t *testing.T, after time.Duration, signals int, args ...string) (code int, took time.Duration, errs string) {
	t.Helper()
	cmd := exec.Command("glmconv", args...)
	var b bytes.Buffer
	cmd.Stderr = &b
	require.NoError(t, cmd.Start())
	time.Sleep(after)
	start := time.Now()
	for range signals {
		_ = cmd.Process.Signal(syscall.SIGINT)
		time.Sleep(30 * time.Millisecond)
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), time.Since(start), b.String()
}

// TestInterrupts: every command ends within a second of a signal, whatever it
// is doing, says how to go on, and a result never looks finished.
func TestInterrupts(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector slows every phase down")
	}
	// What is left after the grace: the process has to be scheduled and to end.
	const most = grace + 1500*time.Millisecond
	src := bigSource(t)
	tmp := t.TempDir()
	ids := filepath.Join(tmp, "ids.json")
	require.NoError(t, os.WriteFile(ids, []byte("[["+strings.Repeat("1,", 400)+"2]]"), 0o644))
	stopped := 0
	for i, args := range [][]string{
		{"quantize", "--scheme", "w8a8", src}, {"check", "--weights", src}, {"diff", src, src}, {"verify", "--state", "none", src, src},
		{"run", src, "--prompt-ids", "1,2,3", "--max-tokens", "500", "--ignore-eos"}, {"logits", src, "--token-ids", ids, "--out", filepath.Join(tmp, "x.safetensors")},
		{"mtp-remap", src, "--out", filepath.Join(tmp, "remapped")}, {"demo", "--report", ""},
	} {
		for j, after := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond} {
			line := args
			if args[0] == "quantize" {
				line = append(line[:len(line):len(line)], filepath.Join(tmp, fmt.Sprint(i, j)))
			}
			code, took, said := stop(t, after, 1, line...)
			assert.Less(t, took, most, "%v after %v: %s", line, after, said)
			if code == exitInterrupted {
				stopped++
				assert.Contains(t, said, "hint: ", "%v after %v", line, after)
				assert.NoFileExists(t, filepath.Join(line[len(line)-1], "glmconv-manifest.json"))
			}
		}
	}
	assert.NoFileExists(t, filepath.Join(tmp, "x.safetensors"))
	assert.Greater(t, stopped, 6)
	t.Logf("%d of 16 were stopped, the others had ended", stopped)
}

// TestInterruptsWhereNothingLooks stops a command in a phase that does not look
// for signals, the loading of a large tokenizer: after the grace, and at once
// with a second signal.
func TestInterruptsWhereNothingLooks(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector slows every phase down")
	}
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, demo.Extract(dir))
	var b bytes.Buffer
	b.WriteString(`{"model":{"type":"BPE","vocab":{"a":0`)
	for i := 1; b.Len() < 90_000_000; i++ {
		fmt.Fprintf(&b, ",\"%d\":%d", i, i)
	}
	b.WriteString(`},"merges":[]}}`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer.json"), b.Bytes(), 0o644))
	for signals, most := range map[int]time.Duration{1: grace + 1500*time.Millisecond, 2: grace} {
		code, took, said := stop(t, 300*time.Millisecond, signals, "run", dir, "--prompt", "a")
		assert.Equal(t, exitInterrupted, code, said)
		assert.Contains(t, said, "glmconv: run was interrupted\nhint: ")
		assert.Less(t, took, most, "%d signals", signals)
		t.Logf("%d signals: ended after %v", signals, took.Round(time.Millisecond))
	}
}
