package safetensors

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

func TestPoolKeepsTheLastUsed(t *testing.T) {
	dir := t.TempDir()
	opened := 0
	p := newPool(2, func(name string) (fsx.Input, error) {
		opened++
		return os.Open(filepath.Join(dir, name))
	})
	for _, name := range []string{"a", "b", "c"} {
		putFile(t, dir, name, nil)
	}
	ok := func(fsx.Input) error { return nil }
	use := func(name string) *handle {
		h, err := p.acquire(name, ok)
		require.NoError(t, err)
		return h
	}
	held := func() []string { return slices.Sorted(maps.Keys(p.m)) }
	for _, name := range []string{"a", "b", "a", "c"} {
		p.release(use(name))
	}
	assert.Equal(t, []string{"a", "c"}, held(), "b was unused longest")
	assert.Equal(t, 3, opened)

	a, c, b := use("a"), use("c"), use("b")
	assert.Len(t, p.m, 3, "files in use are not closed")
	p.release(b)
	assert.Equal(t, []string{"a", "c"}, held())
	p.close()
	require.NoError(t, statErr(a.file), "closed only by its last user")
	p.release(a)
	require.Error(t, statErr(a.file))
	p.release(c)
	assert.Empty(t, p.m)
	_, err := p.acquire("a", ok)
	require.ErrorIs(t, err, os.ErrClosed)
}

func statErr(f fsx.Input) error { _, err := f.Stat(); return err }

// TestCheckSame: each of inode, size and time alone gives a change away.
func TestCheckSame(t *testing.T) {
	stamp := time.Unix(1_700_000_000, 0)
	for name, change := range map[string]func(t *testing.T, path string){
		"other file": func(t *testing.T, path string) {
			other := putFile(t, filepath.Dir(path), "other", shardOf("z"))
			require.NoError(t, os.Chtimes(other, stamp, stamp))
			require.NoError(t, os.Rename(other, path))
		},
		"other time": func(t *testing.T, path string) { require.NoError(t, os.Chtimes(path, stamp, stamp.Add(time.Second))) },
		"other size": func(t *testing.T, path string) {
			require.NoError(t, os.Truncate(path, 5000))
			require.NoError(t, os.Chtimes(path, stamp, stamp))
		},
		"": func(*testing.T, string) {},
	} {
		dir := t.TempDir()
		path := putFile(t, dir, SingleName, shardOf("c"))
		require.NoError(t, os.Chtimes(path, stamp, stamp))
		c, err := OpenDir(dir)
		require.NoError(t, err)
		c.pool.drop(c.pool.m[SingleName])
		change(t, path)
		err = c.ReadRows("c", 0, 2, make([]byte, 2))
		if name == "" {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrChanged, name)
		}
		require.NoError(t, c.Close())
	}
}
