package s3

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const testSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

// verified computes the signature of a request as its receiver does (AWS, "Signature
// Version 4 signing process"), from what came over the wire.
func verified(t *testing.T, r *http.Request) bool {
	t.Helper()
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme != "AWS4-HMAC-SHA256" {
		return false
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	credential := strings.Split(fields["Credential"], "/")
	require.Len(t, credential, 5)
	day, region, service := credential[1], credential[2], credential[3]

	signed := strings.Split(fields["SignedHeaders"], ";")
	for name := range r.Header { // all that the store may act on must be covered
		if l := strings.ToLower(name); strings.HasPrefix(l, "x-amz-") || l == "range" || strings.HasPrefix(l, "if-") {
			assert.Contains(t, signed, l)
		}
	}
	var headers strings.Builder
	for _, name := range signed {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get("Content-Length")
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	var query []string
	for k, vs := range r.URL.Query() {
		for _, v := range vs {
			query = append(query, escape2(k)+"="+escape2(v))
		}
	}
	slices.Sort(query)
	canonical := strings.Join([]string{r.Method, escape(r.URL.Path), strings.Join(query, "&"), headers.String(), fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256")}, "\n")
	hash := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{day, region, service, "aws4_request"}, "/")
	toSign := strings.Join([]string{scheme, r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(hash[:])}, "\n")
	key := []byte("AWS4" + testSecret)
	for _, part := range []string{day, region, service, "aws4_request", toSign} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key) == fields["Signature"]
}

func escape2(s string) string { return strings.ReplaceAll(escape(s), "/", "%2F") }

// fixed are keys that do not change.
func fixed() *Keys {
	env := map[string]string{"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": testSecret, "AWS_SESSION_TOKEN": "a session"}
	return Environment(func(k string) string { return env[k] }, http.DefaultTransport)
}

// store is a client of a server that answers with one function.
func store(t *testing.T, keys *Keys, answer http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	return New(Config{Bucket: "bucket", Endpoint: u, Keys: keys, Transport: http.DefaultTransport, UserAgent: "glmconv/test"})
}

// TestSignatures: what is received is what was signed, whatever characters a key,
// a prefix or an id has.
func TestSignatures(t *testing.T) {
	var seen []string
	c := store(t, fixed(), func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		sum := sha256.Sum256(body)
		assert.Equal(t, hex.EncodeToString(sum[:]), r.Header.Get("X-Amz-Content-Sha256"))
		assert.Equal(t, "a session", r.Header.Get("X-Amz-Security-Token"))
		assert.Equal(t, "glmconv/test", r.Header.Get("User-Agent"))
		assert.True(t, verified(t, r), "%s %s", r.Method, r.URL)
		seen = append(seen, r.Method+" "+r.URL.Path)
		if r.Method == http.MethodPost && r.URL.Query().Has("uploads") {
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>a/b+c==</UploadId></InitiateMultipartUploadResult>")
		} else if r.Method != http.MethodDelete && r.Method != http.MethodPut {
			_, _ = io.WriteString(w, "<Result></Result>")
		}
	})
	ctx := t.Context()
	for _, key := range []string{"model.safetensors", "a b/c+d", "Ü/🙂~-._", "a%20b", "x=y&z;(1)*!'@:$,", "dir//two"} {
		seen = nil
		body, _, _, err := c.Get(ctx, key, Range(3, 5))
		require.NoError(t, err)
		body.Close()
		_, err = c.Head(ctx, key)
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, key, []byte("x"), Absent))
		require.NoError(t, c.Put(ctx, key, nil, nil))
		require.NoError(t, c.Delete(ctx, key))
		id, err := c.NewUpload(ctx, key, http.Header{"X-Amz-Meta-Plan": {"7  blanks"}})
		require.NoError(t, err)
		_, err = c.PutPart(ctx, key, id, 1, []byte("part"), sha256.Sum256([]byte("part")))
		require.NoError(t, err)
		_, err = c.Parts(ctx, key, id, 3)
		require.NoError(t, err)
		require.NoError(t, c.Complete(ctx, key, id, []Part{{1, "e", "s"}}, Absent))
		require.NoError(t, c.Abort(ctx, key, id))
		_, err = c.Uploads(ctx, key, key, id)
		require.NoError(t, err)
		require.NoError(t, c.List(ctx, key, func(Object) bool { return true }))
		require.Len(t, seen, 12)
		for _, s := range seen[:10] {
			assert.True(t, strings.HasSuffix(s, " /bucket/"+key), "%s", s)
		}
	}
}

