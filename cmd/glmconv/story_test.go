package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestStoryOfGLM5 is the story of the README on a trained model: the result
// drafts well, and drafts change nothing.
func TestStoryOfGLM5(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "GLM-5.1"), filepath.Join(dir, "GLM-5.1-w4a8")
	require.NoError(t, os.CopyFS(src, os.DirFS(testkit.Shared(t, "reference/nano-glm5"))))
	do := func(args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		require.NoError(t, newApp(&stdout, &stderr).Run(append([]string{"glmconv"}, args...)), stderr.String())
		return stdout.String()
	}
	do("mtp-remap", src)
	do("quantize", "--progress", "none", "--scheme", "w4a8", src, dst)
	assert.Contains(t, do("verify", "--progress", "none", "--state", "none", "--tokens", "384", "--seq-len", "48", src, dst), "PASS")
	text := func(args ...string) (r runJSON) {
		require.NoError(t, json.Unmarshal([]byte(do(append(append([]string{"run", "--json", "--ignore-eos", "--max-tokens", "48", "--prompt", "The license "}, args...), dst)...)), &r))
		return r
	}
	plain, drafted := text(), text("--speculative", "3")
	assert.Equal(t, plain.Tokens, drafted.Tokens)
	require.NotNil(t, drafted.Speculative)
	t.Logf("acceptance length %.2f", drafted.Speculative.AcceptanceLength)
	assert.Greater(t, drafted.Speculative.AcceptanceLength, 1.5)
}
