package reach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/glmconv/glmconv/source"
)

// store reads one prefix of a bucket.
type store struct {
	c        *client
	core     *minio.Core
	bucket   string
	endpoint *url.URL
}

func openStore(ctx context.Context, c *client, a address) (*Source, error) {
	if c.o.Offline {
		return nil, &source.Error{Kind: source.ErrOffline, Where: "s3://" + a.id, Reason: "is needed, and the network is switched off"}
	}
	s := &store{c: c, bucket: a.id}
	if err := s.connect(a); err != nil {
		return nil, err
	}
	prefix := ""
	if a.sub != "" {
		prefix = a.sub + "/"
	}
	return openPrefix(ctx, s, strings.TrimSuffix("s3://"+a.id+"/"+a.sub, "/"), prefix)
}

// openPrefix lists what is below a prefix.
func openPrefix(ctx context.Context, s *store, name, prefix string) (*Source, error) {
	c := s.c
	t := c.trial(name)
	for {
		files, err := s.list(ctx, prefix)
		if err == nil {
			if len(files) == 0 {
				return nil, &source.Error{Kind: source.ErrMissing, Where: name, Reason: "holds no file"}
			}
			return newSource(ctx, c, s, name, files)
		}
		if err := t.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// connect reads the environment as the tools of AWS do.
func (s *store) connect(a address) error {
	o := &s.c.o
	s.endpoint = &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}
	style, region := minio.BucketLookupAuto, o.first("AWS_REGION", "AWS_DEFAULT_REGION")
	if e := o.first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"); e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return &source.Error{Kind: source.ErrAddress, Where: "AWS_ENDPOINT_URL", Reason: "is not an address"}
		}
		s.endpoint, style = u, minio.BucketLookupPath
		if region == "" {
			region = "us-east-1" // what stores of other makers take
		}
	}
	core, err := minio.NewCore(s.endpoint.Host, &minio.Options{
		Creds: s.credentials(a), Secure: s.endpoint.Scheme == "https", Transport: &counted{s.c}, Region: region,
		BucketLookup: style, MaxRetries: 1,
	})
	if err != nil {
		return &source.Error{Kind: source.ErrAddress, Where: "s3://" + s.bucket, Reason: "cannot be read with these settings", Err: err}
	}
	core.SetAppInfo("glmconv", o.Version)
	s.core = core
	return nil
}

// credentials: the environment, then the shared file, then web identity,
// containers and instances, which a laptop must not wait for.
func (s *store) credentials(a address) *credentials.Credentials {
	o := &s.c.o
	if a.query.Get("anonymous") == "1" || o.Getenv("AWS_NO_SIGN_REQUEST") == "1" {
		return credentials.NewStaticV4("", "", "")
	}
	if id, key := o.first("AWS_ACCESS_KEY_ID"), o.first("AWS_SECRET_ACCESS_KEY"); id != "" && key != "" {
		return credentials.NewStaticV4(id, key, o.first("AWS_SESSION_TOKEN"))
	}
	providers := []credentials.Provider{&credentials.FileAWSCredentials{Filename: o.first("AWS_SHARED_CREDENTIALS_FILE"), Profile: o.first("AWS_PROFILE")}}
	if o.first("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI") != "" || onInstance() {
		providers = append(providers, &credentials.IAM{Client: &http.Client{Timeout: 2 * time.Second}})
	}
	return credentials.NewChainCredentials(providers)
}

// onInstance reports whether this looks like a machine of EC2, by its firmware.
func onInstance() bool {
	b, err := os.ReadFile(filepath.FromSlash("/sys/class/dmi/id/sys_vendor"))
	return err == nil && strings.HasPrefix(string(b), "Amazon")
}

// pagesKey leads to the count of pages of a listing, in its requests.
type pagesKey struct{}

// errEndless ends a listing whose pages hold nothing.
var errEndless = errors.New("the listing has no end")

