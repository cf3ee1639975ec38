package reach

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// TestCacheOffline: what a cache has read it gives again without a network, and asks
// nobody; what it has not is named.
func TestCacheOffline(t *testing.T) {
	dir := model(t)
	want := filepath.Join(t.TempDir(), "local")
	require.NoError(t, convertDir(t.Context(), dir, want, layout.W8A8))
	hub := fakehub.New(t, "org/nano", dir)
	files, err := fakehub.Folder(dir)
	require.NoError(t, err)
	all := servers(t, files)
	all["hf"] = server{hub.Rules, "hf://org/nano", hub.Env(t.TempDir())}
	for name, test := range all {
		t.Run(name, func(t *testing.T) {
			o := quick(test.env...)
			o.Cache = t.TempDir()
			headers := func(o Options) error { // as plan does
				s, err := Open(t.Context(), test.address, o)
				if err != nil {
					return err
				}
				defer func() { _ = s.Close() }()
				unmount, err := source.Mount(t.Context(), s)
				require.NoError(t, err)
				defer unmount()
				c, err := safetensors.OpenDir(s.Name())
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = quant.NewPlan(c, layout.W8A8, "", quant.Options{})
				return err
			}
			offline := o
			offline.Offline = true
			require.ErrorIs(t, headers(offline), source.ErrOffline, "nothing was read yet")
			require.NoError(t, headers(o))
			var warned []string
			offline.Warn = func(text string) { warned = append(warned, text) }
			asked := len(test.rules.Log())
			require.NoError(t, headers(offline))
			assert.Equal(t, name != "hf", len(warned) == 1, "a listing that nobody has asked for again is said: %v", warned)

			convert := func(o Options) (string, error) {
				s, err := Open(t.Context(), test.address, o)
				require.NoError(t, err)
				defer func() { _ = s.Close() }()
				unmount, err := source.Mount(t.Context(), s)
				require.NoError(t, err)
				defer unmount()
				dst := filepath.Join(t.TempDir(), "dst")
				return dst, convertDir(t.Context(), s.Name(), dst, layout.W8A8)
			}
			_, err := convert(offline)
			require.ErrorIs(t, err, source.ErrOffline, "weights were not read yet")
			assert.Contains(t, err.Error(), ".safetensors")
			assert.Len(t, test.rules.Log(), asked, "nobody is asked")
			_, err = convert(o)
			require.NoError(t, err)
			asked = len(test.rules.Log())
			dst, err := convert(offline)
			require.NoError(t, err)
			assertSame(t, want, dst)
			assert.Len(t, test.rules.Log(), asked, "nobody is asked")

			require.NoError(t, filepath.WalkDir(filepath.Join(o.Cache, "sources"), func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				raw, err := os.ReadFile(path)
				require.NoError(t, err)
				raw[len(raw)-1] ^= 1
				return os.WriteFile(path, raw, 0o600)
			}))
			assert.ErrorIs(t, headers(offline), source.ErrOffline, "a damaged listing is none")
			_, err = convert(o)
			assert.NoError(t, err, "and is written anew")
			assert.NoError(t, headers(offline))
		})
	}
}

// TestCacheLeftovers: what a killed process has begun goes, what another writes stays;
// who may read blocks may read what says what they are.
func TestCacheLeftovers(t *testing.T) {
	hub := fakehub.New(t, "org/nano", model(t))
	o := quick(hub.Env(t.TempDir())...)
	o.Cache = t.TempDir()
	dir := filepath.Join(o.Cache, "sources")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	old, young := filepath.Join(dir, newPrefix+"old"), filepath.Join(dir, newPrefix+"young")
	for _, path := range []string{old, young} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	long := time.Now().Add(-2 * abandoned)
	require.NoError(t, os.Chtimes(old, long, long))
	s, err := Open(t.Context(), "hf://org/nano", o)
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	assert.NoFileExists(t, old)
	assert.FileExists(t, young)
	st, err := os.Stat(filepath.Join(dir, o.listed(address{scheme: "hf", id: "org/nano"})))
	require.NoError(t, err)
	plain := filepath.Join(t.TempDir(), "plain")
	f, err := os.OpenFile(plain, os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	want, err := os.Stat(plain)
	require.NoError(t, err)
	assert.Equal(t, want.Mode(), st.Mode())
}
