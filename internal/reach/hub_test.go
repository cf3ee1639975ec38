package reach

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// model extracts the built-in checkpoint.
func model(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(dir))
	return dir
}

// quick are options with short waits, and no environment but that given.
func quick(env ...string) Options {
	vars := map[string]string{}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		vars[k] = v
	}
	return Options{Getenv: func(k string) string { return vars[k] }, RetryFor: 3 * time.Second, stall: 300 * time.Millisecond, backoff: 5 * time.Millisecond, allowed: 50 * time.Millisecond}
}

// mounted opens and mounts an address for the length of a test.
func mounted(t *testing.T, address string, o Options) *Source {
	s, err := Open(t.Context(), address, o)
	require.NoError(t, err)
	unmount, err := source.Mount(t.Context(), s)
	require.NoError(t, err)
	t.Cleanup(func() { unmount(); _ = s.Close() })
	return s
}

// convertDir makes a result of a source and returns its files.
func convertDir(ctx context.Context, src, dst string, scheme layout.Scheme) error {
	c, err := safetensors.OpenDir(src)
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := quant.NewPlan(c, scheme, "", quant.Options{})
	if err != nil {
		return err
	}
	_, err = convert.Run(ctx, p, c, dst, convert.Options{})
	return err
}

func assertSame(t *testing.T, a, b string) {
	t.Helper()
	x, y := testkit.Result(t, a), testkit.Result(t, b)
	require.Equal(t, len(x), len(y))
	for n := range x {
		assert.True(t, x[n] == y[n], "%s differs", n)
	}
}

func TestHubIsTheLocalCopy(t *testing.T) {
	dir := model(t)
	hub := fakehub.New(t, "org/nano", dir)
	hub.Page, hub.Mirror, hub.Token = 3, true, "glmconv-canary-token"
	local := filepath.Join(t.TempDir(), "local")
	require.NoError(t, convertDir(t.Context(), dir, local, layout.W8A8))
	s := mounted(t, "hf://org/nano", quick(hub.Env(t.TempDir())...))
	assert.Equal(t, "hf://org/nano@"+hub.Commit, s.Name())
	remote := filepath.Join(t.TempDir(), "remote")
	require.NoError(t, convertDir(t.Context(), s.Name(), remote, layout.W8A8))
	assertSame(t, local, remote)
	m, err := quant.ReadManifest(local)
	require.NoError(t, err)
	assert.Nil(t, m.Source)
	m, err = quant.ReadManifest(remote)
	require.NoError(t, err)
	require.NotNil(t, m.Source)
	assert.Equal(t, s.Name(), m.Source.URI)
	assert.Equal(t, hub.Commit, m.Source.Commit)
	assert.True(t, m.Source.Pinned)
	for _, f := range m.Source.Files {
		assert.Len(t, hub.Files[f.Name], int(f.Size))
		if want := "git-sha1"; isShard(f.Name) {
			want = "sha256"
			assert.Equal(t, hub.SHA256(f.Name), f.SHA256)
			assert.Equal(t, want, f.Check, f.Name)
		} else {
			assert.Equal(t, want, f.Check, f.Name)
		}
	}
	assert.Zero(t, hub.Count(func(r fakes.Request) bool { return r.Host == "data" && r.Auth != "" }), "the token went to the data host")
	assert.NotZero(t, hub.Count(func(r fakes.Request) bool { return r.Host == "hub" && r.Auth != "" }))
	for _, f := range s.files {
		if isShard(f.Name) {
			require.NotNil(t, f.hash, f.Name)
			assert.Equal(t, f.SHA256, f.hash.result, "read whole, so it was hashed")
		}
	}
}

// TestHubHeaders: headers take two requests a shard, and no block of data.
func TestHubHeaders(t *testing.T) {
	hub := fakehub.New(t, "org/nano", model(t))
	s := mounted(t, "hf://org/nano", quick(hub.Env(t.TempDir())...))
	c, err := safetensors.OpenDir(s.Name())
	require.NoError(t, err)
	defer c.Close()
	_, err = quant.NewPlan(c, layout.W4A8, "", quant.Options{})
	require.NoError(t, err)
	shards := len(c.Files())
	heads := hub.Count(func(r fakes.Request) bool { return strings.HasPrefix(r.Range, "bytes=0-") })
	assert.LessOrEqual(t, heads, 2*shards)
	assert.Less(t, s.Traffic().Bytes, int64(2<<20), "of 4 MB of weights")
}

// TestForgottenHeadersAreFetchedAgain: a source that has forgotten its headers is
// the same when it is opened again.
func TestForgottenHeadersAreFetchedAgain(t *testing.T) {
	hub := fakehub.NewDir(t, "org/nano", model(t), false)
	s := mounted(t, "hf://org/nano", quick(hub.Env(t.TempDir())...))
	heads := func() (n int) {
		saved, err := s.Save(t.Context())
		require.NoError(t, err)
		for _, f := range saved.Files {
			n += len(f.Head)
		}
		return n
	}
	open := func() []safetensors.Info {
		c, err := safetensors.OpenDir(s.Name())
		require.NoError(t, err)
		defer c.Close()
		return c.Tensors()
	}
	want := open()
	require.NotZero(t, heads())
	s.Forget()
	require.Zero(t, heads())
	require.Equal(t, want, open())
	require.NotZero(t, heads())
}

