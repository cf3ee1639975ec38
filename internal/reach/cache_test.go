package reach

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/source"
)

// TestCache: what was fetched once is not asked for again, what is damaged in the
// cache is found and fetched anew, and a cache that cannot be written is no error.
func TestCache(t *testing.T) {
	dir := model(t)
	hub := fakehub.New(t, "org/nano", dir)
	want := filepath.Join(t.TempDir(), "local")
	require.NoError(t, convertDir(t.Context(), dir, want, layout.W8A8))
	kept := t.TempDir()
	run := func(cache string, warn func(string)) (dst string, err error) {
		o := quick(hub.Env(t.TempDir())...)
		o.Cache, o.Warn = cache, warn
		s, err := Open(t.Context(), "hf://org/nano", o)
		require.NoError(t, err)
		defer func() { _ = s.Close() }()
		unmount, err := source.Mount(t.Context(), s)
		require.NoError(t, err)
		defer unmount()
		dst = filepath.Join(t.TempDir(), "dst")
		return dst, convertDir(t.Context(), s.Name(), dst, layout.W8A8)
	}
	blocks := func() int { // requests for data, not headers
		return hub.Count(func(r fakes.Request) bool { return r.Host == "data" && !strings.HasSuffix(r.Range, "-32767") })
	}
	shards := func() (out []string) {
		require.NoError(t, filepath.WalkDir(kept, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && filepath.Base(filepath.Dir(path)) != "sources" {
				out = append(out, path)
			}
			return err
		}))
		return out
	}
	dst, err := run(kept, nil)
	require.NoError(t, err)
	assertSame(t, want, dst)
	assert.NotZero(t, blocks())
	require.Len(t, shards(), 2, "each shard under its hash, and nothing else")
	for _, path := range shards() {
		sum, err := hashOf(path)
		require.NoError(t, err)
		assert.Equal(t, filepath.Base(path), sum)
	}

	hub.Reset()
	dst, err = run(kept, nil)
	require.NoError(t, err)
	assertSame(t, want, dst)
	assert.Zero(t, blocks())

	raw, err := os.ReadFile(shards()[0])
	require.NoError(t, err)
	raw[len(raw)/2] ^= 1
	require.NoError(t, os.WriteFile(shards()[0], raw, 0o600))
	_, err = run(kept, nil)
	require.ErrorIs(t, err, source.ErrRefused, "a poisoned file has another hash")
	dst, err = run(kept, nil)
	require.NoError(t, err, "and is gone")
	assertSame(t, want, dst)

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var warned []string
	dst, err = run(file, func(text string) { warned = append(warned, text) })
	require.NoError(t, err)
	assertSame(t, want, dst)
	assert.Len(t, warned, 1)
}