// TestUnsigned: without keys nothing is signed.
func TestUnsigned(t *testing.T) {
	c := store(t, nil, func(_ http.ResponseWriter, r *http.Request) { assert.Empty(t, r.Header.Get("Authorization")) })
	_, err := c.Head(t.Context(), "key")
	require.NoError(t, err)
}

// TestAddresses of AWS itself and of other stores.
func TestAddresses(t *testing.T) {
	other, err := url.Parse("http://127.0.0.1:9000/base/")
	require.NoError(t, err)
	for _, tc := range []struct {
		name, bucket, region, key, want string
		endpoint                        *url.URL
	}{
		{name: "by the host's name", bucket: "models", region: "eu-west-1", key: "a b", want: "https://models.s3.eu-west-1.amazonaws.com/a%20b"},
		{name: "China", bucket: "models", region: "cn-north-1", want: "https://models.s3.cn-north-1.amazonaws.com.cn/"},
		{name: "a name with dots", bucket: "my.models", region: "us-east-1", key: "k", want: "https://s3.us-east-1.amazonaws.com/my.models/k"},
		{name: "a store of its own", bucket: "models", region: "us-east-1", key: "k", want: "http://127.0.0.1:9000/base/models/k", endpoint: other},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := New(Config{Bucket: tc.bucket, Endpoint: tc.endpoint})
			assert.Equal(t, tc.want, c.address(request{key: tc.key}, tc.region).String())
		})
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRegion: a bucket of another region is asked there, by header or text, and
// from then on; one that is moved to and fro is an error.
func TestRegion(t *testing.T) {
	const moved = `<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong region</Message><Region>eu-central-1</Region></Error>`
	for _, tc := range []struct {
		name, header, text string
		never              bool
	}{{name: "header", header: "eu-central-1"}, {name: "text", text: moved}, {name: "nowhere", header: "eu-central-1", never: true}} {
		t.Run(tc.name, func(t *testing.T) {
			var hosts []string
			c := New(Config{Bucket: "models", Keys: fixed(), Transport: transport(func(r *http.Request) (*http.Response, error) {
				hosts = append(hosts, r.URL.Host)
				w := httptest.NewRecorder()
				if !strings.Contains(r.URL.Host, "eu-central-1") || tc.never {
					if tc.header != "" {
						w.Header().Set("X-Amz-Bucket-Region", tc.header)
					}
					w.WriteHeader(http.StatusMovedPermanently)
					_, _ = io.WriteString(w, tc.text)
				}
				return w.Result(), nil
			})})
			_, err := c.Head(t.Context(), "k")
			if tc.never {
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, 301, e.Status)
				assert.Len(t, hosts, 2)
				return
			}
			require.NoError(t, err)
			_, err = c.Head(t.Context(), "k")
			require.NoError(t, err)
			assert.Equal(t, []string{"models.s3.us-east-1.amazonaws.com", "models.s3.eu-central-1.amazonaws.com", "models.s3.eu-central-1.amazonaws.com"}, hosts)
		})
	}
}

// TestRefusals: codes come from the text of an answer, also of one of success, or
// from its status.
func TestRefusals(t *testing.T) {
	ctx := context.Background()
	for _, tc := range []struct {
		name   string
		status int
		text   string
		do     func(c *Client) error
		code   string
	}{
		{"text", 403, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>", func(c *Client) error { return c.Delete(ctx, "k") }, "SignatureDoesNotMatch"},
		{"missing object", 404, "", func(c *Client) error { _, err := c.Head(ctx, "k"); return err }, "NoSuchKey"},
		{"missing bucket", 404, "", func(c *Client) error { return c.List(ctx, "", nil) }, "NoSuchBucket"},
		{"denied without text", 403, "", func(c *Client) error { _, err := c.Head(ctx, "k"); return err }, "AccessDenied"},
		{"condition", 412, "", func(c *Client) error { return c.Put(ctx, "k", nil, Absent) }, "PreconditionFailed"},
		{"a page of a proxy", 502, "<html><body>Bad gateway</body></html>", func(c *Client) error { return c.Delete(ctx, "k") }, "Bad Gateway"},
		{"completion that failed after all", 200, "  <Error><Code>InternalError</Code></Error>", func(c *Client) error { return c.Complete(ctx, "k", "id", nil, nil) }, "InternalError"},
		{"listing that failed after all", 200, "<Error><Code>SlowDown</Code></Error>", func(c *Client) error { return c.List(ctx, "", nil) }, "SlowDown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := store(t, nil, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Amz-Request-Id", "id-7")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.text)
			})
			var e *Error
			require.ErrorAs(t, tc.do(c), &e)
			assert.Equal(t, tc.code, e.Code)
			assert.Equal(t, tc.status, e.Status)
			assert.Equal(t, "id-7", e.RequestID)
		})
	}
	t.Run("an answer that is cut off", func(t *testing.T) {
		c := store(t, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<ListBucketResult><Contents>") })
		assert.ErrorContains(t, c.List(ctx, "", nil), "not the one that belongs")
	})
}

