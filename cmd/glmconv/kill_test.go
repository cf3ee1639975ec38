//go:build linux

package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/internal/testkit"
)

// TestKilledAndResumed kills conversions with SIGKILL at random moments. What
// is left has no manifest; resumed, it ends in the very bytes of a conversion
// that nobody killed, and no process takes more memory than it was given.
func TestKilledAndResumed(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector's own memory would be counted, and the processes share none")
	}
	const limit = 160 << 20
	src := bigSource(t)
	for _, args := range [][]string{{"--scheme", "w8a8"}, {"--scheme", "w4a8", "--format", "ascend"}} {
		run := func(dst string, extra ...string) *exec.Cmd {
			all := append([]string{"quantize", "--progress", "none", "--max-memory", "160MiB"}, args...)
			return exec.Command("glmconv", append(append(all, extra...), src, dst)...)
		}
		whole := filepath.Join(t.TempDir(), "whole")
		cmd := run(whole)
		start := time.Now()
		out, most := peak(t, cmd)
		require.True(t, cmd.ProcessState.Success(), "%s", out)
		took := time.Since(start)
		t.Logf("%v: %v, peak %d MiB of %d", args, took.Round(time.Millisecond), most>>20, limit>>20)
		assert.Less(t, most, int64(limit))
		want := testkit.FileSums(t, whole)

		dst, r, killed := filepath.Join(t.TempDir(), "killed"), rand.New(rand.NewPCG(1, 2)), 0
		for tries := 0; ; tries++ {
			cmd := run(dst, "--resume")
			require.NoError(t, cmd.Start())
			after := time.Duration(r.Int64N(int64(took)) * 6 / 10)
			if tries == 0 { // certainly before its end
				after = min(took/8, 50*time.Millisecond)
			}
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			err := cmd.Wait()
			timer.Stop()
			if err == nil {
				break
			}
			status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			require.True(t, ok && status.Signaled(), "it ended by itself: %v", err)
			killed++
			if tries == 12 { // enough; let it end
				out, err := run(dst, "--resume").CombinedOutput()
				require.NoError(t, err, "%s", out)
				break
			}
		}
		t.Logf("killed %d times", killed)
		assert.Positive(t, killed)
		assert.Equal(t, want, testkit.FileSums(t, dst))
	}
}

// TestMeasuredKilledAndResumed: the same for a scheme that measures inputs in a
// forward pass first, in as little memory as one sequence needs, and for parts,
// each of which measures for itself.
func TestMeasuredKilledAndResumed(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector's own memory would be counted")
	}
	config := glm45(512, 1024, 512, 4, 64)
	plan, err := synth.NewPlan(synth.Options{Config: config, Seed: 12, ShardBytes: 3 << 20})
	require.NoError(t, err)
	src := filepath.Join(t.TempDir(), "source")
	require.NoError(t, plan.Write(t.Context(), src))
	model := filepath.Join(t.TempDir(), "model") // whose tokenizer reads text
	require.NoError(t, demo.Extract(model))
	tok, err := os.ReadFile(filepath.Join(model, "tokenizer.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(src, "tokenizer.json"), tok, 0o600))
	for _, format := range []string{"compressed-tensors", "modelopt"} {
		run := func(dst, memory string, extra ...string) *exec.Cmd {
			all := []string{"quantize", "--progress", "none", "--scheme", "nvfp4", "--format", format, "--max-memory", memory}
			return exec.Command("glmconv", append(append(all, extra...), src, dst)...)
		}
		whole := filepath.Join(t.TempDir(), "whole")
		cmd := run(whole, "1GiB")
		start := time.Now()
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		took := time.Since(start)
		want := testkit.FileSums(t, whole)

		small := filepath.Join(t.TempDir(), "small")
		cmd = run(small, "80MiB", "--workers", "3")
		out, most := peak(t, cmd)
		require.True(t, cmd.ProcessState.Success(), "%s", out)
		t.Logf("%s: peak %d MiB of 80", format, most>>20)
		assert.Less(t, most, int64(80<<20))
		assert.Equal(t, want, testkit.FileSums(t, small))

		dst := filepath.Join(t.TempDir(), "killed")
		for tries := range 6 {
			cmd := run(dst, "1GiB", "--resume")
			require.NoError(t, cmd.Start())
			timer := time.AfterFunc(took*time.Duration(tries+3)/8, func() { _ = cmd.Process.Kill() })
			err := cmd.Wait()
			timer.Stop()
			if err == nil {
				break
			}
		}
		out, err = run(dst, "1GiB", "--resume").CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Equal(t, want, testkit.FileSums(t, dst))

		parts := filepath.Join(t.TempDir(), "parts")
		for _, i := range []string{"2", "3", "1"} {
			out, err := run(parts, "1GiB", "--index", i, "--count", "3").CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		assert.Equal(t, want, testkit.FileSums(t, parts))
	}
}
