//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
)

// said is what one command line came to.
type said struct {
	code           int
	stdout, stderr string
}

// say runs a command line that must end soon.
func say(t *testing.T, args ...string) said {
	t.Helper()
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- run(ctx, append([]string{"glmconv"}, args...), &out, &errs) }()
	select {
	case code := <-done:
		return said{code, out.String(), errs.String()}
	case <-time.After(time.Minute):
		t.Fatalf("glmconv %s still runs after a minute", strings.Join(args, " "))
		return said{}
	}
}

// readers are the commands that read a checkpoint, with the files of it that
// each of them reads.
func readers(dir, tmp string) map[string][]string {
	ids := filepath.Join(tmp, "ids.json")
	return map[string][]string{
		"inspect": {"inspect", dir}, "plan": {"plan", "--scheme", "w8a8", dir}, "check": {"check", dir}, "mtp-remap": {"mtp-remap", "--dry-run", dir},
		"quantize": {"quantize", "--scheme", "w8a8", dir, filepath.Join(tmp, "dst")}, "diff": {"diff", dir, dir},
		"run": {"run", dir, "--prompt", "a", "--max-tokens", "1"}, "chat": {"run", dir, "--chat", "--prompt", "a", "--max-tokens", "1"},
		"logits": {"logits", dir, "--token-ids", ids, "--out", filepath.Join(tmp, "x.safetensors")},
		"verify": {"verify", "--state", "none", "--tokens", "16", dir, dir},
	}
}

// TestHostileFiles puts pipes, sockets' likes, loops, links out of the folder
// and files of a terabyte in the place of each file of a checkpoint: every
// command that reads the file refuses it in one sentence.
func TestHostileFiles(t *testing.T) {
	tmp := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(tmp, "ids.json"), []byte("[[1,2,3]]"), 0o644))
	private := filepath.Join(tmp, "private")
	require.NoError(t, os.WriteFile(private, []byte("{}"), 0o600))
	dir := filepath.Join(tmp, "model")
	require.NoError(t, demo.Extract(dir))
	tampers := map[string]func(path string) error{
		"pipe": func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"loop": func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"out":  func(path string) error { return os.Symlink("../private", path) },
		"terabyte": func(path string) error {
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(1 << 40)
		},
	}
	all := []string{"inspect", "plan", "check", "mtp-remap", "quantize", "diff", "run", "chat", "logits", "verify"}
	for _, c := range []struct {
		file     string
		commands []string
		skip     string // a kind of tampering that is no fault of the file
	}{
		{"config.json", all, ""},
		{"model.safetensors.index.json", all, ""},
		{"model-00001-of-00002.safetensors", all, "terabyte"},
		{"tokenizer.json", []string{"run", "chat", "verify"}, ""},
		{"tokenizer_config.json", []string{"chat"}, ""},
		{"generation_config.json", []string{"run"}, ""},
		{"quant_model_description.json", []string{"check", "inspect", "mtp-remap"}, ""},
		{"LICENSE", []string{"check", "inspect", "quantize", "plan", "diff"}, "pipe terabyte"},
	} {
		path := filepath.Join(dir, c.file)
		keep, err := os.ReadFile(path)
		absent := os.IsNotExist(err)
		for kind, tamper := range tampers {
			if strings.Contains(c.skip, kind) {
				continue
			}
			require.NoError(t, os.RemoveAll(path))
			require.NoError(t, tamper(path))
			lines := readers(dir, tmp)
			for _, name := range c.commands {
				if name == "diff" && kind == "terabyte" {
					continue // it is read: files beside the weights may be of any size
				}
				got := say(t, lines[name]...)
				weights := strings.Contains(c.file, ".safetensors")
				if name == "check" && got.code == exitNegative && weights || name == "inspect" && got.code == exitOK && weights {
					continue // a shard or an index that is none is a finding, or among the problems
				}
				assert.Equal(t, exitBadInput, got.code, "%s with %s as %s: %s%s", name, c.file, kind, got.stdout, got.stderr)
				assert.Equal(t, 1, strings.Count(got.stderr, "glmconv: "), "%s with %s as %s: %s", name, c.file, kind, got.stderr)
			}
			require.NoError(t, os.Remove(path))
		}
		if !absent {
			require.NoError(t, os.WriteFile(path, keep, 0o644))
		}
	}
	for name, line := range readers(dir, tmp) {
		if got := say(t, line...); name != "verify" && name != "chat" { // the model has no template
			assert.Contains(t, []int{exitOK, exitUsage, exitNegative}, got.code, "%s: %s", name, got.stderr)
		}
	}
	entries, err := os.ReadDir(filepath.Join(tmp, "dst"))
	require.NoError(t, err)
	for _, e := range entries {
		assert.NotEqual(t, "LICENSE", e.Name())
	}
}

