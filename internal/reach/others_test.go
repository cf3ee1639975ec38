package reach

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakeazure"
	"github.com/glmconv/glmconv/internal/fakes/fakegcs"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/fakes/fakes3"
	"github.com/glmconv/glmconv/internal/fakes/fakescope"
	"github.com/glmconv/glmconv/internal/fakes/fakeweb"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/source"
)

// server is one of the fakes with the same files.
type server struct {
	rules   *fakes.Rules
	address string
	env     []string
}

func prefixed(prefix string, files map[string][]byte) map[string][]byte {
	out := map[string][]byte{prefix + "deeper/other.json": []byte("{}")}
	for n, b := range files {
		out[prefix+n] = b
	}
	return out
}

func servers(t *testing.T, files map[string][]byte) map[string]server {
	scope := fakescope.New(t, "org/nano", files)
	web := fakeweb.New(t, files)
	s3 := fakes3.New(t, "bucket", prefixed("models/nano/", files))
	s3.Page = 3
	gs := fakegcs.New(t, "bucket", prefixed("models/nano/", files))
	gs.Page = 3
	az := fakeazure.New(t, "models", prefixed("glm/nano/", files))
	az.Page = 3
	return map[string]server{
		"ms":    {scope.Rules, "ms://org/nano", []string{"MODELSCOPE_ENDPOINT=" + scope.URL, "MODELSCOPE_API_TOKEN=glmconv-canary-4711"}},
		"https": {web.Rules, web.URL, nil},
		"s3":    {s3.Rules, "s3://bucket/models/nano", s3.Env()},
		"gs":    {gs.Rules, "gs://bucket/models/nano", gs.Env(t)},
		"az":    {az.Rules, "az://acct/models/glm/nano", az.Env()},
	}
}

