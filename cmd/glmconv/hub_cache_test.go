package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/testkit"
)

// cacheOf lays a folder out as the hub's own client keeps it, and returns the
// folder of the snapshot.
func cacheOf(t *testing.T, root, local, commit string) string {
	files, err := fakehub.Folder(local)
	require.NoError(t, err)
	repository := filepath.Join(root, "models--org--nano")
	snapshot := filepath.Join(repository, "snapshots", commit)
	for _, dir := range []string{snapshot, filepath.Join(repository, "blobs"), filepath.Join(repository, "refs")} {
		require.NoError(t, os.MkdirAll(dir, 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(repository, "refs", "main"), []byte(commit), 0o600))
	for name, data := range files {
		sum := sha256.Sum256(data)
		blob := hex.EncodeToString(sum[:])
		require.NoError(t, os.WriteFile(filepath.Join(repository, "blobs", blob), data, 0o600))
		require.NoError(t, os.Symlink("../../blobs/"+blob, filepath.Join(snapshot, name)))
	}
	return snapshot
}

// TestHubCache: what the hub's client has downloaded is read without a network,
// by hf-cache:// and, offline, by hf://, with the bytes of a local copy; what is
// not there is named.
func TestHubCache(t *testing.T) {
	hub, local := hubOf(t)
	root := filepath.Join(t.TempDir(), "hub")
	t.Setenv("HF_HUB_CACHE", root)
	commit := strings.Repeat("ab", 20)
	snapshot := cacheOf(t, root, local, commit)
	dir := t.TempDir()
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", local, filepath.Join(dir, "local"))
	require.Zero(t, code, errs)
	want, err := fakehub.Folder(filepath.Join(dir, "local"))
	require.NoError(t, err)
	for name, args := range map[string][]string{
		"cache":  {"hf-cache://org/nano"},
		"commit": {"hf-cache://org/nano@" + commit},
		"hub":    {"--offline", "hf://org/nano@main"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(dir, name)
			code, _, errs := glmconv(t, append(append([]string{"quantize", "--scheme", "w8a8"}, args...), dst)...)
			require.Zero(t, code, errs)
			assert.Contains(t, errs, "at commit "+commit+" from the hub's cache")
			got, err := fakehub.Folder(dst)
			require.NoError(t, err)
			require.Len(t, got, len(want))
			for n := range want {
				assert.True(t, bytes.Equal(want[n], got[n]), "%s differs", n)
			}
			code, _, errs = glmconv(t, append([]string{"inspect"}, args...)...)
			assert.Zero(t, code, errs)
			code, _, errs = glmconv(t, append([]string{"verify", "--skip-forward"}, append(args, dst)...)...)
			assert.Zero(t, code, errs)
		})
	}
	shards, err := filepath.Glob(filepath.Join(snapshot, "*.safetensors"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(shards[0]))
	for says, args := range map[string][]string{
		filepath.Base(shards[0]):          {"inspect", "hf-cache://org/nano"},
		"at revision v2":                  {"inspect", "hf-cache://org/nano@v2"},
		"hf download org/absent":          {"plan", "--scheme", "w8a8", "--offline", "hf://org/absent"},
		"at commit " + commit[:38] + "00": {"inspect", "hf-cache://org/nano@" + commit[:38] + "00"},
	} {
		code, _, errs := glmconv(t, args...)
		assert.Equal(t, exitIO, code, errs)
		assert.Contains(t, errs, says)
	}
	assert.Empty(t, hub.Log(), "no network")
}

// TestOfflineFromACache: what --cache has kept is read without a network: headers
// after headers were read, everything after a conversion.
func TestOfflineFromACache(t *testing.T) {
	hub, _ := hubOf(t)
	t.Setenv("HF_HUB_CACHE", filepath.Join(t.TempDir(), "hub"))
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	offline := func(args ...string) (code int, out, errs string) {
		hub.Reset()
		code, out, errs = glmconv(t, append(args, "--offline", "--cache", cache)...)
		assert.Empty(t, hub.Log(), "no network")
		assert.NotContains(t, errs, canary)
		return code, out, errs
	}
	code, _, errs := offline("plan", "--scheme", "w8a8", "hf://org/nano")
	assert.Equal(t, exitIO, code, errs)
	assert.Contains(t, errs, "hf download org/nano")
	code, want, errs := glmconv(t, "plan", "--scheme", "w8a8", "--cache", cache, "hf://org/nano")
	require.Zero(t, code, errs)
	code, out, errs := offline("plan", "--scheme", "w8a8", "hf://org/nano")
	require.Zero(t, code, errs)
	assert.Equal(t, want, out)
	assert.Contains(t, errs, "at commit "+hub.Commit)
	code, out, errs = offline("plan", "--scheme", "w8a8", "hf://org/nano@"+hub.Commit)
	require.Zero(t, code, errs)
	assert.Equal(t, want, out)
	code, _, errs = offline("quantize", "--scheme", "w8a8", "hf://org/nano", filepath.Join(dir, "early"))
	assert.Equal(t, exitIO, code, errs)
	assert.Contains(t, errs, ".safetensors")

	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", "--cache", cache, "hf://org/nano", first)
	require.Zero(t, code, errs)
	code, _, errs = offline("quantize", "--scheme", "w8a8", "--source-check", "full", "hf://org/nano", second)
	require.Zero(t, code, errs)
	x, y := testkit.Files(t, first), testkit.Files(t, second)
	require.Equal(t, len(x), len(y))
	for n := range x {
		assert.True(t, x[n] == y[n], "%s differs", n)
	}
	code, _, errs = offline("verify", "--skip-forward", "hf://org/nano", second)
	assert.Zero(t, code, errs)
	code, _, errs = offline("check", "hf://org/nano")
	assert.Zero(t, code, errs)
}

// TestDamagedHeaderInACache: a header that came damaged, and can be no header, ends
// the run and stays in no cache: the same command works once the server is mended.
func TestDamagedHeaderInACache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "served")
	require.NoError(t, demo.Extract(dir))
	hub := fakehub.NewDir(t, "org/nano", dir, true)
	for _, e := range hub.Env(t.TempDir()) {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	shards, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	require.NoError(t, err)
	raw, err := os.ReadFile(shards[0])
	require.NoError(t, err)
	for name, at := range map[string]int{"its length": 5, "its text": 9} {
		t.Run(name, func(t *testing.T) {
			cache, damaged := t.TempDir(), bytes.Clone(raw)
			damaged[at] ^= 0x80
			require.NoError(t, os.WriteFile(shards[0], damaged, 0o600))
			plan := []string{"plan", "--scheme", "w8a8", "--cache", cache, "hf://org/nano"}
			code, _, errs := glmconv(t, plan...)
			assert.Equal(t, exitBadInput, code, errs)
			assert.Contains(t, errs, filepath.Base(shards[0]))
			require.NoError(t, os.WriteFile(shards[0], raw, 0o600))
			code, _, errs = glmconv(t, plan...)
			assert.Zero(t, code, errs)
		})
	}
}
