package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
)

// TestIOErrorsAreNoVerdicts lets the system refuse each file of a source and of
// a result in turn (to a user without rights): every command ends as failed
// I/O, none as a judgement of what it could not read.
func TestIOErrorsAreNoVerdicts(t *testing.T) {
	tmp := t.TempDir()
	require.NoError(t, os.Chmod(tmp, 0o755))
	for dir := tmp; dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode()&1 == 0 {
			if err := os.Chmod(dir, st.Mode()|1); err != nil {
				t.Skipf("SKIPPED: %s is closed to other users", dir)
			}
		}
	}
	self, err := os.Executable()
	require.NoError(t, err)
	raw, err := os.ReadFile(self)
	require.NoError(t, err)
	program := filepath.Join(tmp, "glmconv") // under this name the test is the program
	require.NoError(t, os.WriteFile(program, raw, 0o755))
	src, dst := filepath.Join(tmp, "src"), filepath.Join(tmp, "dst")
	require.NoError(t, demo.Extract(src))
	require.Equal(t, exitOK, say(t, "quantize", "--scheme", "w8a8", src, dst).code)
	as := func(args ...string) (int, string) {
		cmd := exec.Command(program, args...)
		if os.Getuid() == 0 {
			cmd.SysProcAttr = nobody()
		}
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, out := as("check", dst); code != exitOK {
		t.Skipf("SKIPPED: another user cannot run the program here: %s", out)
	}
	for _, c := range []struct {
		file     string
		commands [][]string
	}{
		{"config.json", [][]string{{"check", dst}, {"inspect", dst}, {"diff", src, dst}, {"verify", "--state", "none", src, dst}, {"verify", "--skip-forward", "--state", "none", src, dst}, {"run", dst, "--prompt", "a"}}},
		{"quant_model_description.json", [][]string{{"check", dst}, {"verify", "--state", "none", src, dst}}},
		{"quant_model_weights.safetensors.index.json", [][]string{{"check", dst}, {"inspect", dst}, {"diff", src, dst}, {"verify", "--state", "none", src, dst}, {"run", dst, "--prompt", "a"}}},
		{"quant_model_weights-00001-of-00001.safetensors", [][]string{{"check", dst}, {"check", "--no-hashes", dst}, {"inspect", dst}, {"diff", src, dst}, {"verify", "--state", "none", src, dst}, {"run", dst, "--prompt", "a"}}},
		{"glmconv-manifest.json", [][]string{{"check", dst}, {"verify", "--state", "none", src, dst}}},
		{"tokenizer.json", [][]string{{"check", dst}, {"diff", src, dst}, {"run", dst, "--prompt", "a"}}},
	} {
		path := filepath.Join(dst, c.file)
		require.NoError(t, os.Chmod(path, 0))
		for _, line := range c.commands {
			code, out := as(line...)
			assert.Equal(t, exitIO, code, "%v without %s: %s", line, c.file, out)
			assert.Contains(t, out, "permission denied", "%v without %s", line, c.file)
		}
		require.NoError(t, os.Chmod(path, 0o644))
	}
}
