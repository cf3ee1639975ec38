package reach

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// FuzzListings: whatever a hub, ModelScope or a store says when it is asked for a
// listing, the answer is a listing with sizes and plain names, or an error.
func FuzzListings(f *testing.F) {
	for _, text := range []string{
		`[{"type": "file", "path": "config.json", "size": 3, "oid": "a"}, {"type": "directory", "path": "x"}]`,
		`[{"type": "file", "path": "../x", "size": -1, "lfs": {"oid": "zz", "size": 9223372036854775807}}]`,
		`{"Code": 200, "Success": true, "Data": {"Files": [{"Path": "a", "Name": "a", "Type": "blob", "Size": 1, "Sha256": ""}]}}`,
		`{"Code": 404, "Success": false}`, `{"error": "x"}`, `[`, `null`, `[null]`,
		`<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>m/a</Key><Size>1</Size><ETag>"x"</ETag></Contents></ListBucketResult>`,
		`<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken><Contents><Key>m/a</Key><Generation>1</Generation><Size>9</Size></Contents></ListBucketResult>`,
		"\xef\xbb\xbf<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Content-Length>3</Content-Length><Etag>0x8</Etag></Properties></Blob></Blobs><NextMarker>a</NextMarker></EnumerationResults>",
		`<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken></ListBucketResult>`,
		`<ListBucketResult><Contents><Key>m/</Key><Size>-1</Size></Contents></ListBucketResult>`,
	} {
		f.Add([]byte(text))
	}
	var body atomic.Pointer[[]byte]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/revision/") {
			fmt.Fprintf(w, `{"sha": %q}`, strings.Repeat("c0ffee12", 5))
			return
		}
		_, _ = w.Write(*body.Load())
	}))
	f.Cleanup(srv.Close)
	f.Fuzz(func(t *testing.T, text []byte) {
		body.Store(&text)
		for address, env := range map[string][]string{
			"hf://org/name": {"HF_ENDPOINT=" + srv.URL},
			"ms://org/name": {"MODELSCOPE_ENDPOINT=" + srv.URL},
			"gs://bucket/m": {"STORAGE_EMULATOR_HOST=" + srv.URL},
			"az://acct/con": {"AZURE_STORAGE_SERVICE_ENDPOINT=" + srv.URL},
			"s3://bucket/m": {"AWS_ENDPOINT_URL=" + srv.URL, "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y", "AWS_REGION=us-east-1"},
		} {
			o := quick(env...)
			o.RetryFor = time.Millisecond
			s, err := Open(t.Context(), address, o)
			if err != nil {
				continue
			}
			list, err := s.List(t.Context())
			if err == nil {
				for _, e := range list {
					assert.True(t, flat(e.Name), "%s lists %q", address, e.Name)
					assert.GreaterOrEqual(t, e.Size, int64(0))
				}
			}
			_ = s.Close()
		}
	})
}

// FuzzAnswers: headers of answers are numbers within bounds, or nothing.
func FuzzAnswers(f *testing.F) {
	for _, text := range []string{"bytes 0-99/1000", "bytes */5", "bytes 9223372036854775807-1/1", "bytes 0-/-9", `"resolvers";r=0;t=55`, "3600", "Wed, 21 Oct 2015 07:28:00 GMT", "-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if start, total, ok := contentRange(text); ok {
			assert.GreaterOrEqual(t, total, int64(-1), "%q from %d", text, start)
		}
		for _, name := range []string{"RateLimit", "Retry-After"} {
			h := http.Header{}
			h.Set(name, text)
			assert.GreaterOrEqual(t, retryAfter(h), time.Duration(0), "%s: %q", name, text)
		}
		if shown := withoutQuery(text); strings.Contains(text, "://") {
			assert.NotContains(t, shown, "?")
		}
	})
}
