// Package fakehub is a Hugging Face compatible hub on loopback: one repository,
// the four routes that clients need to read, those by which the hub's own client
// writes without xet, and a data host of another origin for files in LFS, with
// signed addresses that end.
package fakehub

import (
	"crypto/sha1" //nolint:gosec // git's name of a file
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/glmconv/glmconv/internal/fakes"
)

// Hub is a running hub.
type Hub struct {
	*fakes.Rules
	URL    string // HF_ENDPOINT
	Data   string // address of the data host
	ID     string // org/name
	Commit string
	Files  map[string][]byte

	Page   int           // entries of a page of the listing (default 1000)
	Life   time.Duration // of a signed address (default an hour)
	Gated  bool          // 401 with GatedRepo
	Token  string        // if set, requests to the hub need it
	Mirror bool          // Link names the default hub
	Plain  bool          // shards lie in git itself, not in LFS
	Moved  string        // what main leads to now, with the same files; "" for Commit

	Part int64 // uploads of more bytes come in parts of so many; 0: whole

	onDisk map[string]onDisk
	up     uploads
}

// New starts a hub with the files of a folder.
func New(tb testing.TB, id, dir string) *Hub {
	tb.Helper()
	files, err := Folder(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return NewFiles(tb, id, files)
}

// NewDir starts a hub that serves the files of a folder from the disk, as large as
// they are: the server is no limit, and costs little of the processor. Without
// hashed the listing names hashes that are not those of the shards, for runs that
// read headers alone.
func NewDir(tb testing.TB, id, dir string, hashed bool) *Hub {
	tb.Helper()
	h := NewFiles(tb, id, map[string][]byte{})
	h.onDisk = map[string]onDisk{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !lfs(e.Name()) {
			if h.Files[e.Name()], err = os.ReadFile(path); err != nil {
				tb.Fatal(err)
			}
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			tb.Fatal(err)
		}
		sum := sha256.New()
		if hashed {
			_, err = io.Copy(sum, f)
		} else {
			_, err = io.WriteString(sum, e.Name())
		}
		st, err2 := f.Stat()
		if err := errors.Join(err, err2, f.Close()); err != nil {
			tb.Fatal(err)
		}
		h.onDisk[e.Name()] = onDisk{path, st.Size(), hex.EncodeToString(sum.Sum(nil))}
	}
	return h
}

// onDisk is a file that is served from the disk.
type onDisk struct {
	path string
	size int64
	sum  string
}

// names lists all files.
func (h *Hub) names() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for n := range h.Files {
			if !yield(n) {
				return
			}
		}
		for n := range h.onDisk {
			if !yield(n) {
				return
			}
		}
	})
}

// size returns the length of a file, false if there is none.
func (h *Hub) size(name string) (int64, bool) {
	if f, ok := h.onDisk[name]; ok {
		return f.size, true
	}
	data, ok := h.Files[name]
	return int64(len(data)), ok
}

// Folder reads the files of a folder.
func Folder(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// NewFiles starts a hub with files.
func NewFiles(tb testing.TB, id string, files map[string][]byte) *Hub {
	h := &Hub{Rules: fakes.NewRules(), ID: id, Files: files, Commit: strings.Repeat("c0ffee12", 5), Page: 1000, Life: time.Hour,
		up: uploads{parts: map[string]map[int][]byte{}, whole: map[string][]byte{}}}
	hub := httptest.NewServer(h.Handle("hub", h.hub))
	data := httptest.NewServer(h.Handle("data", h.data))
	h.URL, h.Data = hub.URL, data.URL
	tb.Cleanup(func() {
		h.Stop()
		hub.CloseClientConnections()
		data.CloseClientConnections()
		hub.Close()
		data.Close()
	})
	return h
}

// Env returns the environment of a client of this hub.
func (h *Hub) Env(home string) []string {
	return []string{"HF_ENDPOINT=" + h.URL, "HF_HOME=" + home, "NO_PROXY=*", "HF_TOKEN=" + h.Token}
}

func lfs(name string) bool { return strings.HasSuffix(name, ".safetensors") }

// SHA256 returns the hash of a file as it should be.
func (h *Hub) SHA256(name string) string {
	if f, ok := h.onDisk[name]; ok {
		return f.sum
	}
	sum := sha256.Sum256(h.Files[name])
	return hex.EncodeToString(sum[:])
}

func git(data []byte) string {
	s := sha1.New() //nolint:gosec // see above
	fmt.Fprintf(s, "blob %d\x00", len(data))
	s.Write(data)
	return hex.EncodeToString(s.Sum(nil))
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Error-Code", code)
	w.WriteHeader(status)
}

// hub answers for the hub itself.
func (h *Hub) hub(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
	w.Header().Set("X-Repo-Commit", h.Commit)
	switch {
	case h.Gated:
		refuse(w, http.StatusUnauthorized, "GatedRepo")
		return
	case h.Token != "" && r.Header.Get("Authorization") != "Bearer "+h.Token:
		refuse(w, http.StatusUnauthorized, "RepoNotFound")
		return
	}
	if r.Method == http.MethodPost && h.write(w, r) {
		return
	}
	rest, api := strings.CutPrefix(r.URL.EscapedPath(), "/api/models/")
	rest = strings.TrimPrefix(rest, "/")
	rest, ours := strings.CutPrefix(rest, h.ID+"/")
	kind, rest, _ := strings.Cut(rest, "/")
	switch {
	case !ours:
		refuse(w, http.StatusNotFound, "RepoNotFound")
	case api && kind == "revision":
		if rest != "main" && rest != "refs%2Fpr%2F1" && !h.commit(rest) {
			refuse(w, http.StatusNotFound, "RevisionNotFound")
			return
		}
		sha := h.Commit
		if h.Moved != "" && rest == "main" {
			sha = h.Moved
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"id": h.ID, "sha": sha})
	case api && kind == "tree":
		h.tree(w, r, rest)
	case kind == "resolve":
		h.resolve(w, r, rest, f)
	default:
		refuse(w, http.StatusNotFound, "EntryNotFound")
	}
}

