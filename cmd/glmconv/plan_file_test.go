package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestPartsBeginWithAPlanFile: parts that have one ask the hub for no commit, no
// listing and no header, and write what one run writes; a file that does not fit
// is refused before anything is written.
func TestPartsBeginWithAPlanFile(t *testing.T) {
	hub, local := hubOf(t)
	dir := t.TempDir()
	const address = "hf://org/nano"
	plan, whole, parts := filepath.Join(dir, "plan"), filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	code, _, errs := glmconv(t, "plan", "--scheme", "w8a8", "--save", plan, address)
	require.Zero(t, code, errs)
	st, err := os.Stat(plan)
	require.NoError(t, err)
	assert.Less(t, st.Size(), int64(1<<20))
	code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", local, whole)
	require.Zero(t, code, errs)

	before := len(hub.Log())
	for _, i := range []string{"2", "1"} {
		code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", "--plan", plan, "--resume", "--index", i, "--count", "2", address, parts)
		require.Zero(t, code, errs)
		assert.Contains(t, errs, "at commit "+hub.Commit)
	}
	for _, r := range hub.Log()[before:] {
		assert.False(t, strings.HasPrefix(r.Path, "/api/"), "%s is asked for again", r.Path)
		assert.False(t, strings.HasSuffix(r.Path, "/config.json") || strings.HasSuffix(r.Path, ".index.json"), "%s is asked for again", r.Path)
		assert.NotEqual(t, "bytes=0-32767", r.Range, "a header is read again")
	}
	x, y := testkit.Result(t, whole), testkit.Result(t, parts)
	require.Len(t, y, len(x))
	for n := range x {
		assert.True(t, x[n] == y[n], "%s differs", n)
	}

	raw, err := os.ReadFile(plan)
	require.NoError(t, err)
	file := func(name string, raw []byte) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, raw, 0o600))
		return name
	}
	flipped := bytes.Clone(raw)
	flipped[len(flipped)/2] ^= 1
	ofFolder := filepath.Join(dir, "folder")
	code, _, errs = glmconv(t, "plan", "--scheme", "w8a8", "--save", ofFolder, local)
	require.Zero(t, code, errs)
	for name, tc := range map[string]struct {
		plan, scheme, src string
		says              string
	}{
		"another scheme":   {plan, "fp8", address, "another plan"},
		"another commit":   {plan, "w8a8", address + "@" + strings.Repeat("1", 40), "not the commit"},
		"another model":    {plan, "w8a8", "hf://org/other", "not what the plan file was made of"},
		"flipped":          {file("flipped", flipped), "w8a8", address, "plan"},
		"cut":              {file("cut", raw[:len(raw)/2]), "w8a8", address, "damaged"},
		"no plan":          {filepath.Join(local, "config.json"), "w8a8", address, "no file of glmconv plan --save"},
		"of a folder":      {ofFolder, "w8a8", address, "made of a folder"},
		"of other headers": {ofFolder, "fp8", local, "another plan"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "dst")
			code, _, errs := glmconv(t, "quantize", "--scheme", tc.scheme, "--plan", tc.plan, tc.src, dst)
			assert.Equal(t, exitBadInput, code, errs)
			assert.Contains(t, errs, tc.says)
			assert.NoDirExists(t, dst)
		})
	}
	code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", "--plan", ofFolder, local, filepath.Join(dir, "again"))
	assert.Zero(t, code, errs)
}

// TestSubmitWithAPlanFile: every part gets it, and one that does not fit fails
// before a job is printed.
func TestSubmitWithAPlanFile(t *testing.T) {
	_, local := hubOf(t)
	plan := filepath.Join(t.TempDir(), "plan")
	code, _, errs := glmconv(t, "plan", "--scheme", "w8a8", "--save", plan, local)
	require.Zero(t, code, errs)
	code, out, errs := glmconv(t, "submit", "slurm", "--parts", "2", "--plan", plan, "--", "quantize", "--scheme", "w8a8", local, "/dst")
	require.Zero(t, code, errs)
	assert.Contains(t, out, "--plan "+plan)
	code, out, _ = glmconv(t, "submit", "slurm", "--parts", "2", "--plan", plan, "--", "quantize", "--scheme", "fp8", local, "/dst")
	assert.Equal(t, exitBadInput, code)
	assert.Empty(t, out)
}
