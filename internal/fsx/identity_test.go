package fsx

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestIdentity: bytes that change under a modification time that was put back
// change the identity all the same, and so does another file of that name.
func TestIdentity(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: change times and inodes are read on Linux alone")
	}
	path := filepath.Join(t.TempDir(), "f")
	of := func() Identity {
		st, err := os.Stat(path)
		require.NoError(t, err)
		return IdentityOf(st)
	}
	require.NoError(t, os.WriteFile(path, []byte("one"), 0o644))
	first := of()
	assert.Equal(t, first, of())
	time.Sleep(20 * time.Millisecond) // the clock of a file system may tick that slowly
	require.NoError(t, os.WriteFile(path, []byte("two"), 0o644))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(0, first.Mtime)))
	second := of()
	assert.Equal(t, first.Mtime, second.Mtime)
	assert.NotEqual(t, first, second)
	require.NoError(t, WriteFile(OS, path, []byte("two")))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(0, first.Mtime)))
	assert.NotEqual(t, second.Number, of().Number)
}
