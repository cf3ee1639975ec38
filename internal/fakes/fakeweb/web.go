// Package fakeweb is a folder of a plain web server on loopback.
package fakeweb

import (
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/glmconv/glmconv/internal/fakes"
)

// Web is a running server.
type Web struct {
	*fakes.Rules
	URL   string // of the folder, with a slash at its end
	Files map[string][]byte
	Tags  bool // strong entity tags, and If-Match is kept
}

// New starts a server with files.
func New(tb testing.TB, files map[string][]byte) *Web {
	s := &Web{Rules: fakes.NewRules(), Files: files, Tags: true}
	srv := httptest.NewServer(s.Handle("web", s.serve))
	s.URL = srv.URL + "/models/nano/"
	tb.Cleanup(func() { s.Stop(); srv.CloseClientConnections(); srv.Close() })
	return s
}

func (s *Web) serve(w http.ResponseWriter, r *http.Request, f fakes.Fault) {
	s.Lock()
	data, ok := s.Files[strings.TrimPrefix(r.URL.Path, "/models/nano/")]
	s.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if tag := fmt.Sprintf(`"%08x"`, crc32.ChecksumIEEE(data)); s.Tags {
		w.Header().Set("ETag", tag)
		if m := r.Header.Get("If-Match"); m != "" && m != tag {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
	}
	s.Send(w, r, data, f)
}
