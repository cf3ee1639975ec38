package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
)

// TestRun takes every figure once; the figures themselves are not judged.
func TestRun(t *testing.T) {
	config, err := os.ReadFile("../../../testdata/configs/nano-glm4moe.json")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "verify.json")
	require.NoError(t, run(t.Context(), options{source: synth.Options{Config: config, MTP: synth.MTPNone}, bytes: 1 << 40, memory: 256 << 20, tokens: 140,
		runs: 1, dir: t.TempDir(), json: file}, io.Discard))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var f figure
	require.NoError(t, json.Unmarshal(text, &f))
	assert.Positive(t, f.Bytes)
	assert.Positive(t, f.Verify)
	assert.Positive(t, f.Read)
	assert.Positive(t, f.Compute)
	assert.Positive(t, f.Passes)
	assert.Positive(t, f.ToOnce)
	assert.Positive(t, f.Ratio)
}

func TestTokens(t *testing.T) {
	out := tokens(300)
	require.Len(t, out, 3)
	assert.Len(t, out[0], 128)
	assert.Len(t, out[2], 44)
}