// TestListing: pages, encoded keys, folders, and what the store leaves out.
func TestListing(t *testing.T) {
	c := store(t, nil, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		assert.Equal(t, "p/", q.Get("prefix"))
		if q.Get("continuation-token") == "" {
			_, _ = io.WriteString(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated><NextContinuationToken>t+1</NextContinuationToken>
<EncodingType>url</EncodingType><Contents><Key>p/a%2Bb+c%01</Key><Size>7</Size><ETag>"tag"</ETag></Contents></ListBucketResult>`)
			return
		}
		assert.Equal(t, "t+1", q.Get("continuation-token"))
		_, _ = io.WriteString(w, `<ListBucketResult><Contents><Key>p/plain%20</Key><Size>1</Size><ETag>x</ETag></Contents><CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes></ListBucketResult>`)
	})
	var got []Object
	require.NoError(t, c.List(t.Context(), "p/", func(o Object) bool { got = append(got, o); return true }))
	assert.Equal(t, []Object{{"p/a+b c\x01", 7, "tag"}, {"p/plain%20", 1, "x"}, {Key: "p/d/"}}, got)
}

// TestEndlessListing: pages that hold nothing and go on are given up, and so is
// one that says there is more and not where: what is behind it is not left out.
func TestEndlessListing(t *testing.T) {
	for name, test := range map[string]struct {
		token func(page int) string
		pages int
	}{
		"without an end": {strconv.Itoa, maxPages},
		"breaks off":     {func(int) string { return "" }, 1},
		"the same again": {func(int) string { return "x" }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			pages := 0
			c := New(Config{Bucket: "b", Transport: transport(func(*http.Request) (*http.Response, error) {
				pages++
				w := httptest.NewRecorder()
				_, _ = io.WriteString(w, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>"+test.token(pages)+"</NextContinuationToken></ListBucketResult>")
				return w.Result(), nil
			})})
			require.ErrorIs(t, c.List(t.Context(), "", func(Object) bool { return true }), ErrEndless)
			assert.Equal(t, test.pages, pages)
		})
	}
}

// TestCompletion has the text that stores expect.
func TestCompletion(t *testing.T) {
	c := store(t, nil, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		assert.Equal(t, `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part><PartNumber>1</PartNumber><ETag>e1</ETag><ChecksumSHA256>s1</ChecksumSHA256></Part>`+
			`<Part><PartNumber>2</PartNumber><ETag>e2</ETag></Part></CompleteMultipartUpload>`, string(body))
		_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><ETag>x-2</ETag></CompleteMultipartUploadResult>")
	})
	require.NoError(t, c.Complete(t.Context(), "k", "id", []Part{{1, "e1", "s1"}, {2, "e2", ""}}, nil))
}

// TestUnfinished lists uploads and parts.
func TestUnfinished(t *testing.T) {
	at := time.Date(2026, 11, 30, 4, 5, 6, 7e6, time.UTC)
	c := store(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("uploads") {
			_, _ = io.WriteString(w, `<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType><NextKeyMarker>a%20b</NextKeyMarker><NextUploadIdMarker>m</NextUploadIdMarker>
<Upload><Key>a%20b</Key><UploadId>i</UploadId><Initiated>2026-11-30T04:05:06.007Z</Initiated></Upload></ListMultipartUploadsResult>`)
			return
		}
		_, _ = io.WriteString(w, `<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>4</NextPartNumberMarker><Part><LastModified>2026-11-30T04:05:06.007Z</LastModified></Part></ListPartsResult>`)
	})
	uploads, err := c.Uploads(t.Context(), "a", "", "")
	require.NoError(t, err)
	assert.Equal(t, UploadPage{[]Upload{{"a b", "i", at}}, true, "a b", "m"}, uploads)
	parts, err := c.Parts(t.Context(), "a b", "i", 0)
	require.NoError(t, err)
	assert.Equal(t, PartPage{[]time.Time{at}, true, 4}, parts)
}
