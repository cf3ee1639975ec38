package reach

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/fakes/fakes3"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

const target = "s3://bucket/out/nano"

// intoBucket converts a folder into a bucket, in small parts.
func intoBucket(ctx context.Context, src string, o Options, how convert.Options, force bool) (*convert.Result, error) {
	c, err := safetensors.OpenDir(src)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p, err := quant.NewPlan(c, layout.W8A8, "", quant.Options{})
	if err != nil {
		return nil, err
	}
	b, err := OpenBucket(ctx, target, o, BucketOptions{Fingerprint: p.Fingerprint, Once: []string{".glmconv/plan", quant.ManifestName}, Force: force, part: 100_000})
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }()
	how.FS = b
	return convert.Run(ctx, p, c, b.Name(), how)
}

// emptyStore is a store that takes small parts.
func emptyStore(t *testing.T) *fakes3.Store {
	s := fakes3.New(t, "bucket", nil)
	s.MinPart = 1
	return s
}

// assertResult compares a bucket with a folder of the same result.
func assertResult(t *testing.T, want string, s *fakes3.Store) {
	t.Helper()
	files, err := fakehub.Folder(want)
	require.NoError(t, err)
	s.Lock()
	defer s.Unlock()
	assert.Len(t, s.Objects, len(files))
	for n, b := range files {
		assert.True(t, string(b) == string(s.Objects["out/nano/"+n]), "%s differs", n)
	}
	assert.Empty(t, s.Uploads, "uploads are left over")
}

// neverHalf watches what can be listed: nothing but whole files of a result.
func neverHalf(t *testing.T, want string, s *fakes3.Store) (stop func()) {
	files, err := fakehub.Folder(want)
	require.NoError(t, err)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-quit:
				return
			case <-time.After(time.Millisecond):
			}
			s.Lock()
			for k, b := range s.Objects {
				name := strings.TrimPrefix(k, "out/nano/")
				if !strings.HasPrefix(name, ".glmconv/") && string(files[name]) != string(b) {
					t.Errorf("%s is listed with other bytes than it has at the end", k)
				}
			}
			s.Unlock()
		}
	})
	return func() { close(quit); wg.Wait() }
}

func localResult(t *testing.T) (src, want string) {
	src, want = model(t), filepath.Join(t.TempDir(), "local")
	require.NoError(t, convertDir(t.Context(), src, want, layout.W8A8))
	return src, want
}

func TestBucketHoldsTheLocalResult(t *testing.T) {
	src, want := localResult(t)
	s := emptyStore(t)
	stop := neverHalf(t, want, s)
	res, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{}, false)
	stop()
	require.NoError(t, err)
	assert.Empty(t, res.Pending)
	assertResult(t, want, s)
	writes := s.Log()
	last := writes[len(writes)-1]
	for _, r := range writes {
		if r.Method == "PUT" && strings.HasSuffix(r.Path, quant.ManifestName) {
			last = r
		}
	}
	for _, r := range writes {
		if (r.Method == "PUT" || r.Method == "POST") && r.N > last.N {
			t.Errorf("%s %s comes after the manifest", r.Method, r.Path)
		}
	}
	res, err = intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{}, false)
	require.NoError(t, err)
	assert.True(t, res.AlreadyDone)
	mount := mounted(t, target, quick(s.Env()...))
	m, err := quant.ReadManifest(mount.Name())
	require.NoError(t, err)
	assert.NotEmpty(t, m.Files)
}

