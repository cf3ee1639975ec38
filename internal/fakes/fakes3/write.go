package fakes3

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what entity tags are made of
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/fakes"
)

// Upload is a multipart upload that is not complete.
type Upload struct {
	Key       string
	Initiated time.Time
	Meta      http.Header
	Parts     map[int]Part
}

// Part is a part of an upload.
type Part struct {
	Data     []byte
	ETag     string
	Modified time.Time
}

// minPart is the least size of all parts but the last, lowered by Store.MinPart.
const minPart = 5 << 20

// body reads what a request sends, as it arrives, and compares it with the hashes
// that it names.
func (s *Store) body(w http.ResponseWriter, r *http.Request, f fakes.Fault) ([]byte, bool) {
	var b bytes.Buffer
	b.Grow(int(max(0, min(r.ContentLength, 64<<20))) + bytes.MinRead)
	if _, err := b.ReadFrom(r.Body); err != nil {
		return nil, false
	}
	data := b.Bytes()
	if s.Light {
		return data, true
	}
	if f == fakes.Flip && len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	sum := sha256.Sum256(data)
	if want := r.Header.Get("X-Amz-Content-Sha256"); len(want) == 64 && want != hex.EncodeToString(sum[:]) {
		refuse(w, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
		return nil, false
	}
	if want := r.Header.Get("X-Amz-Checksum-Sha256"); want != "" && want != base64.StdEncoding.EncodeToString(sum[:]) {
		refuse(w, http.StatusBadRequest, "BadDigest")
		return nil, false
	}
	return data, true
}

// change answers what writes. It reports whether the request was one.
func (s *Store) change(w http.ResponseWriter, r *http.Request, key string, f fakes.Fault) bool {
	q := r.URL.Query()
	id := q.Get("uploadId")
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		s.begin(w, r, key)
	case r.Method == http.MethodPut && id != "":
		s.putPart(w, r, key, id, f)
	case r.Method == http.MethodPost && id != "":
		s.complete(w, r, key, id, f)
	case r.Method == http.MethodGet && id != "":
		s.listParts(w, key, id)
	case r.Method == http.MethodDelete && id != "":
		s.Lock()
		delete(s.Uploads, id)
		s.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		s.Lock()
		delete(s.Objects, key)
		delete(s.tags, key)
		s.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		s.put(w, r, key, f)
	default:
		return false
	}
	return true
}

// taken refuses a conditional write to a name that exists. The caller holds the
// lock.
func (s *Store) taken(w http.ResponseWriter, r *http.Request, key string) bool {
	if s.Unconditional || r.Header.Get("If-None-Match") != "*" {
		return false
	}
	_, there := s.Objects[key]
	if there {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
	}
	return there
}

func (s *Store) put(w http.ResponseWriter, r *http.Request, key string, f fakes.Fault) {
	data, ok := s.body(w, r, f)
	if !ok {
		return
	}
	s.Lock()
	defer s.Unlock()
	if s.taken(w, r, key) {
		return
	}
	s.Objects[key], s.tags[key] = data, tag(data)
	w.Header().Set("ETag", tag(data))
}

func (s *Store) begin(w http.ResponseWriter, r *http.Request, key string) {
	s.Lock()
	defer s.Unlock()
	s.ids++
	id := fmt.Sprintf("upload-%d", s.ids)
	s.Uploads[id] = &Upload{Key: key, Initiated: time.Now().UTC(), Meta: r.Header.Clone(), Parts: map[int]Part{}}
	reply(w, struct {
		XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string
	}{Bucket: s.Bucket, Key: key, UploadId: id})
}

func (s *Store) putPart(w http.ResponseWriter, r *http.Request, key, id string, f fakes.Fault) {
	data, ok := s.body(w, r, f)
	if !ok {
		return
	}
	n, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	s.Lock()
	defer s.Unlock()
	u := s.Uploads[id]
	if u == nil || u.Key != key || err != nil {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	etag := fmt.Sprintf(`"light-%d"`, n)
	if !s.Light {
		etag = tag(data)
	}
	u.Parts[n] = Part{data, etag, time.Now().UTC()}
	w.Header().Set("ETag", etag)
}

// complete makes an object of parts. With the fault Whole it says so in the body
// of a 200 that it did not.
func (s *Store) complete(w http.ResponseWriter, r *http.Request, key, id string, f fakes.Fault) {
	text, ok := s.body(w, r, f)
	if !ok {
		return
	}
	var want struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if f == fakes.Whole {
		refuse(w, http.StatusOK, "InternalError")
		return
	}
	s.Lock()
	defer s.Unlock()
	u := s.Uploads[id]
	if u == nil || u.Key != key {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	if s.taken(w, r, key) {
		return
	}
	if err := xml.Unmarshal(text, &want); err != nil || len(want.Part) == 0 {
		refuse(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	var data []byte
	h := md5.New() //nolint:gosec // see the import
	for i, p := range want.Part {
		got, ok := u.Parts[p.PartNumber]
		switch {
		case !ok || strings.Trim(p.ETag, `"`) != strings.Trim(got.ETag, `"`):
			refuse(w, http.StatusBadRequest, "InvalidPart")
			return
		case i > 0 && p.PartNumber <= want.Part[i-1].PartNumber:
			refuse(w, http.StatusBadRequest, "InvalidPartOrder")
			return
		case i < len(want.Part)-1 && len(got.Data) < s.MinPart:
			refuse(w, http.StatusBadRequest, "EntityTooSmall")
			return
		}
		h.Write([]byte(got.ETag))
		data = append(data, got.Data...)
	}
	s.Objects[key], s.tags[key] = data, fmt.Sprintf(`"%x-%d"`, h.Sum(nil), len(want.Part))
	delete(s.Uploads, id)
	if f == fakes.Lost {
		panic(http.ErrAbortHandler)
	}
	reply(w, struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
	}{Bucket: s.Bucket, Key: key, ETag: s.tags[key]})
}

func (s *Store) listParts(w http.ResponseWriter, key, id string) {
	s.Lock()
	defer s.Unlock()
	u := s.Uploads[id]
	if u == nil || u.Key != key {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	type part struct {
		PartNumber, Size   int
		LastModified, ETag string
	}
	out := struct {
		XMLName     xml.Name `xml:"ListPartsResult"`
		IsTruncated bool
		Part        []part
	}{}
	for _, n := range slices.Sorted(maps.Keys(u.Parts)) {
		p := u.Parts[n]
		out.Part = append(out.Part, part{n, len(p.Data), p.Modified.Format(time.RFC3339Nano), p.ETag})
	}
	reply(w, out)
}

// listUploads answers ListMultipartUploads in one page.
func (s *Store) listUploads(w http.ResponseWriter, r *http.Request) {
	type upload struct{ Key, UploadId, Initiated string }
	out := struct {
		XMLName     xml.Name `xml:"ListMultipartUploadsResult"`
		Bucket      string
		IsTruncated bool
		Upload      []upload
	}{Bucket: s.Bucket}
	s.Lock()
	defer s.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.Uploads)) {
		if u := s.Uploads[id]; strings.HasPrefix(u.Key, r.URL.Query().Get("prefix")) {
			out.Upload = append(out.Upload, upload{u.Key, id, u.Initiated.Format(time.RFC3339Nano)})
		}
	}
	reply(w, out)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(v)
}
