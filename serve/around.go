package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
)

// shared lets pages of some origins ask, as CORS has it.
func (s *Server) shared(next http.Handler) http.Handler {
	if len(s.o.Origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		any := slices.Contains(s.o.Origins, "*")
		w.Header().Add("Vary", "Origin")
		if origin != "" && (any || slices.Contains(s.o.Origins, origin)) {
			if any {
				origin = "*"
			}
			w.Header().Set("Access-Control-Allow-Origin", origin)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
				w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
				w.Header().Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// observe writes a line for each request: method, path, status, bytes, seconds.
// What was asked and answered stands nowhere.
func (s *Server) observe(next http.Handler) http.Handler {
	if s.o.Log == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, seen := time.Now(), &seen{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		s.o.Log(fmt.Sprintf("%s %s %d, %d bytes, %.3f s", r.Method, r.URL.Path, seen.status, seen.bytes, time.Since(start).Seconds()))
	})
}

// seen remembers what was written.
type seen struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (s *seen) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (s *seen) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	s.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (s *seen) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// defaults are the sampling fields of generation_config.json, which stand for
// what a request does not name, as in vLLM.
type defaults struct {
	Temperature *float64 `json:"temperature"`
	TopP        *float64 `json:"top_p"`
	TopK        *int     `json:"top_k"`
	MinP        *float64 `json:"min_p"`
	Repetition  *float64 `json:"repetition_penalty"`
}

func readDefaults(dir string) (d defaults, err error) {
	path := filepath.Join(dir, "generation_config.json")
	data, err := fsx.ReadRegular(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	} else if err != nil {
		return d, err
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return defaults{}, fmt.Errorf("%s: %w", path, err)
	}
	var q sampling
	d.fill(&q)
	if err := q.check(); err != nil {
		return defaults{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// fill sets what a request does not name.
func (d *defaults) fill(q *sampling) {
	for _, v := range []struct{ into, from **float64 }{{&q.Temperature, &d.Temperature}, {&q.TopP, &d.TopP}, {&q.MinP, &d.MinP}, {&q.Repetition, &d.Repetition}} {
		if *v.into == nil {
			*v.into = *v.from
		}
	}
	if q.TopK == nil {
		q.TopK = d.TopK
	}
}