// TestBucketFaults fails each request of a conversion in turn, once and for good.
// Once ends in the same result; for good in an error, after which a resumed run
// ends in the same result.
func TestBucketFaults(t *testing.T) {
	src, want := localResult(t)
	clean := emptyStore(t)
	_, err := intoBucket(t.Context(), src, quick(clean.Env()...), convert.Options{Workers: 1}, false)
	require.NoError(t, err)
	all := len(clean.Log())
	require.Greater(t, all, 40)
	kinds := []fakes.Fault{fakes.Reset, fakes.Down, fakes.TooMany, fakes.Lost, fakes.Flip, fakes.Whole, fakes.Expired}
	for i, kind := range kinds {
		for n := 1 + i; n <= all; n += 3 * len(kinds) { // all numbers in turn, in steps that meet every kind of request
			for _, ever := range []bool{false, true} {
				if ever && kind != fakes.Reset && kind != fakes.Expired {
					continue
				}
				t.Run(fmt.Sprintf("%s of request %d, ever %v", kind, n, ever), func(t *testing.T) {
					s := emptyStore(t)
					s.Fail = func(r fakes.Request) fakes.Fault {
						if kind == fakes.Flip && r.Method != "PUT" { // what is read has no hash in a bucket
							return fakes.None
						}
						if r.N == n || ever && r.N > n {
							return kind
						}
						return fakes.None
					}
					o := quick(s.Env()...)
					o.RetryFor = 50 * time.Millisecond
					if !ever {
						o.RetryFor = 3 * time.Second
					}
					start := time.Now()
					_, err := intoBucket(t.Context(), src, o, convert.Options{}, false)
					assert.Less(t, time.Since(start), 8*time.Second)
					if !ever && kind != fakes.Expired && kind != fakes.Flip {
						require.NoError(t, err)
					}
					if err != nil {
						var own *source.Error
						require.ErrorAs(t, err, &own)
						assert.NotContains(t, err.Error(), "canary")
						s.Lock()
						s.Fail = nil
						s.Unlock()
						_, err = intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{Resume: true}, false)
						require.NoError(t, err)
					}
					assertResult(t, want, s)
				})
			}
		}
	}
}

// TestBucketStopped ends conversions by their context at any moment: the uploads
// are aborted, and a resumed run completes the result.
func TestBucketStopped(t *testing.T) {
	src, want := localResult(t)
	for n := 3; n < 60; n += 9 {
		s := emptyStore(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.Fail = func(r fakes.Request) fakes.Fault {
			if r.N == n {
				cancel()
			}
			return fakes.None
		}
		_, err := intoBucket(ctx, src, quick(s.Env()...), convert.Options{}, false)
		cancel()
		require.ErrorIs(t, err, context.Canceled)
		s.Lock()
		s.Fail = nil
		s.Unlock()
		_, err = intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{Resume: true}, false)
		require.NoError(t, err)
		assertResult(t, want, s)
	}
}

func TestBucketParts(t *testing.T) {
	src, want := localResult(t)
	s := emptyStore(t)
	stop := neverHalf(t, want, s)
	var wg sync.WaitGroup
	for _, part := range []int{1, 2, 2, 1} { // each twice, as two machines that know nothing of each other
		wg.Go(func() {
			_, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{Index: part, Count: 2, Resume: true}, true)
			if err != nil { // the other one was done with it
				var own *source.Error
				assert.ErrorAs(t, err, &own)
				assert.Equal(t, source.ErrBusy, own.Kind, err)
			}
		})
	}
	wg.Wait()
	stop()
	for part := 1; part <= 2; part++ { // none, one or the other found something to do
		_, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{Index: part, Count: 2, Resume: true}, true)
		require.NoError(t, err)
	}
	assertResult(t, want, s)
}

// TestUploadsOfOthers: what another process is at is not touched without being
// told to, what is long dead is.
func TestUploadsOfOthers(t *testing.T) {
	src, want := localResult(t)
	const shard = "out/nano/quant_model_weights-00001-of-00001.safetensors"
	hour := func(h time.Duration) *fakes3.Upload {
		at := time.Now().Add(-h).UTC()
		return &fakes3.Upload{Key: shard, Initiated: at, Parts: map[int]fakes3.Part{1: {Data: []byte("x"), Modified: at}}}
	}
	files, err := fakehub.Folder(want)
	require.NoError(t, err)
	require.Contains(t, files, filepath.Base(shard))
	for name, test := range map[string]struct {
		age    time.Duration
		resume bool
		force  bool
		busy   bool
	}{
		"at work":                 {time.Minute, false, false, true},
		"at work, forced":         {time.Minute, false, true, false},
		"at work, resumed":        {time.Minute, true, false, false},
		"silent for half an hour": {30 * time.Minute, false, false, false},
		"dead":                    {2 * time.Hour, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := emptyStore(t)
			s.Uploads["other"] = hour(test.age)
			s.Uploads["foreign"] = &fakes3.Upload{Key: "elsewhere/x.safetensors", Initiated: time.Now(), Parts: map[int]fakes3.Part{}}
			_, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{Resume: test.resume}, test.force)
			if test.busy {
				require.ErrorIs(t, err, convert.ErrBusy)
				assert.Contains(t, s.Uploads, "other")
				return
			}
			require.NoError(t, err)
			assert.Contains(t, s.Uploads, "foreign")
			delete(s.Uploads, "foreign")
			assertResult(t, want, s)
		})
	}
}

