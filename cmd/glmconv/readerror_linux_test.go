package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadErrorInThePass: a read that the system refuses while the models run
// ends verify as failed I/O, not as bad input, and names the file.
func TestReadErrorInThePass(t *testing.T) {
	src, dst := demoPair(t)
	shards, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	require.Len(t, shards, 1)
	dir, err := os.Open(dst)
	require.NoError(t, err)
	defer dir.Close()
	_, err = compareDamaged(t, src, dst, func() {
		// The open shard becomes an open directory, which cannot be read.
		open, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		hit := 0
		for _, e := range open {
			fd, err := strconv.Atoi(e.Name())
			require.NoError(t, err)
			if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); to == shards[0] {
				require.NoError(t, syscall.Dup3(int(dir.Fd()), fd, syscall.O_CLOEXEC))
				hit++
			}
		}
		require.Positive(t, hit)
	})
	require.ErrorIs(t, err, syscall.EISDIR)
	var out bytes.Buffer
	assert.Equal(t, exitIO, report(&out, err))
	assert.Regexp(t, `^glmconv: .*/result/quant_model_weights-00001-of-00001.safetensors: `, out.String())
	t.Log(out.String())
}
