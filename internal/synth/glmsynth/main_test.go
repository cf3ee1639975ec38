package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

func TestRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	var stdout bytes.Buffer
	// A flag behind the directory counts as well.
	args := []string{"--preset", "glm-5.2", "--layers", "4", "--experts", "8", dir, "--sparse", "--v5", "--fused", "--shard-size", "1GiB"}
	require.NoError(t, run(context.Background(), args, &stdout, io.Discard))
	assert.Contains(t, stdout.String(), "glm_moe_dsa, 4 layers (1 MTP), 8 experts")
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	cp, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer cp.Close()
	m, err := glm.Describe(cfg, cp.Tensors())
	require.NoError(t, err)
	assert.Empty(t, m.Missing)
	assert.Greater(t, len(cp.Files()), 2)

	assert.Error(t, run(context.Background(), args, io.Discard, io.Discard), "the directory is not empty")
	assert.ErrorIs(t, run(context.Background(), []string{"--sparse"}, io.Discard, io.Discard), errUsage)
	assert.ErrorIs(t, run(context.Background(), []string{"a", "b"}, io.Discard, io.Discard), errUsage)
	assert.ErrorIs(t, run(context.Background(), []string{"--help"}, io.Discard, io.Discard), flag.ErrHelp)
	for _, bad := range [][]string{{"--dtype", "F7", dir}, {"--shard-size", "x", dir}, {"--config", "/nowhere", dir}, {"--nonsense", dir}} {
		assert.Error(t, run(context.Background(), bad, io.Discard, io.Discard), bad)
	}
}