// commit reports whether a revision is one of the commits.
func (h *Hub) commit(rev string) bool { return rev == h.Commit || h.Moved != "" && rev == h.Moved }

// tree answers with a page of the listing.
func (h *Hub) tree(w http.ResponseWriter, r *http.Request, rest string) {
	commit, _, _ := strings.Cut(rest, "/")
	if !h.commit(commit) {
		refuse(w, http.StatusNotFound, "RevisionNotFound")
		return
	}
	names := h.names()
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	to := min(from+h.Page, len(names))
	out := []map[string]any{{"type": "directory", "path": "figures", "oid": "0", "size": 0}}
	for _, n := range names[min(from, to):to] {
		size, _ := h.size(n)
		e := map[string]any{"type": "file", "path": n, "size": size, "oid": git(h.Files[n])}
		if lfs(n) && !h.Plain {
			e["lfs"] = map[string]any{"oid": h.SHA256(n), "size": size, "pointerSize": 134}
		}
		out = append(out, e)
	}
	if to < len(names) {
		base := h.URL
		if h.Mirror {
			base = "https://huggingface.co"
		}
		q := r.URL.Query()
		q.Set("cursor", strconv.Itoa(to))
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next"`, base, r.URL.Path, q.Encode()))
	}
	_ = json.NewEncoder(w).Encode(out)
}

// resolve answers with a small file, or where a large one is.
func (h *Hub) resolve(w http.ResponseWriter, r *http.Request, rest string, f fakes.Fault) {
	rev, escaped, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(escaped)
	size, ok := h.size(name)
	if err != nil || !ok || !h.commit(rev) && rev != "main" {
		refuse(w, http.StatusNotFound, "EntryNotFound")
		return
	}
	if !lfs(name) || h.Plain {
		w.Header().Set("ETag", `"`+git(h.Files[name])+`"`)
		h.Send(w, r, h.Files[name], f)
		return
	}
	w.Header().Set("X-Linked-Etag", `"`+h.SHA256(name)+`"`)
	w.Header().Set("X-Linked-Size", strconv.FormatInt(size, 10))
	end := strconv.FormatFloat(float64(time.Now().Add(h.Life).UnixMilli())/1000, 'f', 3, 64)
	w.Header().Set("Location", h.Data+"/"+escaped+"?Expires="+strings.Split(end, ".")[0]+"&Until="+end+"&Signature=secret-signature")
	w.WriteHeader(http.StatusFound)
}

// data answers for the data host.
func (h *Hub) data(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
	if r.Method == http.MethodPut {
		h.put(w, r)
		return
	}
	until, err := strconv.ParseFloat(r.URL.Query().Get("Until"), 64)
	name := strings.TrimPrefix(r.URL.Path, "/")
	_, ok := h.size(name)
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	case f == fakes.Expired, err != nil, r.URL.Query().Get("Signature") == "", float64(time.Now().UnixMilli())/1000 > until:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "Request has expired")
	default:
		w.Header().Set("ETag", `"`+h.SHA256(name)+`"`)
		if at, ok := h.onDisk[name]; ok {
			h.SendFile(w, r, at.path, at.size)
			return
		}
		h.Send(w, r, h.Files[name], f)
	}
}