func (s *store) list(ctx context.Context, prefix string) (files []*file, err error) {
	ctx, cancel := context.WithCancel(context.WithValue(ctx, pagesKey{}, new(atomic.Int64)))
	defer cancel()
	seen := map[string]bool{}
	for o := range s.core.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, s.failed(o.Err, s.bucket)
		}
		if seen[o.Key] && !strings.HasSuffix(o.Key, "/") || len(seen) > maxListed {
			return nil, &source.Error{Kind: source.ErrRefused, Where: "s3://" + s.bucket + "/" + prefix, Reason: "has a listing without an end, or one that is too long"}
		}
		seen[o.Key] = true
		name := strings.TrimPrefix(o.Key, prefix)
		if !flat(name) {
			continue
		}
		files = append(files, &file{path: o.Key, etag: strings.Trim(o.ETag, `"`), Entry: source.Entry{Name: name, Size: o.Size, Version: o.ETag}})
	}
	return files, ctx.Err()
}

// get implements getter.
func (s *store) get(ctx context.Context, f *file, off, n int64) (io.ReadCloser, error) {
	u := *s.endpoint
	u.Path = "/" + s.bucket + "/" + f.path
	if err := s.c.patience(ctx, u.Host); err != nil {
		return nil, err
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(off, off+n-1); err != nil {
		return nil, refused(&u, "was asked for an empty range")
	}
	if err := o.SetMatchETag(f.etag); err != nil {
		return nil, refused(&u, "has no entity tag")
	}
	body, _, header, err := s.core.GetObject(ctx, s.bucket, f.path, o)
	if err != nil {
		return nil, s.failed(err, f.path)
	}
	start, total, ok := contentRange(header.Get("Content-Range"))
	whole := off == 0 && n == f.Size && header.Get("Content-Range") == ""
	if !whole && (!ok || start != off || total >= 0 && total != f.Size) {
		_ = body.Close()
		return nil, &wrongAnswer{&u, "answers with another range than the one asked for"}
	}
	return body, nil
}

// failed puts an error of the library among ours.
func (s *store) failed(err error, key string) error {
	var e minio.ErrorResponse
	u := *s.endpoint
	u.Path = "/" + s.bucket + "/" + key
	if !errors.As(err, &e) || e.StatusCode == 0 {
		return &netError{host: s.endpoint.Host, err: plain(err)}
	}
	return &statusError{url: &u, code: e.StatusCode, header: http.Header{"X-Request-Id": {e.RequestID}}, text: e.Message}
}

// counted sends the library's requests, counts them and gives up bodies that
// stall.
type counted struct{ c *client }

func (t *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	t.c.requests.Add(1)
	if n, ok := r.Context().Value(pagesKey{}).(*atomic.Int64); ok && n.Add(1) > maxPages {
		return nil, errEndless
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		sent := &sending{r.Body, t.c, time.AfterFunc(t.c.o.stall, func() { cancel(errStalled) })}
		defer sent.watch.Stop()
		r.Body = sent
	}
	res, err := t.c.http.Transport.RoundTrip(r)
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		cancel(nil)
		return nil, err
	}
	t.c.heard(res.Header.Get("Date"))
	res.Body = t.c.metered(ctx, cancel, res.Body)
	return res, nil
}

// sending gives up a request whose body nobody takes.
type sending struct {
	io.ReadCloser
	c     *client
	watch *time.Timer
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.c.bytes.Add(int64(n))
	if n > 0 {
		s.watch.Reset(s.c.o.stall)
	}
	if err != nil { // the answer has a time of its own
		s.watch.Stop()
	}
	return n, err
}

// heard notes how far a server's clock is from ours.
func (c *client) heard(date string) {
	if at, err := http.ParseTime(date); err == nil {
		c.clock.Store(int64(time.Until(at)))
	}
}

// serverTime is the time by the clock of the server that answered last.
func (c *client) serverTime() time.Time { return time.Now().Add(time.Duration(c.clock.Load())) }
