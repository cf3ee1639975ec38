package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
)

func TestShowAndStore(t *testing.T) {
	figures := []figure{{Name: "w8a8 ascend", GBps: 2.5, Time: 0.4, Floor: 0.2, Ratio: 2}}
	var b bytes.Buffer
	require.NoError(t, show(&b, figures))
	assert.Regexp(t, `w8a8 ascend +2\.50 +0\.400 +0\.200 +2\.00`, b.String())
	name := filepath.Join(t.TempDir(), "out.json")
	require.NoError(t, store(name, figures))
	raw, err := os.ReadFile(name)
	require.NoError(t, err)
	var got struct {
		Schema  string
		Figures []figure
	}
	require.NoError(t, json.Unmarshal(raw, &got))
	assert.Equal(t, figures, got.Figures)
}

// TestMeasure takes one figure of a small source: every part of the floor takes
// time, and nothing is left behind.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	config, err := os.ReadFile("../../../testdata/configs/nano-glm5.json")
	require.NoError(t, err)
	figures, err := measure(context.Background(), options{source: synth.Options{Config: config}, size: "16MiB", dir: dir, only: "w8a8", runs: 1})
	require.NoError(t, err)
	require.Len(t, figures, 3, "two formats, and a source of FP8 blocks")
	for _, f := range figures {
		for _, v := range []float64{f.Time, f.Floor, f.Read, f.Stream, f.Hash, f.Write, f.Ratio, f.GBps} {
			assert.Positive(t, v, f)
		}
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Equal(t, 10*time.Millisecond, floor{read: 1e6, stream: 2e6, hash: 3e6, write: 4e6}.total())
	assert.Equal(t, 4*time.Millisecond, floor{read: 1e6, stream: 2e6, hash: 3e6, write: 4e6, both: 4e6}.total())
}