// TestHostileFlags: files that flags name are regular files.
func TestHostileFlags(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "model")
	require.NoError(t, demo.Extract(dir))
	pipe := filepath.Join(tmp, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	out := filepath.Join(tmp, "x.safetensors")
	for name, c := range map[string]struct {
		code int
		args []string
	}{
		"logits --token-ids": {exitBadInput, []string{"logits", dir, "--token-ids", pipe, "--out", out}},
		"verify --token-ids": {exitBadInput, []string{"verify", dir, dir, "--token-ids", pipe}},
		"verify --text":      {exitBadInput, []string{"verify", dir, dir, "--text", pipe}},
		"run --messages":     {exitUsage, []string{"run", dir, "--chat", "--messages", pipe}},
		"run --tools":        {exitUsage, []string{"run", dir, "--chat", "--prompt", "a", "--tools", pipe}},
	} {
		got := say(t, c.args...)
		assert.Equal(t, c.code, got.code, "%s: %s", name, got.stderr)
		assert.Contains(t, got.stderr, "but a named pipe", name)
	}
}

// TestTokenIDsAreStrict: whole numbers, and nothing after the array.
func TestTokenIDsAreStrict(t *testing.T) {
	for text, good := range map[string]bool{
		"[[1,2],[3]]": true, " [[1]]\n": true,
		"[[1,2]] x": false, "[[1]][[2]]": false, "[[1,null]]": false, "[null]": false, "null": false, "[[1.5]]": false, "[[1e2]]": false, `[["1"]]`: false,
		"[[1,]]": false, "[1,2]": false, "[[01]]": false, "": false, "[[99999999999999999999]]": false, "[[1]],": false,
	} {
		_, err := parseTokenIDs([]byte(text))
		assert.Equal(t, good, err == nil, "%s: %v", text, err)
	}
}

// TestEmptyArgument: an empty path is a mistake of the command line.
func TestEmptyArgument(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, demo.Extract(dir))
	for _, args := range [][]string{{"quantize", "--scheme", "w8a8", dir, ""}, {"quantize", "--scheme", "w8a8", "", dir}, {"check", ""}, {"inspect", ""}, {"verify", dir, ""},
		{"diff", "", dir}, {"run", "", "--prompt", "a"}, {"mtp-remap", ""}, {"plan", "--scheme", "w8a8", ""}} {
		got := say(t, args...)
		assert.Equal(t, exitUsage, got.code, "%v: %s", args, got.stderr)
		assert.Contains(t, got.stderr, "is empty")
	}
}

// TestLongNames: a file whose temporary name would not fit is refused before
// anything is written.
func TestLongNames(t *testing.T) {
	tmp := t.TempDir()
	dir, dst := filepath.Join(tmp, "model"), filepath.Join(tmp, "dst")
	require.NoError(t, demo.Extract(dir))
	name := filepath.Join(dir, strings.Repeat("n", 242))
	require.NoError(t, os.WriteFile(name, nil, 0o644))
	assert.Equal(t, exitOK, say(t, "plan", "--scheme", "w8a8", dir).code)
	require.NoError(t, os.Rename(name, name+"n"))
	for _, args := range [][]string{{"plan", "--scheme", "w8a8", dir}, {"quantize", "--scheme", "w8a8", dir, dst}} {
		got := say(t, args...)
		assert.Equal(t, exitBadInput, got.code, got.stderr)
		assert.Contains(t, got.stderr, "too long")
	}
	assert.NoDirExists(t, dst)
}
