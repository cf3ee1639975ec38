// Package fakescope is ModelScope on loopback: one repository, the two routes that
// clients need, and a data host of another origin for shards.
package fakescope

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/glmconv/glmconv/internal/fakes"
)

// Scope is a running server.
type Scope struct {
	*fakes.Rules
	URL   string // MODELSCOPE_ENDPOINT
	Data  string
	ID    string
	Files map[string][]byte
	Pad   int // further files in a subfolder, to reach the cap of listings
}

// New starts a server with files.
func New(tb testing.TB, id string, files map[string][]byte) *Scope {
	s := &Scope{Rules: fakes.NewRules(), ID: id, Files: files}
	api := httptest.NewServer(s.Handle("scope", s.api))
	data := httptest.NewServer(s.Handle("data", func(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
		s.Send(w, r, s.Files[strings.TrimPrefix(r.URL.Path, "/")], f)
	}))
	s.URL, s.Data = api.URL, data.URL
	tb.Cleanup(func() {
		s.Stop()
		api.CloseClientConnections()
		data.CloseClientConnections()
		api.Close()
		data.Close()
	})
	return s
}

// api answers for the site itself.
func (s *Scope) api(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
	q := r.URL.Query()
	switch r.URL.Path {
	case "/api/v1/models/" + s.ID + "/repo/files":
		s.list(w, q.Get("Recursive") == "True")
	case "/api/v1/models/" + s.ID + "/repo":
		name := q.Get("FilePath")
		data, ok := s.Files[name]
		switch {
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		case strings.HasSuffix(name, ".safetensors"):
			w.Header().Set("X-Linked-ETag", sum(data))
			http.Redirect(w, r, s.Data+"/"+name+"?auth_key=Signature=secret", http.StatusFound)
		default: // files that are not in LFS are always sent whole
			s.Send(w, r, data, fakes.Whole)
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(map[string]any{"Code": 10010205001, "Success": false, "Message": "not found"})
	}
}

// list cuts at 3,000 entries without a word, as the real one does.
func (s *Scope) list(w http.ResponseWriter, recursive bool) {
	var out []map[string]any
	if recursive {
		for range s.Pad {
			out = append(out, map[string]any{"Path": "figures/x.png", "Name": "x.png", "Type": "blob", "Size": 1})
		}
	}
	for _, n := range slices.Sorted(maps.Keys(s.Files)) {
		out = append(out, map[string]any{"Path": n, "Name": n, "Type": "blob", "Size": len(s.Files[n]), "Sha256": sum(s.Files[n]), "Revision": "r1"})
	}
	out = out[:min(3000, len(out))]
	_ = json.NewEncoder(w).Encode(map[string]any{"Code": 200, "Success": true, "Data": map[string]any{"Files": out}})
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
