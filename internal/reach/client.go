package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/source"
)

// maxRedirects bounds the redirects of one request.
const maxRedirects = 20

// Traffic is what went over the network.
type Traffic struct {
	Bytes          int64   `json:"bytes"`
	Requests       int64   `json:"requests"`
	Retries        int64   `json:"retries"`
	Renewed        int64   `json:"renewed"` // signed addresses
	SecondsWaiting float64 `json:"seconds_waiting"`
}

// client sends requests: one for a source and all its connections.
type client struct {
	o       Options
	http    *http.Client
	dialer  *dialer
	limiter *rate.Limiter // nil: no limit
	small   chan struct{} // tokens for listings, headers and small files
	data    chan struct{} // tokens for blocks

	bytes, requests, retries, renewed, waited atomic.Int64
	clock                                     atomic.Int64 // a server's time less ours, nanoseconds

	mu    sync.Mutex
	hosts map[string]hold
}

func newClient(o Options) (*client, error) {
	c := &client{o: o, small: make(chan struct{}, 2*o.Connections), data: make(chan struct{}, o.Connections), hosts: map[string]hold{}, dialer: newDialer(&o)}
	roots, err := rootCertificates(o.CAFile)
	if err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy:                 c.dialer.proxyOf,
			DialContext:           c.dialer.dial,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: o.stall,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   2 * o.Connections,
			DisableCompression:    true,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1: a window for each connection
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if o.Bandwidth > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(o.Bandwidth), 1<<20)
	}
	return c, nil
}

func rootCertificates(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's
	}
	pem, err := fsx.ReadRegular(file, 16<<20)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &source.Error{Kind: source.ErrAddress, Where: file, Reason: "has no certificate in PEM"}
	}
	return pool, nil
}

func (c *client) traffic() Traffic {
	return Traffic{c.bytes.Load(), c.requests.Load(), c.retries.Load(), c.renewed.Load(), time.Duration(c.waited.Load()).Seconds()}
}

// origin is scheme, host and port of an address.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// shown is what of a URL may be shown.
func shown(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

// send sends one request, without following redirects. Only hosts that trusted
// approves get credentials.
func (c *client) send(ctx context.Context, method string, u *url.URL, header http.Header, auth func(*http.Request)) (*http.Response, error) {
	if c.o.Offline {
		return nil, &source.Error{Kind: source.ErrOffline, Where: shown(u), Reason: "is needed, and the network is switched off"}
	}
	if err := c.patience(ctx, u.Host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, &source.Error{Kind: source.ErrRefused, Where: shown(u), Reason: "is not an address"}
	}
	for k, v := range header {
		r.Header[k] = v
	}
	r.Header.Set("User-Agent", "glmconv/"+c.o.Version)
	r.Header.Set("Accept-Encoding", "identity")
	if auth != nil {
		auth(r)
	}
	c.requests.Add(1)
	res, err := c.http.Do(r)
	if err != nil {
		cancel(nil)
		var own *source.Error
		if errors.As(err, &own) {
			return nil, own
		}
		return nil, &netError{host: u.Host, err: plain(err)}
	}
	res.Body = c.metered(ctx, cancel, res.Body)
	return res, nil
}

// plain takes the address out of an error of net/http: it may hold a signature.
func plain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// next returns where a redirect leads, nil for answers that are none.
func (c *client) next(res *http.Response, from, endpoint *url.URL) (*url.URL, error) {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	u, err := from.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, refused(from, "redirects to nowhere")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, refused(from, "redirects to an address that is not encrypted")
	}
	if private(u.Hostname()) && !private(endpoint.Hostname()) {
		return nil, refused(from, "redirects from a public host into a private network")
	}
	if !ascii(u.Hostname()) { // net/http dials another spelling than is noted
		return nil, refused(from, "redirects to a host whose name is not ASCII")
	}
	c.dialer.lead(u, endpoint)
	return u, nil
}

func refused(u *url.URL, reason string) error {
	return &source.Error{Kind: source.ErrRefused, Where: shown(u), Reason: reason}
}

// meter counts the bytes of a body, keeps to the bandwidth and gives up a body of
// which nothing comes for too long.
type meter struct {
	io.ReadCloser
	c      *client
	ctx    context.Context //nolint:containedctx // of one request
	cancel context.CancelCauseFunc
	watch  *time.Timer
}

func (c *client) metered(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser) *meter {
	return &meter{body, c, ctx, cancel, time.AfterFunc(c.o.stall, func() { cancel(errStalled) })}
}

func (m *meter) Close() error {
	m.watch.Stop()
	m.cancel(nil)
	return m.ReadCloser.Close()
}

func (m *meter) Read(p []byte) (int, error) {
	if m.c.limiter != nil {
		p = p[:min(len(p), 64<<10)]
	}
	n, err := m.ReadCloser.Read(p)
	m.c.bytes.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(m.ctx), errStalled) {
		err = errStalled
	}
	if m.c.limiter != nil && n > 0 {
		if werr := m.c.limiter.WaitN(m.ctx, n); werr != nil && err == nil {
			err = werr
		}
	}
	if n > 0 {
		m.watch.Reset(m.c.o.stall)
	}
	return n, err
}

// drain reads a little of what is left, so that the connection can be used
// again, and closes the body.
func drain(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10)
	_ = res.Body.Close()
}
