// Package fakeazure is Azure Blob Storage on loopback, as far as reading goes:
// listing by prefix, page by page, blobs by ranges under an entity tag, signed
// queries, and the server that hands out tokens to applications.
package fakeazure

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/glmconv/glmconv/internal/fakes"
)

// SAS is the query that a store takes.
const SAS = "sv=2021-12-02&sp=rl&se=2099-01-01T00%3A00%3A00Z&sig=glmconv-canary-4711"

// Secret is what an application proves itself with.
const Secret = "glmconv-canary-4711-secret"

// Store is a running store with one container.
type Store struct {
	*fakes.Rules
	URL       string // AZURE_STORAGE_SERVICE_ENDPOINT
	Authority string // AZURE_AUTHORITY_HOST
	Container string
	Blobs     map[string][]byte
	Page      int           // blobs of a page of a listing
	Public    bool          // nobody needs credentials
	Life      time.Duration // of a token
	Issued    int           // tokens so far

	tokens map[string]time.Time // until when
}

// New starts a store of the account "acct" with blobs.
func New(tb testing.TB, container string, blobs map[string][]byte) *Store {
	s := &Store{Rules: fakes.NewRules(), Container: container, Blobs: blobs, Page: 5000, Life: time.Hour, tokens: map[string]time.Time{}}
	srv := httptest.NewServer(s.Handle("az", s.serve))
	s.URL, s.Authority = srv.URL+"/acct", srv.URL+"/login"
	tb.Cleanup(func() { s.Stop(); srv.CloseClientConnections(); srv.Close() })
	return s
}

// Env returns the environment of a client with a signed query.
func (s *Store) Env() []string {
	return []string{"AZURE_STORAGE_SERVICE_ENDPOINT=" + s.URL, "AZURE_STORAGE_SAS_TOKEN=?" + SAS}
}

// Application returns the environment of a client with an application's secret.
func (s *Store) Application() []string {
	return []string{"AZURE_STORAGE_SERVICE_ENDPOINT=" + s.URL, "AZURE_AUTHORITY_HOST=" + s.Authority, "AZURE_TENANT_ID=tenant", "AZURE_CLIENT_ID=app", "AZURE_CLIENT_SECRET=" + Secret}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
	if strings.HasPrefix(r.URL.Path, "/login/") {
		s.token(w, r)
		return
	}
	container, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/acct/"), "/")
	switch code, status := s.judge(r, f); {
	case status != 0:
		refuse(w, status, code)
	case container != s.Container:
		refuse(w, http.StatusNotFound, "ContainerNotFound")
	case name == "" && r.URL.Query().Get("comp") == "list" && r.URL.Query().Get("restype") == "container":
		s.list(w, r)
	default:
		s.blob(w, r, name, f)
	}
}

// judge looks at the credentials of a request.
func (s *Store) judge(r *http.Request, f fakes.Fault) (code string, status int) {
	s.Lock()
	defer s.Unlock()
	want, _ := url.ParseQuery(SAS)
	bearer, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	until, issued := s.tokens[bearer]
	switch {
	case f == fakes.Expired:
		return "AuthenticationFailed", http.StatusForbidden
	case r.Header.Get("X-Ms-Version") == "":
		return "MissingRequiredHeader", http.StatusBadRequest
	case s.Public:
	case isBearer && issued && time.Now().Before(until):
	case isBearer:
		return "InvalidAuthenticationInfo", http.StatusUnauthorized
	case r.URL.Query().Get("sig") == "":
		return "PublicAccessNotPermitted", http.StatusConflict
	case r.URL.Query().Get("sig") != want.Get("sig"), r.URL.Query().Get("se") != want.Get("se"):
		return "AuthenticationFailed", http.StatusForbidden
	}
	return "", 0
}

func (s *Store) token(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/login/tenant/oauth2/v2.0/token" || r.PostFormValue("client_id") != "app" || r.PostFormValue("client_secret") != Secret && r.PostFormValue("client_assertion") != Secret {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": "invalid_client"}`)
		return
	}
	s.Lock()
	defer s.Unlock()
	s.Issued++
	token := fmt.Sprintf("glmconv-canary-4711-%d", s.Issued)
	s.tokens[token] = time.Now().Add(s.Life)
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "expires_in": max(1, int(s.Life.Seconds())), "token_type": "Bearer"})
}

func tag(data []byte) string { return fmt.Sprintf("0x8D%08X", crc32.ChecksumIEEE(data)) }

func (s *Store) blob(w http.ResponseWriter, r *http.Request, name string, f fakes.Fault) {
	s.Lock()
	data, ok := s.Blobs[name]
	s.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	w.Header().Set("ETag", `"`+tag(data)+`"`)
	if want := r.Header.Get("If-Match"); want != "" && want != `"`+tag(data)+`"` {
		refuse(w, http.StatusPreconditionFailed, "ConditionNotMet")
		return
	}
	if span := r.Header.Get("X-Ms-Range"); span != "" {
		r.Header.Set("Range", span)
	}
	s.Send(w, r, data, f)
}

type properties struct {
	Size int    `xml:"Content-Length"`
	ETag string `xml:"Etag"`
	Type string `xml:"ResourceType,omitempty"`
}

type entry struct {
	Name       string
	Properties properties
}

type prefix struct{ Name string }

// list answers with a page of the listing, folders as a hierarchical namespace
// shows them.
func (s *Store) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	out := struct {
		XMLName xml.Name `xml:"EnumerationResults"`
		Prefix  string
		Blobs   struct {
			Blob       []entry
			BlobPrefix []prefix
		}
		NextMarker string
	}{Prefix: q.Get("prefix")}
	s.Lock()
	defer s.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.Blobs)) {
		rest, ok := strings.CutPrefix(k, q.Get("prefix"))
		if !ok || k <= q.Get("marker") {
			continue
		}
		if dir, _, deep := strings.Cut(rest, "/"); deep && q.Get("delimiter") == "/" {
			out.Blobs.BlobPrefix = append(out.Blobs.BlobPrefix, prefix{q.Get("prefix") + dir + "/"})
			out.Blobs.Blob = append(out.Blobs.Blob, entry{q.Get("prefix") + dir, properties{0, "0x8D0", "directory"}})
			continue
		}
		if len(out.Blobs.Blob) >= s.Page {
			out.NextMarker = out.Blobs.Blob[len(out.Blobs.Blob)-1].Name
			break
		}
		out.Blobs.Blob = append(out.Blobs.Blob, entry{k, properties{len(s.Blobs[k]), tag(s.Blobs[k]), ""}})
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprint(w, "\xef\xbb\xbf")
	_ = xml.NewEncoder(w).Encode(out)
}

// Revoke ends all tokens.
func (s *Store) Revoke() {
	s.Lock()
	defer s.Unlock()
	clear(s.tokens)
}
