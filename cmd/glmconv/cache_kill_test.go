//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/testkit"
)

// TestKilledWithACache kills conversions of a remote source with SIGKILL while they
// fill a cache: what they leave there is read afterwards, nothing of it is wrong,
// and what is fetched twice are the blocks that were on their way. GLMCONV_TORTURE
// makes it fifty kills and a source of 4 GB, of which that is little.
func TestKilledWithACache(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the processes share nothing that the race detector sees")
	}
	const connections, block = 2, 8 << 20
	kills, src := 6, ""
	if os.Getenv("GLMCONV_TORTURE") != "" {
		kills, src = 50, sourceOf(t, glm45(2048, 10944, 1408, 108, 128), 512<<20)
	} else {
		src = bigSource(t)
	}
	hub := fakehub.NewDir(t, "org/big", src, true)
	hub.Total = 300 << 20
	want, dst, cache := filepath.Join(t.TempDir(), "want"), filepath.Join(t.TempDir(), "dst"), t.TempDir()
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", src, want)
	require.Zero(t, code, errs)
	env := append(os.Environ(), hub.Env(t.TempDir())...)
	run := func() *exec.Cmd {
		cmd := exec.Command("glmconv", "quantize", "--progress", "none", "--scheme", "w8a8", "--resume", "--connections", fmt.Sprint(connections), "--cache", cache, "hf://org/big", dst)
		cmd.Env = env
		return cmd
	}
	r, killed := rand.New(rand.NewPCG(3, 4)), 0
	for killed < kills {
		cmd := run()
		require.NoError(t, cmd.Start())
		timer := time.AfterFunc(time.Duration(50+r.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil { // it came to its end: again, from the cache alone
			require.NoError(t, os.RemoveAll(dst))
			break
		}
		require.Equal(t, -1, cmd.ProcessState.ExitCode(), "not by a signal")
		killed++
	}
	out, err := run().CombinedOutput()
	require.NoError(t, err, "%s", out)
	x, y := testkit.Result(t, want), testkit.Result(t, dst)
	require.Equal(t, len(x), len(y))
	for n := range x {
		assert.True(t, x[n] == y[n], "%s differs", n)
	}
	before, size := hub.Sent(), testkit.Size(t, src)
	shards, err := filepath.Glob(filepath.Join(src, "*.safetensors"))
	require.NoError(t, err)
	headers := int64(killed+2) * int64(len(shards)) * 32 << 10
	assert.LessOrEqual(t, before, size+headers+int64(killed)*connections*block, "twice: blocks on their way, and headers")
	if kills == 50 {
		assert.LessOrEqual(t, before, size+size/20)
	}
	require.NoError(t, os.RemoveAll(dst))
	out, err = run().CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%d kills, %.2f of the source fetched, %d KiB by a run after that", killed, float64(before)/float64(size), (hub.Sent()-before)>>10)
	y = testkit.Result(t, dst)
	for n := range x {
		assert.True(t, x[n] == y[n], "%s differs", n)
	}
}
