package reach

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/source"
)

// shardOf is a listed shard of one block, and its bytes.
func shardOf(name string, n int) (*file, []byte) {
	data := []byte(strings.Repeat(name, n))[:n]
	sum := sha256.Sum256(data)
	return &file{Entry: source.Entry{Name: name + ".safetensors", Size: int64(n), SHA256: hex.EncodeToString(sum[:])}}, data
}

// TestCacheSize: a cache stays below its size; what was used longest ago goes, and
// nothing that is not the cache's.
func TestCacheSize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with.a.point")
	var warned []string
	k := &cache{dir: dir, warn: func(text string) { warned = append(warned, text) }, size: ceiling{most: 3500}}
	foreign := filepath.Join(dir, "ab", "notes")
	require.NoError(t, os.MkdirAll(filepath.Dir(foreign), 0o755))
	require.NoError(t, os.WriteFile(foreign, make([]byte, 10_000), 0o600))
	there := func(f *file, data []byte) bool { return k.read(f, make([]byte, len(data)), 0) }
	var files []*file
	var bytes [][]byte
	for i, name := range []string{"a", "b", "c"} {
		f, data := shardOf(name, 1000)
		files, bytes = append(files, f), append(bytes, data)
		k.write(f, 0, data)
		whole, _, _ := k.paths(f)
		long := time.Now().Add(time.Duration(i-100) * time.Minute)
		require.NoError(t, os.Chtimes(whole, long, long), "%v", warned)
	}
	got := make([]byte, 1000)
	require.True(t, k.read(files[0], got, 0), "a, the oldest, is used again")
	assert.Equal(t, bytes[0], got)
	d, data := shardOf("d", 1000)
	k.write(d, 0, data)
	assert.True(t, there(d, data))
	assert.True(t, there(files[0], bytes[0]))
	assert.False(t, there(files[1], bytes[1]), "b was used longest ago")
	assert.True(t, there(files[2], bytes[2]))
	assert.FileExists(t, foreign)
	assert.Empty(t, warned)

	big, data := shardOf("e", 3400)
	k.write(big, 0, data)
	assert.True(t, there(big, data))
	all, _ := k.list()
	assert.Len(t, all, 1, "everything else had to go")
}

// TestCacheSizeParts: files in parts stay while somebody may go on with them.
func TestCacheSizeParts(t *testing.T) {
	var warned []string
	k := &cache{dir: t.TempDir(), warn: func(text string) { warned = append(warned, text) }, size: ceiling{most: blockSize * 3 / 2}}
	part := &file{Entry: source.Entry{Name: "part.safetensors", Size: 3 * blockSize, SHA256: strings.Repeat("ab", 32)}}
	block := make([]byte, blockSize)
	k.write(part, 1, block)
	_, path, have := k.paths(part)
	require.FileExists(t, have, "%v", warned)
	f, data := shardOf("f", 2*blockSize-1)
	k.write(f, 0, data[:blockSize])
	assert.False(t, k.read(f, make([]byte, 1), 0), "no room beside the part and what may come of it")
	assert.Len(t, warned, 1)
	k.write(f, 0, data[:blockSize])
	assert.Len(t, warned, 1, "said once")
	long := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(path, long, long))
	require.NoError(t, os.Chtimes(have, long, long))
	small, data := shardOf("s", 100) // tells the time of the cache
	k.size.most *= 4
	k.write(small, 0, data)
	require.True(t, k.read(small, make([]byte, 100), 0))
	k.size.most /= 4
	f, data = shardOf("f", 2*blockSize-1)
	k.write(f, 0, data[:blockSize])
	assert.True(t, k.read(f, make([]byte, 1), 0), "the part that nobody has written to for two hours is gone")
	assert.NoFileExists(t, path)
	assert.NoFileExists(t, have)
}

// TestCacheSizeOfAConversion: the result is the same, and a ceiling below a shard is
// refused.
func TestCacheSizeOfAConversion(t *testing.T) {
	dir := model(t)
	hub := fakehub.New(t, "org/nano", dir)
	want := filepath.Join(t.TempDir(), "local")
	require.NoError(t, convertDir(t.Context(), dir, want, layout.W8A8))
	o := quick(hub.Env(t.TempDir())...)
	o.Cache, o.CacheSize = t.TempDir(), 100
	_, err := Open(t.Context(), "hf://org/nano", o)
	require.ErrorIs(t, err, source.ErrAddress)
	assert.Contains(t, err.Error(), "--cache-size")

	most := int64(0)
	for name, data := range hub.Files {
		if isShard(name) {
			most = max(most, int64(len(data)))
		}
	}
	o.CacheSize = most + blockSize
	s := mounted(t, "hf://org/nano", o)
	dst := filepath.Join(t.TempDir(), "dst")
	require.NoError(t, convertDir(t.Context(), s.Name(), dst, layout.W8A8))
	assertSame(t, want, dst)
	var used int64
	all, _ := s.cache.list()
	for _, x := range all {
		used += x.bytes
	}
	assert.LessOrEqual(t, used, o.CacheSize)
}
