package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/verify"
)

// result converts the built-in model.
func result(t *testing.T) (dir string) {
	local := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(local))
	dir = filepath.Join(t.TempDir(), "result")
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", local, dir)
	require.Zero(t, code, errs)
	return dir
}

// client puts a program named hf on PATH, which says what it was called with.
func client(t *testing.T, code int) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: a shell script stands in for hf, which Windows does not run")
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nfor a; do echo \"[$a]\"; done\nexit %d\n", code)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hf"), []byte(script), 0o755)) //nolint:gosec // a program
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// proofOf writes a verdict of a result.
func proofOf(t *testing.T, dir string, change func(*verify.Result)) string {
	r := verify.Result{Schema: verify.Schema, Verdict: verify.Pass, Tokens: 480, Tol: 0.02}
	r.KL.Mean, r.KL.Upper95 = 0.01234, 0.015
	r.Identity.Scheme, r.Identity.Format, r.Identity.Result = "w8a8", "ascend", dir
	change(&r)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "verdict.json")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}

func TestPush(t *testing.T) {
	dir := result(t)
	readme := filepath.Join(dir, "README.md")
	code, out, errs := glmconv(t, "push", dir, "hf://org/name")
	require.Zero(t, code, errs)
	assert.Equal(t, "hf upload org/name "+dir+" . --exclude '.glmconv*'\n", out)
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	assert.Contains(t, string(text), "Not measured")
	assert.NotContains(t, string(text), dir, "names of this machine stay here")
	require.NoError(t, os.Remove(readme))

	client(t, 0)
	proof := proofOf(t, dir, func(*verify.Result) {})
	code, out, errs = glmconv(t, "push", "--run", "--private", "--pr", "--base", "zai-org/GLM-5", "--verify", proof, dir, "hf://org/name@v1")
	require.Zero(t, code, errs)
	assert.Equal(t, "[upload] [org/name] ["+dir+"] [.] [--exclude] [.glmconv*] [--revision] [v1] [--private] [--create-pr]",
		strings.Join(strings.Split(strings.TrimSpace(out), "\n")[1:], " "))
	text, err = os.ReadFile(readme)
	require.NoError(t, err)
	for _, want := range []string{"base_model: zai-org/GLM-5", "0.01234", "glmconv quantize --scheme w8a8 --format ascend --mtp ", " hf://zai-org/GLM-5 DST", "480 positions"} {
		assert.Contains(t, string(text), want)
	}
	require.NoError(t, os.WriteFile(readme, []byte("mine"), 0o600))
	code, _, errs = glmconv(t, "push", dir, "hf://org/name")
	require.Zero(t, code, errs)
	assert.Contains(t, errs, "stays as it is")
	text, err = os.ReadFile(readme)
	require.NoError(t, err)
	assert.Equal(t, "mine", string(text))
	code, _, errs = glmconv(t, "check", dir)
	assert.Zero(t, code, "a card beside the result: %s", errs)

	client(t, 1)
	code, _, errs = glmconv(t, "push", "--run", dir, "hf://org/name")
	assert.Equal(t, exitIO, code)
	assert.Contains(t, errs, "hf upload failed")
}

func TestPushRefuses(t *testing.T) {
	dir := result(t)
	t.Setenv("PATH", t.TempDir())
	unfinished := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(unfinished, ".glmconv"), 0o750))
	damaged := result(t)
	shards, err := filepath.Glob(filepath.Join(damaged, "*.safetensors"))
	require.NoError(t, err)
	raw, err := os.ReadFile(shards[0])
	require.NoError(t, err)
	raw[len(raw)-5] ^= 1
	require.NoError(t, os.WriteFile(shards[0], raw, 0o600))
	failed := proofOf(t, dir, func(r *verify.Result) { r.Verdict = verify.Fail })
	other := proofOf(t, dir, func(r *verify.Result) { r.Identity.Scheme = "w4a8" })
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no hub", []string{dir, "s3://bucket/x"}, 2, "not the address of a repository"},
		{"a folder of one", []string{dir, "hf://org/name/sub"}, 2, "not the address of a repository"},
		{"no repository", []string{dir}, 2, "needs DIR and hf://"},
		{"a remote result", []string{"hf://org/name", "hf://org/name"}, 2, "local disk"},
		{"base", []string{"--base", "x", dir, "hf://org/name"}, 2, "--base must be"},
		{"unfinished", []string{unfinished, "hf://org/name"}, 65, "not finished"},
		{"no result", []string{t.TempDir(), "hf://org/name"}, 65, "no glmconv-manifest.json"},
		{"damaged", []string{damaged, "hf://org/name"}, 1, ""},
		{"failed", []string{"--verify", failed, dir, "hf://org/name"}, 65, "did not pass"},
		{"of another scheme", []string{"--verify", other, dir, "hf://org/name"}, 65, "is of a result in w4a8"},
		{"no client", []string{"--run", dir, "hf://org/name"}, 2, "pip install huggingface_hub"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, errs := glmconv(t, append([]string{"push"}, test.args...)...)
			assert.Equal(t, test.code, code, errs)
			assert.Contains(t, errs, test.says)
			if test.name != "no client" {
				assert.NotContains(t, out, "hf upload")
			}
		})
	}
}
