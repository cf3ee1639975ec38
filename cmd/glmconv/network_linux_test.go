package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/testkit"
)

// TestLocalRunsMakeNoNetworkCall traces the system calls of commands on folders, in an
// environment that names hubs, credentials and stores: none is of the network.
func TestLocalRunsMakeNoNetworkCall(t *testing.T) {
	strace := testkit.Tool(t, "strace", "calls of the network are not looked for")
	if out, err := exec.Command(strace, "-qq", "-e", "trace=none", "true").CombinedOutput(); err != nil {
		testkit.Absent(t, "strace", "it may not trace here: "+string(out))
	}
	dir := t.TempDir()
	src, dst, trace := filepath.Join(dir, "src"), filepath.Join(dir, "dst"), filepath.Join(dir, "trace")
	require.NoError(t, demo.Extract(src))
	env := append(os.Environ(), "HF_TOKEN=x", "HF_ENDPOINT=https://hub.example", "AWS_PROFILE=x", "AWS_ENDPOINT_URL=https://store.example", "MODELSCOPE_API_TOKEN=x")
	for _, args := range [][]string{
		{"inspect", src}, {"plan", "--scheme", "w8a8", src}, {"quantize", "--progress", "none", "--scheme", "w8a8", src, dst},
		{"check", dst}, {"verify", "--skip-forward", src, dst}, {"diff", src, src},
	} {
		cmd := exec.Command(strace, append([]string{"-f", "-qq", "-e", "signal=none", "-e", "trace=%network", "-o", trace, "glmconv"}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", args, out)
		calls, err := os.ReadFile(trace)
		require.NoError(t, err)
		assert.Empty(t, string(bytes.TrimSpace(calls)), args)
	}
}