// TestHubFaults: whichever request fails how, the result has the right bytes or
// there is none.
func TestHubFaults(t *testing.T) {
	dir := model(t)
	hub := fakehub.New(t, "org/nano", dir)
	want := filepath.Join(t.TempDir(), "local")
	require.NoError(t, convertDir(t.Context(), dir, want, layout.W8A8))
	env := hub.Env(t.TempDir())
	run := func(dst string) error {
		s, err := Open(t.Context(), "hf://org/nano", quick(env...))
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		unmount, err := source.Mount(t.Context(), s)
		if err != nil {
			return err
		}
		defer unmount()
		return convertDir(t.Context(), s.Name(), dst, layout.W8A8)
	}
	require.NoError(t, run(filepath.Join(t.TempDir(), "clean")))
	all := len(hub.Log())
	for _, kind := range []fakes.Fault{fakes.Reset, fakes.Cut, fakes.TooMany, fakes.Down, fakes.Expired, fakes.Whole, fakes.WrongRange, fakes.Stall} {
		t.Run(string(kind), func(t *testing.T) {
			step := 1
			if os.Getenv("GLMCONV_TORTURE") == "" && (testing.Short() || kind == fakes.TooMany || kind == fakes.Stall) {
				step = 4 // which wait
			}
			for n := 1; n <= all; n += step {
				hub.Reset()
				hub.Lock()
				hub.Fail = func(r fakes.Request) fakes.Fault {
					if r.N == n {
						return kind
					}
					return fakes.None
				}
				hub.Unlock()
				dst := filepath.Join(t.TempDir(), fmt.Sprint(n))
				start := time.Now()
				require.NoError(t, run(dst), "request %d", n) // one fault is got over, whichever it is
				assertSame(t, want, dst)
				assert.Less(t, time.Since(start), 20*time.Second, "request %d", n)
			}
		})
	}
}

func TestHubErrors(t *testing.T) {
	dir, wrong := model(t), filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(wrong, []byte("wrong"), 0o600))
	for _, test := range []struct {
		name, address string
		set           func(*fakehub.Hub)
		option        func(*Options)
		kind          error
		says          string
	}{
		{"no repository", "hf://org/other", nil, nil, source.ErrMissing, "not found, or private"},
		{"no revision", "hf://org/nano@v2", nil, nil, source.ErrMissing, "no such revision"},
		{"gated", "hf://org/nano", func(h *fakehub.Hub) { h.Gated = true }, nil, source.ErrDenied, "approval"},
		{"private", "hf://org/nano", func(h *fakehub.Hub) { h.Token = "right" }, func(o *Options) { o.TokenFile = wrong }, source.ErrMissing, "private"},
		{"no file with a token", "hf://org/nano", nil, func(o *Options) { o.TokenFile = "absent" }, source.ErrAddress, "absent"},
		{"offline", "hf://org/nano", nil, func(o *Options) { o.Offline = true }, source.ErrOffline, "switched off"},
		{"login page", "hf://org/nano", func(h *fakehub.Hub) { h.Fail = func(fakes.Request) fakes.Fault { return fakes.HTML } }, nil, source.ErrRefused, "web page"},
		{"down for good", "hf://org/nano", func(h *fakehub.Hub) { h.Fail = func(fakes.Request) fakes.Fault { return fakes.Down } },
			func(o *Options) { o.RetryFor = 50 * time.Millisecond }, source.ErrBusy, "503"},
		{"resets for good", "hf://org/nano", func(h *fakehub.Hub) { h.Fail = func(fakes.Request) fakes.Fault { return fakes.Reset } },
			func(o *Options) { o.RetryFor = 50 * time.Millisecond }, source.ErrNetwork, "tries"},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := fakehub.New(t, "org/nano", dir)
			if test.set != nil {
				test.set(hub)
			}
			o := quick(hub.Env(t.TempDir())...)
			if test.option != nil {
				test.option(&o)
			}
			_, err := Open(t.Context(), test.address, o)
			require.ErrorIs(t, err, test.kind)
			assert.Contains(t, err.Error(), test.says)
			assert.NotContains(t, err.Error(), "Signature")
		})
	}
}

// TestHubFlippedBit: bytes that are not the published ones end in an error that
// names the shard, and nothing that was made of them stays.
func TestHubFlippedBit(t *testing.T) {
	hub := fakehub.New(t, "org/nano", model(t))
	hub.Fail = func(r fakes.Request) fakes.Fault {
		if r.Host == "data" && !strings.HasPrefix(r.Range, "bytes=0-32767") {
			return fakes.Flip
		}
		return fakes.None
	}
	s := mounted(t, "hf://org/nano", quick(hub.Env(t.TempDir())...))
	dst := filepath.Join(t.TempDir(), "dst")
	err := convertDir(t.Context(), s.Name(), dst, layout.W8A8)
	require.ErrorIs(t, err, source.ErrRefused)
	assert.Contains(t, err.Error(), ".safetensors")
	entries, err := os.ReadDir(dst)
	require.NoError(t, err)
	for _, e := range entries {
		assert.False(t, strings.HasSuffix(e.Name(), ".safetensors"), "%s was kept", e.Name())
	}
}

func TestCancelEndsAHangingRead(t *testing.T) {
	hub := fakehub.New(t, "org/nano", model(t))
	s, err := Open(t.Context(), "hf://org/nano", quick(hub.Env(t.TempDir())...))
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	hub.Lock()
	hub.Fail = func(fakes.Request) fakes.Fault { return fakes.Stall }
	hub.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = s.ReadSmall(ctx, "config.json", 1<<20)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 2*time.Second)
}