// TestEverySourceIsTheLocalCopy: the same result bytes from all kinds of
// addresses, and with every request in turn failing.
func TestEverySourceIsTheLocalCopy(t *testing.T) {
	dir := model(t)
	files, err := fakehub.Folder(dir)
	require.NoError(t, err)
	want := filepath.Join(t.TempDir(), "local")
	require.NoError(t, convertDir(t.Context(), dir, want, layout.W8A8))
	for name, srv := range servers(t, files) {
		t.Run(name, func(t *testing.T) {
			run := func(dst string) error {
				s, err := Open(t.Context(), srv.address, quick(srv.env...))
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
			dst := filepath.Join(t.TempDir(), "clean")
			require.NoError(t, run(dst))
			assertSame(t, want, dst)
			all := srv.rules.Log()
			for _, r := range all {
				if r.Host == "data" {
					assert.Empty(t, r.Auth, "the token went to the data host")
				}
			}
			for _, kind := range []fakes.Fault{fakes.Reset, fakes.Cut, fakes.Down, fakes.Expired, fakes.Whole, fakes.WrongRange, fakes.Stall} {
				for n := 1; n <= len(all); n += 7 {
					srv.rules.Reset()
					srv.rules.Lock()
					srv.rules.Fail = func(r fakes.Request) fakes.Fault {
						if r.N == n {
							return kind
						}
						return fakes.None
					}
					srv.rules.Unlock()
					dst, start := filepath.Join(t.TempDir(), string(kind)+fmt.Sprint(n)), time.Now()
					if err := run(dst); err != nil { // stores and sites refuse what is denied, or say no ranges and no lengths when they are asked
						assert.True(t, kind == fakes.Expired || kind == fakes.Whole || name == "https" && kind == fakes.Stall, "%s of request %d: %v", kind, n, err)
						var own *source.Error
						require.ErrorAs(t, err, &own, "%s of request %d", kind, n)
						assert.NotContains(t, err.Error(), "canary")
						assert.NotContains(t, err.Error(), "Signature")
						assert.NotContains(t, err.Error(), "sig=")
					} else {
						assertSame(t, want, dst)
					}
					assert.Less(t, time.Since(start), 20*time.Second)
				}
			}
		})
	}
}

// TestChangedUnderway: an object that is replaced while it is read is noticed by
// its entity tag.
func TestChangedUnderway(t *testing.T) {
	files, err := fakehub.Folder(model(t))
	require.NoError(t, err)
	shard := "model-00001-of-00002.safetensors"
	changed := append([]byte(nil), files[shard]...)
	changed[len(changed)-1] ^= 1
	web := fakeweb.New(t, files)
	s3 := fakes3.New(t, "bucket", prefixed("", files))
	gs := fakegcs.New(t, "bucket", prefixed("", files))
	az := fakeazure.New(t, "models", prefixed("", files))
	for name, test := range map[string]struct {
		address string
		env     []string
		change  func()
	}{
		"gs":    {"gs://bucket", gs.Env(t), func() { gs.Lock(); gs.Objects[shard] = changed; gs.Unlock() }},
		"az":    {"az://acct/models", az.Env(), func() { az.Lock(); az.Blobs[shard] = changed; az.Unlock() }},
		"https": {web.URL, nil, func() { web.Lock(); web.Files = map[string][]byte{shard: changed}; web.Unlock() }},
		"s3":    {"s3://bucket", s3.Env(), func() { s3.Lock(); s3.Objects[shard] = changed; s3.Unlock() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := mounted(t, test.address, quick(test.env...))
			f, err := s.Open(t.Context(), shard)
			require.NoError(t, err)
			p := make([]byte, 100)
			_, err = f.ReadAt(t.Context(), p[:8], 0)
			require.NoError(t, err)
			test.change()
			_, err = f.ReadAt(t.Context(), p, 100_000)
			require.ErrorIs(t, err, source.ErrChanged)
		})
	}
}

// TestListingMoves: where no commit can be pinned, the listing must be the same
// at the end.
func TestListingMoves(t *testing.T) {
	files, err := fakehub.Folder(model(t))
	require.NoError(t, err)
	scope := fakescope.New(t, "org/nano", files)
	scope.Pad = 3000
	s := mounted(t, "ms://org/nano@v1", quick("MODELSCOPE_ENDPOINT="+scope.URL))
	assert.Equal(t, "ms://org/nano@v1", s.Name())
	require.NoError(t, s.Settle(t.Context()))
	scope.Files["config.json"] = []byte("{}")
	require.ErrorIs(t, s.Settle(t.Context()), source.ErrChanged)
	_, err = Open(t.Context(), "ms://org/other", quick("MODELSCOPE_ENDPOINT="+scope.URL))
	require.ErrorIs(t, err, source.ErrMissing)
}

func TestWebIndexLeadsOut(t *testing.T) {
	web := fakeweb.New(t, map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"../secret.safetensors"}}`)})
	_, err := Open(t.Context(), web.URL, quick())
	require.ErrorIs(t, err, source.ErrRefused)
	assert.Zero(t, web.Count(func(r fakes.Request) bool { return strings.Contains(r.Path, "secret") }))
}

func TestSettleReadsTheRest(t *testing.T) {
	files, err := fakehub.Folder(model(t))
	require.NoError(t, err)
	hub := fakehub.NewFiles(t, "org/nano", files)
	o := quick(hub.Env(t.TempDir())...)
	o.Full = true
	s := mounted(t, "hf://org/nano", o)
	flip := func(on bool) {
		hub.Lock()
		defer hub.Unlock()
		hub.Fail = func(r fakes.Request) fakes.Fault {
			if on && r.Host == "data" {
				return fakes.Flip
			}
			return fakes.None
		}
	}
	flip(true)
	require.ErrorIs(t, s.Settle(t.Context()), source.ErrRefused)
	flip(false)
	require.NoError(t, s.Settle(t.Context()))
	before := len(hub.Log())
	require.NoError(t, s.Settle(t.Context()))
	assert.Len(t, hub.Log(), before, "what was hashed is not read again")
}

// TestFullCheck: every shard is held against the hash that is published of it, be
// it git's; a source that publishes none of a shard is refused before it is read.
func TestFullCheck(t *testing.T) {
	files, err := fakehub.Folder(model(t))
	require.NoError(t, err)
	t.Run("shards in git", func(t *testing.T) {
		hub := fakehub.NewFiles(t, "org/nano", files)
		hub.Plain = true
		o := quick(hub.Env(t.TempDir())...)
		o.Full = true
		s := mounted(t, "hf://org/nano", o)
		assert.Equal(t, "size+etag", s.Checked("model-00001-of-00002.safetensors"))
		flip := func(on bool) {
			hub.Lock()
			defer hub.Unlock()
			hub.Fail = func(r fakes.Request) fakes.Fault {
				if on && strings.Contains(r.Path, "model-00002") {
					return fakes.Flip
				}
				return fakes.None
			}
		}
		flip(true)
		require.ErrorIs(t, s.Settle(t.Context()), source.ErrRefused)
		flip(false)
		require.NoError(t, s.Settle(t.Context()))
		assert.Equal(t, "git-sha1", s.Checked("model-00001-of-00002.safetensors"))
		flip(true)
		o.Full = false
		p := make([]byte, s.byName["model-00002-of-00002.safetensors"].Size)
		again, err := Open(t.Context(), "hf://org/nano", o)
		require.NoError(t, err)
		defer func() { _ = again.Close() }()
		f, err := again.Open(t.Context(), "model-00002-of-00002.safetensors")
		require.NoError(t, err)
		_, err = f.ReadAt(t.Context(), p, 0)
		require.ErrorIs(t, err, source.ErrRefused, "as it passes, too")
	})
	t.Run("no hash", func(t *testing.T) {
		web := fakeweb.New(t, files)
		o := quick()
		o.Full = true
		_, err := Open(t.Context(), web.URL, o)
		require.ErrorIs(t, err, source.ErrAddress)
		assert.ErrorContains(t, err, "no published hash")
		o.Full = false
		_, err = Open(t.Context(), web.URL, o)
		require.NoError(t, err)
	})
	t.Run("off", func(t *testing.T) {
		hub := fakehub.NewFiles(t, "org/nano", files)
		o := quick(hub.Env(t.TempDir())...)
		o.Unchecked = true
		s := mounted(t, "hf://org/nano", o)
		require.NoError(t, convertDir(t.Context(), s.Name(), t.TempDir(), layout.W8A8))
		assert.Equal(t, "size+etag", s.Checked("model-00001-of-00002.safetensors"))
		assert.Equal(t, "git-sha1", s.Checked("config.json"))
	})
}
