package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Object is one object, or what looks like a folder: a key that ends with a slash.
type Object struct {
	Key  string
	Size int64
	ETag string // without quotes
}

// maxPages bounds a listing: a million keys below one prefix are no checkpoint.
const maxPages = 1000

// ErrEndless ends a listing of too many pages.
var ErrEndless = errors.New("the listing has no end")

// List calls found with what is directly below a prefix, page by page, until it
// returns false or there is no more; [ErrEndless] if that does not come, or cannot
// be asked for.
func (c *Client) List(ctx context.Context, prefix string, found func(Object) bool) error {
	token := ""
	for n := 1; ; n++ {
		q := url.Values{"list-type": {"2"}, "prefix": {prefix}, "delimiter": {"/"}, "encoding-type": {"url"}, "max-keys": {"1000"}}
		if token != "" {
			q.Set("continuation-token", token)
		}
		var page struct {
			IsTruncated           bool
			NextContinuationToken string
			EncodingType          string
			Contents              []struct {
				Key, ETag string
				Size      int64
			}
			CommonPrefixes []struct{ Prefix string }
		}
		if err := c.read(ctx, request{method: http.MethodGet, query: q}, &page); err != nil {
			return err
		}
		name := decoder(page.EncodingType)
		for _, o := range page.Contents {
			key, err := name(o.Key)
			if err != nil {
				return err
			}
			if !found(Object{key, o.Size, bare(o.ETag)}) {
				return nil
			}
		}
		for _, p := range page.CommonPrefixes {
			key, err := name(p.Prefix)
			if err != nil {
				return err
			}
			if !found(Object{Key: key}) {
				return nil
			}
		}
		if !page.IsTruncated {
			return nil
		}
		if next := page.NextContinuationToken; next == "" || next == token || n == maxPages {
			return ErrEndless // what comes behind cannot be asked for
		}
		token = page.NextContinuationToken
	}
}

// decoder undoes the encoding that a listing says it has: keys may hold characters
// that XML does not.
func decoder(kind string) func(string) (string, error) {
	if kind == "url" {
		return url.QueryUnescape
	}
	return func(s string) (string, error) { return s, nil }
}

func bare(etag string) string { return strings.Trim(etag, `"`) }

// Range asks for n bytes from an offset.
func Range(off, n int64) http.Header {
	return http.Header{"Range": {"bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10)}}
}

// Get begins to read an object, or the part of it that header asks for. size is
// that of the answer, -1 if it is not told. The caller closes body.
func (c *Client) Get(ctx context.Context, key string, header http.Header) (body io.ReadCloser, size int64, got http.Header, err error) {
	res, err := c.do(ctx, request{method: http.MethodGet, key: key, header: header})
	if err != nil {
		return nil, 0, nil, err
	}
	return res.Body, res.ContentLength, res.Header, nil
}

// Head describes an object.
func (c *Client) Head(ctx context.Context, key string) (Object, error) {
	res, err := c.do(ctx, request{method: http.MethodHead, key: key})
	if err != nil {
		return Object{}, err
	}
	defer res.Body.Close()
	return Object{key, res.ContentLength, bare(res.Header.Get("ETag"))}, nil
}

// Conditions of writing: [Absent] is the one that nothing has the name.
var Absent = http.Header{"If-None-Match": {"*"}}

// checksum makes the store compare what it gets with its SHA-256.
func checksum(sum [sha256.Size]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }

// Put writes an object by one request.
func (c *Client) Put(ctx context.Context, key string, data []byte, condition http.Header) error {
	sum := sha256.Sum256(data)
	h := with(condition, "X-Amz-Checksum-Sha256", checksum(sum))
	h.Set("Content-Type", "application/octet-stream")
	_, err := c.plain(ctx, request{method: http.MethodPut, key: key, header: h, body: data, sum: &sum})
	return err
}

// with returns a copy of a header with another line.
func with(h http.Header, key, value string) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	out.Set(key, value)
	return out
}

// Delete removes an object; one that is not there is no error.
func (c *Client) Delete(ctx context.Context, key string) error {
	_, err := c.plain(ctx, request{method: http.MethodDelete, key: key})
	return err
}

// Upload is an unfinished upload in parts.
type Upload struct {
	Key       string
	ID        string `xml:"UploadId"`
	Initiated time.Time
}

// Part is a part of an upload that is there.
type Part struct {
	Number int    `xml:"PartNumber"`
	ETag   string // as the store gave it
	SHA256 string `xml:"ChecksumSHA256,omitempty"` // in base64
}
