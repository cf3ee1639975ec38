package reach

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/fakes/fakehub"
)

// TestBlocksOnce: several files that are read in order at the same time, in pieces
// that are no blocks, are fetched hardly more than once.
func TestBlocksOnce(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "c"} {
		path := filepath.Join(dir, n+".safetensors")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Truncate(path, 60<<20))
	}
	hub := fakehub.NewDir(t, "org/big", dir, true)
	for _, connections := range []int{8} {
		hub.Reset()
		o := quick(hub.Env(t.TempDir())...)
		o.Connections = connections
		s, err := Open(t.Context(), "hf://org/big", o)
		require.NoError(t, err)
		var g errgroup.Group
		for _, n := range []string{"a", "b", "c"} {
			g.Go(func() error {
				f, err := s.Open(t.Context(), n+".safetensors")
				if err != nil {
					return err
				}
				p := make([]byte, 3<<20)
				for off := int64(16); off < f.Entry().Size; off += int64(len(p)) {
					if _, err := f.ReadAt(t.Context(), p[:min(int64(len(p)), f.Entry().Size-off)], off); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		require.NoError(t, s.Close())
		assert.Less(t, float64(hub.Sent()), 1.35*180*(1<<20), "%d connections: but for what the first file had fetched ahead when the others came", connections)
		t.Logf("%d connections: %.2f of the bytes", connections, float64(hub.Sent())/(180<<20))
	}
}
