package reach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/reach/s3"
	"github.com/glmconv/glmconv/source"
)

// store reads one prefix of a bucket.
type store struct {
	c        *client
	api      *s3.Client
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
		files, err := s.list(t.in(ctx), prefix)
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
	conf := s3.Config{Bucket: s.bucket, Region: o.first("AWS_REGION", "AWS_DEFAULT_REGION"), Transport: &counted{s.c}, UserAgent: "glmconv/" + o.Version, Now: s.c.serverTime}
	s.endpoint = &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}
	if e := o.first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"); e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return &source.Error{Kind: source.ErrAddress, Where: "AWS_ENDPOINT_URL", Reason: "is not an address"}
		}
		s.endpoint, conf.Endpoint = u, u
	}
	if a.query.Get("anonymous") != "1" && o.Getenv("AWS_NO_SIGN_REQUEST") != "1" {
		conf.Keys = s3.Environment(func(name string) string { return o.first(name) }, s.c.http.Transport)
	}
	s.api = s3.New(conf)
	return nil
}

func (s *store) list(ctx context.Context, prefix string) (files []*file, err error) {
	seen, again := map[string]bool{}, false
	err = s.api.List(ctx, prefix, func(o s3.Object) bool {
		again = seen[o.Key] && !strings.HasSuffix(o.Key, "/") || len(seen) > maxListed
		seen[o.Key] = true
		if name := strings.TrimPrefix(o.Key, prefix); flat(name) {
			files = append(files, &file{path: o.Key, etag: o.ETag, Entry: source.Entry{Name: name, Size: o.Size, Version: o.ETag}})
		}
		return !again
	})
	if again {
		err = s3.ErrEndless
	}
	if err != nil {
		return nil, s.failed(err, prefix)
	}
	return files, nil
}

// get implements getter.
func (s *store) get(ctx context.Context, f *file, off, n int64) (io.ReadCloser, error) {
	u := *s.endpoint
	u.Path = "/" + s.bucket + "/" + f.path
	if err := s.c.patience(ctx, u.Host); err != nil {
		return nil, err
	}
	h := s3.Range(off, n)
	h.Set("If-Match", `"`+f.etag+`"`)
	body, _, header, err := s.api.Get(ctx, f.path, h)
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

// failed puts an error of a request among ours.
func (s *store) failed(err error, key string) error {
	var keys *s3.KeysError
	if errors.As(err, &keys) {
		return &source.Error{Kind: source.ErrDenied, Where: "s3://" + s.bucket, Reason: "the credentials could not be had: " + plain(keys.Err).Error(),
			Advice: "look at AWS_PROFILE, AWS_ACCESS_KEY_ID and what else the tools of AWS read; ?anonymous=1 for a public bucket"}
	}
	if errors.Is(err, s3.ErrEndless) {
		return &source.Error{Kind: source.ErrRefused, Where: "s3://" + s.bucket + "/" + key, Reason: "has a listing without an end, or one that is too long"}
	}
	var e *s3.Error
	u := *s.endpoint
	u.Path = "/" + s.bucket + "/" + key
	if !errors.As(err, &e) {
		return &netError{host: s.endpoint.Host, err: plain(err)}
	}
	text := e.Message
	switch e.Code {
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		text = "denied: " + text
	}
	return &statusError{url: &u, code: e.Status, header: http.Header{"X-Request-Id": {e.RequestID}}, text: text}
}

// counted sends requests, counts them and gives up bodies that
// stall.
type counted struct{ c *client }

func (t *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	t.c.requests.Add(1)
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
