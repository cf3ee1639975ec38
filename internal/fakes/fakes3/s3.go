// Package fakes3 is an object store on loopback that speaks S3: listing by prefix,
// reading by ranges under a condition, writing in parts, under a condition as well.
// Signatures are not checked, hashes of what is sent are.
package fakes3

import (
	"crypto/md5" //nolint:gosec // what entity tags of single parts are
	"encoding/hex"
	"encoding/xml"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/glmconv/glmconv/internal/fakes"
)

// Store is a running store with one bucket.
type Store struct {
	*fakes.Rules
	URL     string // AWS_ENDPOINT_URL
	Bucket  string
	Objects map[string][]byte
	Page    int // keys of a page of a listing
	Uploads map[string]*Upload
	MinPart int // least bytes of a part that is not the last

	Unconditional bool // If-None-Match is ignored
	Light         bool // nothing is hashed, so that the store is no limit to who writes

	tags map[string]string // entity tags that are not of the whole
	ids  int
}

// New starts a store with objects.
func New(tb testing.TB, bucket string, objects map[string][]byte) *Store {
	s := &Store{Rules: fakes.NewRules(), Bucket: bucket, Objects: objects, Page: 1000, MinPart: minPart, Uploads: map[string]*Upload{}, tags: map[string]string{}}
	if objects == nil {
		s.Objects = map[string][]byte{}
	}
	srv := httptest.NewServer(s.Handle("s3", s.serve))
	s.URL = srv.URL
	tb.Cleanup(func() { s.Stop(); srv.CloseClientConnections(); srv.Close() })
	return s
}

// Env returns the environment of a client.
func (s *Store) Env() []string {
	return []string{"AWS_ENDPOINT_URL=" + s.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=glmconv-canary-4711", "AWS_REGION=us-east-1"}
}

func tag(data []byte) string {
	h := md5.Sum(data) //nolint:gosec // see above
	return `"` + hex.EncodeToString(h[:]) + `"`
}

// tag returns the entity tag of an object. The caller holds the lock.
func (s *Store) tag(key string) string {
	if t := s.tags[key]; t != "" {
		return t
	}
	return tag(s.Objects[key])
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: code})
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket != s.Bucket {
		refuse(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	if f == fakes.Expired {
		refuse(w, http.StatusForbidden, "ExpiredToken")
		return
	}
	if f == fakes.Lost && (r.Method == http.MethodPut || r.Method == http.MethodDelete) {
		s.change(httptest.NewRecorder(), r, key, f)
		panic(http.ErrAbortHandler)
	}
	switch {
	case key == "" && r.URL.Query().Has("uploads"):
		s.listUploads(w, r)
		return
	case key == "":
		s.list(w, r)
		return
	case s.change(w, r, key, f):
		return
	}
	s.Lock()
	data, ok := s.Objects[key]
	etag := s.tag(key)
	s.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
	if m := r.Header.Get("If-Match"); m != "" && strings.Trim(m, `"`) != strings.Trim(etag, `"`) {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	s.Send(w, r, data, f)
}

type content struct {
	Key          string
	Size         int
	ETag         string
	LastModified string
}

// list answers ListObjectsV2, page by page.
func (s *Store) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name, Prefix          string
		KeyCount              int
		IsTruncated           bool
		NextContinuationToken string    `xml:",omitempty"`
		Contents              []content `xml:"Contents"`
		CommonPrefixes        []struct{ Prefix string }
	}{Name: s.Bucket, Prefix: q.Get("prefix")}
	s.Lock()
	defer s.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.Objects)) {
		rest, ok := strings.CutPrefix(k, q.Get("prefix"))
		if !ok || k <= q.Get("continuation-token") {
			continue
		}
		if dir, _, deep := strings.Cut(rest, "/"); deep && q.Get("delimiter") == "/" {
			out.CommonPrefixes = append(out.CommonPrefixes, struct{ Prefix string }{q.Get("prefix") + dir + "/"})
			continue
		}
		if len(out.Contents) == s.Page {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[s.Page-1].Key
			break
		}
		out.Contents = append(out.Contents, content{k, len(s.Objects[k]), s.tag(k), "2006-01-02T15:04:05.000Z"})
	}
	out.KeyCount = len(out.Contents)
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(out)
}
