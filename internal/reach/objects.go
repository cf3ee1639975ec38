package reach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/glmconv/glmconv/source"
)

// objects reads a prefix of a store that is spoken to over plain HTTP: Google
// Cloud Storage, Azure Blob Storage.
type objects struct {
	*web
	tokens *tokens
	name   string // gs://bucket/prefix
	prefix string // with its slash, "" for a whole bucket
	base   string // address of the bucket
	query  string // of every request for an object, with its "?"
}

// maxPages bounds a listing whose pages hold nothing for us.
const maxPages = 1000

// newObjects prepares a store below an endpoint.
func newObjects(c *client, a address, endpoint, variable, bucket string) (*objects, error) {
	name := strings.TrimSuffix(a.scheme+"://"+a.id+"/"+a.sub, "/")
	if c.o.Offline {
		return nil, &source.Error{Kind: source.ErrOffline, Where: name, Reason: "is needed, and the network is switched off"}
	}
	u, err := url.Parse(strings.TrimRight(endpoint, "/"))
	if err != nil || u.Host == "" || !safe(u) || u.User != nil || u.RawQuery != "" {
		return nil, &source.Error{Kind: source.ErrAddress, Where: variable, Reason: "is not an https address (http is for loopback alone)"}
	}
	o := &objects{name: name, base: u.String() + "/" + bucket, tokens: &tokens{c: c}}
	if a.sub != "" {
		o.prefix = a.sub + "/"
	}
	o.web = &web{c: c, endpoint: u, trusted: func(to *url.URL) bool { return origin(to) == origin(u) },
		address: func(f *file) string { return o.base + "/" + escapePath(f.path) + o.query },
		auth: func(r *http.Request) {
			if t := o.tokens.current(); t != "" {
				r.Header.Set("Authorization", "Bearer "+t)
			}
		},
	}
	return o, nil
}

// open lists the prefix page by page. page reads one, from a place on that the last
// one named, and returns the next place, "" at the end.
func (o *objects) open(ctx context.Context, page func(ctx context.Context, from string) (files []*file, next string, err error)) (*Source, error) {
	var all []*file
	for from, n := "", 0; ; n++ {
		token, err := o.tokens.ready(ctx)
		if err != nil {
			return nil, err
		}
		files, next, err := page(ctx, from)
		if err != nil {
			if denied(err) && o.tokens.refused(token) {
				continue
			}
			return nil, err
		}
		all = append(all, files...)
		if next == "" {
			break
		}
		if next == from || n == maxPages || len(all) > maxListed {
			return nil, &source.Error{Kind: source.ErrRefused, Where: o.name, Reason: "has a listing without an end, or one that is too long"}
		}
		from = next
	}
	if len(all) == 0 {
		return nil, &source.Error{Kind: source.ErrMissing, Where: o.name, Reason: "holds no file", Advice: o.hint}
	}
	return newSource(ctx, o.c, o, o.name, all)
}

func denied(err error) bool { return errors.Is(err, source.ErrDenied) }

// get implements getter.
func (o *objects) get(ctx context.Context, f *file, off, n int64) (io.ReadCloser, error) {
	token, err := o.tokens.ready(ctx)
	if err != nil {
		return nil, err
	}
	body, err := o.web.get(ctx, f, off, n)
	var st *statusError
	switch {
	case err == nil:
		o.tokens.taken()
	case errors.As(err, &st) && st.code == http.StatusUnauthorized && o.tokens.refused(token):
		return nil, &netError{host: st.url.Host, err: st}
	}
	return body, err
}

// object makes a file of an entry of a listing, nil for what lies elsewhere.
func (o *objects) object(key string, size int64) *file {
	name, ok := strings.CutPrefix(key, o.prefix)
	if !ok || !flat(name) {
		return nil
	}
	return &file{Entry: source.Entry{Name: name, Size: size}, path: key, located: &located{}}
}

// anonymous reports whether an address asks to be read without credentials.
func (a address) anonymous() bool { return a.query.Get("anonymous") == "1" }
