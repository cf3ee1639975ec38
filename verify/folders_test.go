package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/safetensors"
)

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

	for _, c := range []struct {
		name     string
		manifest bool // without it how weights were rounded is found out
	}{{"with the manifest", true}, {"without", false}} {
		t.Run(c.name, func(t *testing.T) {
			if !c.manifest {
				require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
			}
			a, b := testkit.Mount(t, src), testkit.Mount(t, dst)
			r, err := Compare(t.Context(), a.Name(), b.Name(), Options{Tokens: 256, State: t.TempDir()})
			require.NoError(t, err)
			assert.NotZero(t, r.Tokens)
			shards := 0
			for _, s := range []*testkit.Mounted{a, b} {
				for name, n := range s.Opens() {
					if strings.HasSuffix(name, ".safetensors") {
						most := 1
						if s == b && c.manifest {
							most = 2
						}
						assert.LessOrEqual(t, n, most, "%s of %s", name, s.Name())
						shards++
					}
				}
			}
			assert.GreaterOrEqual(t, shards, 2)
		})
	}
}
