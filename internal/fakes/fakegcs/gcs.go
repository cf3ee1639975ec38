// Package fakegcs is Google Cloud Storage on loopback, as far as its XML interface
// reads: listing by prefix, page by page, objects by ranges at a generation, and the
// server that hands out tokens to service accounts.
package fakegcs

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/glmconv/glmconv/internal/fakes"
)

// Store is a running store with one bucket.
type Store struct {
	*fakes.Rules
	URL     string // STORAGE_EMULATOR_HOST
	Bucket  string
	Objects map[string][]byte
	Page    int           // keys of a page of a listing
	Public  bool          // nobody needs a token
	Life    time.Duration // of a token
	Issued  int           // tokens so far

	key    *rsa.PrivateKey
	tokens map[string]time.Time // until when
}

// New starts a store with objects.
func New(tb testing.TB, bucket string, objects map[string][]byte) *Store {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	s := &Store{Rules: fakes.NewRules(), Bucket: bucket, Objects: objects, Page: 1000, Life: time.Hour, key: key, tokens: map[string]time.Time{}}
	srv := httptest.NewServer(s.Handle("gs", s.serve))
	s.URL = srv.URL
	tb.Cleanup(func() { s.Stop(); srv.CloseClientConnections(); srv.Close() })
	return s
}

// Account writes the file of a service account and returns its path.
func (s *Store) Account(tb testing.TB) string {
	raw, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "glmconv@example.iam", "private_key_id": "k1", "token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))})
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "account.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Env returns the environment of a client with a service account.
func (s *Store) Env(tb testing.TB) []string {
	return []string{"STORAGE_EMULATOR_HOST=" + s.URL, "GOOGLE_APPLICATION_CREDENTIALS=" + s.Account(tb)}
}

// Revoke ends all tokens.
func (s *Store) Revoke() {
	s.Lock()
	defer s.Unlock()
	clear(s.tokens)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
	if r.URL.Path == "/token" && r.Method == http.MethodPost {
		s.token(w, r)
		return
	}
	s.Lock()
	until, ok := s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	public := s.Public
	s.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case f == fakes.Expired:
		refuse(w, http.StatusForbidden, "AccessDenied")
	case !public && r.Header.Get("Authorization") == "":
		refuse(w, http.StatusForbidden, "AccessDenied")
	case !public && (!ok || time.Now().After(until)):
		refuse(w, http.StatusUnauthorized, "AuthenticationRequired")
	case bucket != s.Bucket:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case key == "":
		s.list(w, r)
	default:
		s.object(w, r, key, f)
	}
}

// token checks the signed assertion of a service account.
func (s *Store) token(w http.ResponseWriter, r *http.Request) {
	head, signature, ok := cutLast(r.PostFormValue("assertion"))
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	sum := sha256.Sum256([]byte(head))
	if !ok || err != nil || rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, sum[:], raw) != nil {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "invalid_grant"}`)
		return
	}
	s.Lock()
	defer s.Unlock()
	s.Issued++
	token := fmt.Sprintf("glmconv-canary-4711-%d", s.Issued)
	s.tokens[token] = time.Now().Add(s.Life)
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "expires_in": max(1, int(s.Life.Seconds())), "token_type": "Bearer"})
}

func cutLast(text string) (before, after string, ok bool) {
	i := strings.LastIndexByte(text, '.')
	if i < 0 {
		return "", "", false
	}
	return text[:i], text[i+1:], true
}

func generation(data []byte) string {
	return strconv.FormatUint(1<<50+uint64(crc32.ChecksumIEEE(data)), 10)
}

func (s *Store) object(w http.ResponseWriter, r *http.Request, key string, f fakes.Fault) {
	s.Lock()
	data, ok := s.Objects[key]
	s.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("X-Goog-Generation", generation(data))
	if want := r.Header.Get("X-Goog-If-Generation-Match"); want != "" && want != generation(data) {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	s.Send(w, r, data, f)
}

type content struct {
	Key        string
	Generation string
	Size       int
	ETag       string
}

// list answers with a page of the listing.
func (s *Store) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name, Prefix          string
		IsTruncated           bool
		NextContinuationToken string    `xml:",omitempty"`
		Contents              []content `xml:"Contents"`
	}{Name: s.Bucket, Prefix: q.Get("prefix")}
	s.Lock()
	defer s.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.Objects)) {
		rest, ok := strings.CutPrefix(k, q.Get("prefix"))
		if !ok || k <= q.Get("continuation-token") || strings.Contains(rest, "/") && q.Get("delimiter") == "/" {
			continue
		}
		if len(out.Contents) == s.Page {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[s.Page-1].Key
			break
		}
		out.Contents = append(out.Contents, content{k, generation(s.Objects[k]), len(s.Objects[k]), `"` + generation(s.Objects[k]) + `"`})
	}
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	_ = xml.NewEncoder(w).Encode(out)
}
