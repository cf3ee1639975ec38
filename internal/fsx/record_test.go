package fsx

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRecordedCrashes cuts WriteFile at every change with many losses: the file
// is the old or the new one, and the new one once WriteFile has returned.
func TestRecordedCrashes(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	text := string(make([]byte, 4000)) + "new"
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
	r, err := Record(root)
	require.NoError(t, err)
	require.NoError(t, WriteFile(r, path, []byte(text)))
	seen := map[string]bool{}
	for n := 0; n <= r.Len(); n++ {
		for seed := range uint64(40) {
			require.NoError(t, r.Crash(n, seed))
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			seen[string(b)] = true
			if n == r.Len() {
				require.Equal(t, text, string(b))
			}
		}
	}
	assert.Len(t, seen, 2, "old and new, nothing between")
}

// TestRecordedLosses: what is not synced does get lost and torn, names without
// each other too. A check of this kind of disk would otherwise prove nothing.
func TestRecordedLosses(t *testing.T) {
	root := t.TempDir()
	r, err := Record(root)
	require.NoError(t, err)
	for _, name := range []string{"a", "b"} {
		f, err := r.Create(filepath.Join(root, name))
		require.NoError(t, err)
		_, err = f.Write([]byte(string(make([]byte, 600)) + "text"))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	require.NoError(t, r.MkdirAll(filepath.Join(root, "deep", "er")))
	require.NoError(t, r.SyncDir(filepath.Join(root, "deep")))
	seen := map[string]bool{}
	for seed := range uint64(1000) {
		require.NoError(t, r.Crash(r.Len(), seed))
		var what string
		for _, name := range []string{"a", "b"} {
			b, err := os.ReadFile(filepath.Join(root, name))
			switch {
			case err != nil:
				what += "-"
			case len(b) == 604:
				what += "w"
			case len(b) == 512:
				what += "t"
			case len(b) == 0:
				what += "0"
			}
		}
		if _, err := os.Stat(filepath.Join(root, "deep", "er")); err == nil {
			what += "d"
		}
		seen[what] = true
	}
	for _, want := range []string{"--", "ww", "w-", "-w", "0-", "t-", "wwd", "--d"} {
		assert.Contains(t, seen, want)
	}
}

// TestRecordedOrderMatters: a rename without the sync before it may leave an
// empty file under the final name, which is what the sync is for.
func TestRecordedOrderMatters(t *testing.T) {
	root := t.TempDir()
	r, err := Record(root)
	require.NoError(t, err)
	f, err := CreateTemp(r, filepath.Join(root, "f"))
	require.NoError(t, err)
	_, err = f.Write([]byte("text"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, r.Rename(f.Name(), filepath.Join(root, "f")))
	require.NoError(t, r.SyncDir(root))
	require.NoError(t, r.Crash(r.Len(), 1))
	b, err := os.ReadFile(filepath.Join(root, "f"))
	require.NoError(t, err)
	assert.Empty(t, b)
}
