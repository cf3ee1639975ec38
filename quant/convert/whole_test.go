package convert

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
)

// thief removes what gets a final name as a shard, as another program might.
type thief struct{ fsx.FS }

func (f thief) Rename(old, new string) error {
	err := f.FS.Rename(old, new)
	if err == nil && strings.HasSuffix(new, ".safetensors") {
		err = os.Remove(new)
	}
	return err
}

// TestWholeRunWithoutItsShards: a run of all shards that ends without some of
// them is no success.
func TestWholeRunWithoutItsShards(t *testing.T) {
	src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
	_, err := convertW8A8(t, src, dst, Options{FS: thief{fsx.OS}})
	var ours *quant.Error
	require.ErrorAs(t, err, &ours)
	assert.ErrorIs(t, err, ErrResultChanged)
	assert.NoFileExists(t, filepath.Join(dst, quant.ManifestName))
	_, err = convertW8A8(t, src, dst, Options{Resume: true})
	require.NoError(t, err)
	assert.Equal(t, fresh(t, src), testkit.FileSums(t, dst))
}

// TestKeptIsTrue: what an error says of the shards that are kept is what is there.
func TestKeptIsTrue(t *testing.T) {
	src := demoModel(t)
	for _, c := range []struct{ op, name, want string }{
		{"mkdir", ".glmconv", "nothing was begun"},
		{"rename", ".safetensors", "no shard was finished"},
		{"create", "config.json", "shards are finished and kept"},
	} {
		dst := filepath.Join(t.TempDir(), "dst")
		_, err := convertW8A8(t, src, dst, Options{FS: &fsx.Faulty{FS: fsx.OS, FailAt: 1, Err: syscall.ENOSPC, Sticky: true,
			Match: func(op, name string) bool { return op == c.op && strings.Contains(name, c.name) }}})
		require.ErrorIs(t, err, syscall.ENOSPC)
		var h interface{ Hint() string }
		require.True(t, errors.As(err, &h))
		assert.Contains(t, h.Hint(), c.want, "%v", c)
	}
}