func TestBucketsThatAreRefused(t *testing.T) {
	src, _ := localResult(t)
	t.Run("not empty", func(t *testing.T) {
		s := emptyStore(t)
		s.Objects["out/nano/mine.txt"] = []byte("x")
		_, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{}, false)
		require.ErrorIs(t, err, convert.ErrDestination)
		assert.Len(t, s.Objects, 1)
	})
	t.Run("other plan", func(t *testing.T) {
		s := emptyStore(t)
		s.Objects["out/nano/.glmconv/plan"] = []byte("another\n")
		_, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{Resume: true}, false)
		require.ErrorIs(t, err, convert.ErrDestination)
	})
	t.Run("no bucket", func(t *testing.T) {
		s := fakes3.New(t, "another", nil)
		_, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{}, false)
		require.ErrorIs(t, err, source.ErrMissing)
	})
	t.Run("parts without conditional writes", func(t *testing.T) {
		s := emptyStore(t)
		s.Unconditional = true
		_, err := intoBucket(t.Context(), src, quick(s.Env()...), convert.Options{Index: 1, Count: 2}, false)
		require.ErrorIs(t, err, convert.ErrPart)
		var warned string
		o := quick(s.Env()...)
		o.Warn = func(text string) { warned = text }
		_, err = intoBucket(t.Context(), src, o, convert.Options{Resume: true}, false)
		require.NoError(t, err)
		assert.Contains(t, warned, "only one process")
	})
	t.Run("the source", func(t *testing.T) {
		files, err := fakehub.Folder(src)
		require.NoError(t, err)
		s := fakes3.New(t, "bucket", prefixed("out/nano/", files))
		m := mounted(t, target, quick(s.Env()...))
		_, err = intoBucket(t.Context(), m.Name(), quick(s.Env()...), convert.Options{}, false)
		require.ErrorIs(t, err, convert.ErrDestination)
	})
}

func TestPartSizes(t *testing.T) {
	assert.EqualValues(t, 16<<20, partOf(5<<30, partSize))
	assert.EqualValues(t, 16<<20, partOf(9500*(16<<20), partSize))
	for _, size := range []int64{160 << 30, 1 << 40, 5 << 40} {
		p := partOf(size, partSize)
		assert.LessOrEqual(t, (size+p-1)/p, int64(maxParts))
		assert.Zero(t, p%(1<<20))
	}
}

// TestBucketPaths: keys come of paths whose double slash is gone, and of no path
// outside.
func TestBucketPaths(t *testing.T) {
	s := emptyStore(t)
	b, err := OpenBucket(t.Context(), target, quick(s.Env()...), BucketOptions{})
	require.NoError(t, err)
	for path, key := range map[string]string{target: "out/nano/", "s3:/bucket/out/nano/x": "out/nano/x", target + "/.glmconv/plan": "out/nano/.glmconv/plan"} {
		got, err := b.key(path)
		require.NoError(t, err)
		assert.Equal(t, key, got)
	}
	for _, path := range []string{"s3://bucket/out", "s3://other/out/nano/x", target + "/../x", "/etc/passwd"} {
		_, err := b.key(path)
		require.ErrorIs(t, err, fs.ErrInvalid, path)
	}
}
