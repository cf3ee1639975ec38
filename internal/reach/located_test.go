package reach

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// TestHubExpiry: addresses that live for a second are renewed, once for all
// connections and not more often than they end.
func TestHubExpiry(t *testing.T) {
	p, err := synth.NewPlan(synth.Options{Preset: "glm-4.7-flash", Layers: 1, Experts: 2, Vocab: 512, Seed: 3, ShardBytes: 32 << 20})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "source")
	require.NoError(t, p.Write(t.Context(), dir))
	hub := fakehub.NewDir(t, "org/some", dir, true)
	hub.Life = time.Second
	hub.Total = p.Bytes / 4
	if os.Getenv("GLMCONV_TORTURE") != "" {
		hub.Total = p.Bytes / 20
	}
	s := mounted(t, "hf://org/some", quick(hub.Env(t.TempDir())...))
	want, dst := filepath.Join(t.TempDir(), "local"), filepath.Join(t.TempDir(), "dst")
	require.NoError(t, convertDir(t.Context(), dir, want, layout.W8A8))
	start := time.Now()
	require.NoError(t, convertDir(t.Context(), s.Name(), dst, layout.W8A8))
	took := time.Since(start)
	assertSame(t, want, dst)
	most, all := 0, 0
	for _, f := range s.files {
		n := hub.Count(func(r fakes.Request) bool { return strings.HasSuffix(r.Path, "/resolve/"+hub.Commit+"/"+f.Name) })
		most, all = max(most, n), all+n
	}
	t.Logf("%.0f MB in %v: %d resolves, %d of one shard", float64(p.Bytes)/1e6, took.Round(time.Millisecond), all, most)
	assert.Greater(t, all, len(s.files), "addresses ended")
	assert.LessOrEqual(t, most, 1+int(time.Since(start).Seconds()), "one for each second")
}

// TestHubResolvesOnce: connections that need the address of a shard at the same time
// ask for it once, and an address that is refused to all of them counts once.
func TestHubResolvesOnce(t *testing.T) {
	hub := fakehub.New(t, "org/nano", model(t))
	hub.Latency = 20 * time.Millisecond
	refused := map[string]bool{} // the first address of each shard
	hub.Fail = func(r fakes.Request) fakes.Fault {
		if r.Host == "data" && (refused[r.Query] || len(refused) == 0) {
			refused[r.Query] = true
			return fakes.Expired
		}
		return fakes.None
	}
	s := mounted(t, "hf://org/nano", quick(hub.Env(t.TempDir())...))
	var shard *file
	for _, f := range s.files {
		if isShard(f.Name) {
			shard = f
		}
	}
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 8 {
		g.Go(func() error { return s.small(ctx, shard, make([]byte, 100), int64(1000*i)) })
	}
	require.NoError(t, g.Wait())
	assert.Equal(t, 2, hub.Count(func(r fakes.Request) bool { return strings.HasSuffix(r.Path, "/"+shard.Name) && r.Host == "hub" }), "one address that is refused, and the one after it")
}

// TestEveryFlippedBit: a shard that is served with one other bit, wherever it is, ends
// the conversion with the shard's name. GLMCONV_TORTURE tries twenty times as many.
func TestEveryFlippedBit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "served")
	require.NoError(t, demo.Extract(dir))
	hub := fakehub.NewDir(t, "org/nano", dir, true)
	shards, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	require.NoError(t, err)
	tries := 20
	if os.Getenv("GLMCONV_TORTURE") != "" {
		tries = 400
	}
	r := rand.New(rand.NewPCG(7, 8))
	for n := range tries {
		path := shards[r.IntN(len(shards))]
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		at := r.IntN(len(raw))
		if n%4 == 0 { // the header
			at = r.IntN(4000)
		}
		damaged := slices.Clone(raw)
		damaged[at] ^= 1 << r.IntN(8)
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		dst := filepath.Join(t.TempDir(), "dst")
		err = func() error {
			o := quick(hub.Env(t.TempDir())...)
			o.Full = true
			s, err := Open(t.Context(), "hf://org/nano", o)
			require.NoError(t, err)
			defer func() { _ = s.Close() }()
			unmount, err := source.Mount(t.Context(), s)
			require.NoError(t, err)
			defer unmount()
			return convertDir(t.Context(), s.Name(), dst, layout.W8A8)
		}()
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		require.Error(t, err, "%s, byte %d", filepath.Base(path), at)
		assert.Contains(t, err.Error(), filepath.Base(path), "byte %d", at)
		var bad *safetensors.Error
		assert.True(t, errors.Is(err, source.ErrRefused) || errors.As(err, &bad), "byte %d: %v", at, err)
		assert.NoFileExists(t, filepath.Join(dst, "glmconv-manifest.json"))
	}
}
