package reach

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/source"
)

// web gets files over HTTP: by the address of the file itself, or by the signed
// one that it redirects to, which is kept while it lasts.
type web struct {
	c        *client
	endpoint *url.URL
	address  func(f *file) string // of a file
	trusted  func(u *url.URL) bool
	auth     func(r *http.Request)        // for trusted addresses
	header   http.Header                  // of every request to the endpoint
	match    bool                         // entity tags hold for ranges
	hint     string                       // what to do where something may not be read
	dress    func(f *file, h http.Header) // completes the headers of a request for data, or nil
}

// located is where the bytes of a file are.
type located struct {
	mu      sync.Mutex
	url     *url.URL // nil: not known
	expires time.Time
	denied  int           // times in a row that a signed address was refused
	direct  bool          // the file's own address has answered without a redirect
	asking  chan struct{} // of who asks for the address; closed when there is an answer
}

// minLife is how long a signed address is kept at least, whatever it says: what ends
// sooner is refused, and asked for again then.
const minLife = time.Second

// known returns the address of a file's bytes, or nil for the one read that has to
// ask for it, which calls done after that; others wait for it. Where bytes come from
// the file's own address everybody asks.
func (l *located) known(ctx context.Context) (u *url.URL, done func(), err error) {
	for {
		l.mu.Lock()
		wait := l.asking
		switch {
		case l.url != nil && (l.expires.IsZero() || time.Now().Before(l.expires)):
			u = l.url
			l.mu.Unlock()
			return u, func() {}, nil
		case l.direct:
			l.mu.Unlock()
			return nil, func() {}, nil
		case wait == nil:
			answered := make(chan struct{})
			l.asking = answered
			l.mu.Unlock()
			return nil, func() {
				l.mu.Lock()
				l.asking = nil
				l.mu.Unlock()
				close(answered)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (l *located) forget() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.url = nil
}

// get implements getter.
func (w *web) get(ctx context.Context, f *file, off, n int64) (io.ReadCloser, error) {
	at, first, err := w.locate(ctx, f, off, n)
	if err != nil || first != nil {
		return first, err
	}
	u, hops := at, 0
	var res *http.Response
	for hop := u; hop != nil; { // data hosts may pass on to others
		if u = hop; res != nil {
			drain(res)
		}
		if res, err = w.c.send(ctx, http.MethodGet, u, w.ranged(f, off, n), w.authFor(u)); err != nil {
			return nil, err
		}
		if hop, err = w.c.next(res, u, w.endpoint); err != nil {
			drain(res)
			return nil, err
		}
		if hops++; hops > maxRedirects {
			drain(res)
			return nil, refused(u, "redirects without end")
		}
	}
	body, err := w.accept(res, u, f, off, n)
	if err == nil {
		f.located.mu.Lock()
		f.located.denied = 0
		f.located.mu.Unlock()
		return body, nil
	}
	return nil, w.refusal(f, at, u, err)
}

// refusal forgets a signed address that is no longer taken, so that the next try
// asks for another. Reads that were at it together are refused together: that is
// one refusal, and what the first of them has asked for meanwhile is kept.
func (w *web) refusal(f *file, at, u *url.URL, err error) error {
	st, ok := err.(*statusError) //nolint:errorlint // made by accept
	if !ok || w.trusted(u) {
		return err
	}
	switch st.code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusGone:
	default:
		return err
	}
	f.located.mu.Lock()
	defer f.located.mu.Unlock()
	if f.located.url != at {
		return &netError{host: u.Host, err: st}
	}
	f.located.url = nil
	if f.located.denied++; f.located.denied > 3 {
		return &source.Error{Kind: source.ErrNetwork, Where: shown(u), Reason: fmt.Sprintf("the host of the data answers %d, with a new address as well", st.code)}
	}
	w.c.renewed.Add(1)
	return &netError{host: u.Host, err: st}
}

// ranged asks for a range; after two refusals in a row for all from off on, since
// there are hosts that refuse ranges with an end.
func (w *web) ranged(f *file, off, n int64) http.Header {
	h := http.Header{}
	f.located.mu.Lock()
	open := f.located.denied >= 2
	f.located.mu.Unlock()
	switch {
	case open:
		h.Set("Range", fmt.Sprintf("bytes=%d-", off))
	case off > 0 || n < f.Size || isShard(f.Name):
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	if w.match && f.etag != "" && !strings.HasPrefix(f.etag, "W/") {
		h.Set("If-Match", f.etag)
	}
	if w.dress != nil {
		w.dress(f, h)
	}
	return h
}

func (w *web) authFor(u *url.URL) func(*http.Request) {
	if !w.trusted(u) {
		return nil
	}
	return func(r *http.Request) {
		for k, v := range w.header {
			r.Header[k] = v
		}
		if w.auth != nil {
			w.auth(r)
		}
	}
}

// locate returns the address that a file's bytes come from; where the file's own
// address answers without a redirect, that answer.
func (w *web) locate(ctx context.Context, f *file, off, n int64) (*url.URL, io.ReadCloser, error) {
	l, start := f.located, time.Now()
	u, done, err := l.known(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	w.c.waitedWith(ctx, w.endpoint.Host, start)
	if u != nil {
		return u, nil, nil
	}
	u, err = url.Parse(w.address(f))
	if err != nil {
		return nil, nil, &source.Error{Kind: source.ErrRefused, Where: f.where, Reason: "has no address"}
	}
	for range maxRedirects {
		if !w.trusted(u) { // signed: what comes next needs no credentials and is asked for by range
			l.mu.Lock()
			l.url, l.expires = u, expiry(u)
			if soon := time.Now().Add(minLife); !l.expires.IsZero() && l.expires.Before(soon) {
				l.expires = soon
			}
			l.mu.Unlock()
			return u, nil, nil
		}
		res, err := w.c.send(ctx, http.MethodGet, u, w.ranged(f, off, n), w.authFor(u))
		if err != nil {
			return nil, nil, err
		}
		to, err := w.c.next(res, u, w.endpoint)
		if err != nil || to != nil {
			drain(res)
			if err != nil {
				return nil, nil, err
			}
			u = to
			continue
		}
		body, err := w.accept(res, u, f, off, n)
		if err == nil {
			l.mu.Lock()
			l.direct = true
			l.mu.Unlock()
		}
		return nil, body, err
	}
	return nil, nil, refused(u, "redirects without end")
}

// accept checks that an answer is the range that was asked for.
func (w *web) accept(res *http.Response, u *url.URL, f *file, off, n int64) (io.ReadCloser, error) {
	switch res.StatusCode {
	case http.StatusPartialContent:
		start, total, ok := contentRange(res.Header.Get("Content-Range"))
		if !ok || start != off || total >= 0 && total != f.Size {
			_ = res.Body.Close()
			return nil, &wrongAnswer{u, "answers with another range than the one asked for"}
		}
		return res.Body, nil
	case http.StatusOK:
		if off == 0 && (res.ContentLength == f.Size || res.ContentLength < 0) && (n == f.Size || !isShard(f.Name)) {
			return res.Body, nil
		}
		_ = res.Body.Close()
		if res.ContentLength >= 0 && res.ContentLength != f.Size {
			return nil, &wrongAnswer{u, fmt.Sprintf("has %d bytes, the listing says %d", res.ContentLength, f.Size)}
		}
		return nil, &wrongAnswer{u, "the server does not serve ranges"}
	}
	return nil, w.failed(res, u)
}

// failed reads what a server says of its refusal.
func (w *web) failed(res *http.Response, u *url.URL) error {
	defer res.Body.Close()
	e := &statusError{url: u, code: res.StatusCode, header: res.Header, text: res.Header.Get("X-Error-Message"), hint: w.hint}
	if e.text == "" {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		var said struct {
			Error string `json:"error"`
		}
		var coded struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
		}
		if json.Unmarshal(text, &said) != nil && xml.Unmarshal(bytes.TrimPrefix(text, byteOrderMark), &coded) == nil && word().MatchString(coded.Code) {
			e.said = coded.Code
		}
		e.text = said.Error
	}
	return e
}

// word is what an error code of a store looks like.
var word = lazy.Regexp(`^[A-Za-z]{1,64}$`)

// byteOrderMark begins the answers of Azure.
var byteOrderMark = []byte("\xef\xbb\xbf")

// contentRange reads a header of that name: where the range begins, and how long
// the whole is, -1 if that is not known.
func contentRange(h string) (start, total int64, ok bool) {
	rest, ok := strings.CutPrefix(h, "bytes ")
	span, all, ok2 := strings.Cut(rest, "/")
	from, _, ok3 := strings.Cut(span, "-")
	begin, err := strconv.ParseUint(from, 10, 63)
	if !ok || !ok2 || !ok3 || err != nil {
		return 0, -1, false
	}
	if all == "*" {
		return int64(begin), -1, true
	}
	length, err := strconv.ParseUint(all, 10, 63)
	if err != nil || length <= begin {
		return 0, -1, false
	}
	return int64(begin), int64(length), true
}

// expiry returns when a signed address should be renewed: a minute before its
// end, or half its life before if that is shorter; zero if it does not say.
func expiry(u *url.URL) time.Time {
	q := u.Query()
	var end time.Time
	if n, err := strconv.ParseInt(q.Get("Expires"), 10, 64); err == nil {
		end = time.Unix(n, 0)
	} else if at, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date")); err == nil {
		if n, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 32); err == nil {
			end = at.Add(time.Duration(n) * time.Second)
		}
	}
	if end.IsZero() {
		return end
	}
	return end.Add(-max(0, min(time.Minute, time.Until(end)/2)))
}

// json asks the endpoint for a document, with all tries, and decodes it.
func (w *web) json(ctx context.Context, address string, into any) (http.Header, error) {
	return w.decoded(ctx, address, func(body []byte) error { return json.Unmarshal(body, into) })
}

// xml is json for the listings of stores.
func (w *web) xml(ctx context.Context, address string, into any) error {
	_, err := w.decoded(ctx, address, func(body []byte) error { return xml.Unmarshal(bytes.TrimPrefix(body, byteOrderMark), into) })
	return err
}

func (w *web) decoded(ctx context.Context, address string, decode func([]byte) error) (http.Header, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, &source.Error{Kind: source.ErrRefused, Where: shown(w.endpoint), Reason: "names a page that is no address"}
	}
	t := w.c.trial(shown(u))
	ctx = t.in(ctx)
	for {
		header, err := w.document(ctx, u, decode)
		if err == nil {
			return header, nil
		}
		if err := t.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

func (w *web) document(ctx context.Context, u *url.URL, decode func([]byte) error) (http.Header, error) {
	for range maxRedirects {
		res, err := w.c.send(ctx, http.MethodGet, u, nil, w.authFor(u))
		if err != nil {
			return nil, err
		}
		to, err := w.c.next(res, u, w.endpoint)
		if err != nil || to != nil {
			drain(res)
			if err != nil {
				return nil, err
			}
			u = to
			continue
		}
		if res.StatusCode != http.StatusOK {
			return nil, w.failed(res, u)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, maxPage+1))
		switch {
		case err != nil:
			return nil, &netError{host: u.Host, err: plain(err)}
		case len(body) > maxPage:
			return nil, refused(u, "sends a listing of more than 64 MiB")
		case strings.HasPrefix(res.Header.Get("Content-Type"), "text/html"):
			return nil, refused(u, "answers with a web page instead of a listing: this is no hub or store, or a login page of the network is in between")
		}
		if err := decode(body); err != nil {
			return nil, refused(u, "answers with JSON or XML that is none, or of another kind")
		}
		return res.Header, nil
	}
	return nil, refused(u, "redirects without end")
}
