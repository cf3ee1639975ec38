package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Server is what a server says of itself; what it does not say is empty.
type Server struct {
	Engine  string // vllm, sglang, glmconv, or what owned_by has
	Version string
	Model   string // the first that it names
	Root    string // folder of the model
	Context int    // tokens; 0: unknown
	Drafts  bool
	Counts  bool // it shows counters that would tell of drafts
}

// String is the server in a few words.
func (s *Server) String() string {
	words := []string{strings.TrimSpace(cmp.Or(s.Engine, "unknown engine") + " " + s.Version), "model " + s.Model}
	if s.Context > 0 {
		words = append(words, fmt.Sprintf("context %d", s.Context))
	}
	switch {
	case s.Drafts:
		words = append(words, "drafts on")
	case s.Counts:
		words = append(words, "no drafts")
	default:
		words = append(words, "drafts unknown")
	}
	return strings.Join(words, ", ")
}

// FindServer asks who answers at the load's URL. The error matches ErrFormat or
// is a [StatusError] where the answer names no model.
func FindServer(ctx context.Context, l *Load) (s Server, err error) {
	var list struct {
		Data []struct {
			ID, Root string
			Owner    string `json:"owned_by"`
			Context  int    `json:"max_model_len"`
		}
	}
	if err := l.get(ctx, "/v1/models", &list); err != nil {
		return s, err
	}
	if len(list.Data) == 0 {
		return s, fmt.Errorf("%w: /v1/models names no model", ErrFormat)
	}
	m := list.Data[0]
	s = Server{Engine: m.Owner, Model: m.ID, Root: m.Root, Context: m.Context}
	path := "/version"
	if s.Engine == "sglang" {
		path = "/server_info"
	}
	var v struct{ Version string }
	if l.get(ctx, path, &v) == nil {
		s.Version = v.Version
	}
	c := l.counters(ctx)
	s.Drafts, s.Counts = c.drafts, c.told
	return s, nil
}

// patience is how long a server may take to say something of itself: one that
// hangs must not hang this client.
var patience = 5 * time.Second

// get reads a small JSON answer.
func (l *Load) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(l.URL, "/")+path, nil)
	if err != nil {
		return err
	}
	if l.Key != "" {
		req.Header.Set("Authorization", "Bearer "+l.Key)
	}
	resp, err := l.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return &StatusError{resp.StatusCode}
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(into); ctx.Err() != nil {
		return fmt.Errorf("%s: %w", path, ctx.Err())
	} else if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFormat, path, err)
	}
	return nil
}

// StatusError is an answer that says a server is not ready or not willing.
type StatusError struct{ Code int }

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.Code, http.StatusText(e.Code))
}
