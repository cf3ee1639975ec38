package serve

import (
	"errors"
	"net/http"
	"sync/atomic"
)

// errLoading ends requests that come too early.
var errLoading = errors.New("the model is being loaded")

// Gate answers in place of a server while that is being loaded: every route with
// 503 and when to come back, so that nobody who waits for the server hangs. The zero
// value is shut.
type Gate struct{ open atomic.Pointer[http.Handler] }

// Open lets requests through to a server from now on.
func (g *Gate) Open(s *Server) {
	h := s.Handler()
	g.open.Store(&h)
}

// ServeHTTP answers.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := g.open.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	writeError(w, errLoading)
}
