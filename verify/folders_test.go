package verify

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// openings is a folder that counts how often its files are opened.
type openings struct {
	name, dir string

	mu    sync.Mutex
	opens map[string]int
}

func (c *openings) Name() string           { return c.name }
func (c *openings) Pinned() (string, bool) { return "", false }

func (c *openings) List(context.Context) (out []source.Entry, err error) {
	entries, err := os.ReadDir(c.dir)
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, source.Entry{Name: e.Name(), Size: st.Size(), Version: "1"})
	}
	return out, err
}

func (c *openings) Open(_ context.Context, name string) (source.File, error) {
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens[name]++
	return source.Bytes(source.Entry{Name: name, Size: int64(len(b)), Version: "1"}, b), err
}

func (c *openings) ReadSmall(_ context.Context, name string, _ int64) ([]byte, error) {
	return os.ReadFile(filepath.Join(c.dir, name))
}

// TestFoldersAreOpenedOnce: whatever a comparison looks at, the shards of source
// and result are opened once, and those of the result once more for their hashes.
func TestFoldersAreOpenedOnce(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), demo.Name), filepath.Join(t.TempDir(), "result")
	require.NoError(t, demo.Extract(src))
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	p, err := quant.NewPlan(c, quant.W8A8, "", quant.Options{})
	require.NoError(t, err)
	_, err = convert.Run(t.Context(), p, c, dst, convert.Options{})
	require.NoError(t, err)

	for _, manifest := range []bool{true, false} {
		if !manifest { // how weights were rounded is then found out
			require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
		}
		a := &openings{name: "mem://test/source", dir: src, opens: map[string]int{}}
		b := &openings{name: "mem://test/result", dir: dst, opens: map[string]int{}}
		var unmounts []func()
		for _, s := range []source.Source{a, b} {
			unmount, err := source.Mount(t.Context(), s)
			require.NoError(t, err)
			unmounts = append(unmounts, unmount)
		}
		r, err := Compare(t.Context(), a.name, b.name, Options{Tokens: 256, State: t.TempDir()})
		for _, unmount := range unmounts {
			unmount()
		}
		require.NoError(t, err)
		assert.NotZero(t, r.Tokens)
		shards := 0
		for _, s := range []*openings{a, b} {
			for name, n := range s.opens {
				if strings.HasSuffix(name, ".safetensors") {
					most := 1
					if s == b && manifest {
						most = 2
					}
					assert.LessOrEqual(t, n, most, "%s of %s", name, s.name)
					shards++
				}
			}
		}
		assert.GreaterOrEqual(t, shards, 2)
	}
}
