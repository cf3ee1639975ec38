package serve

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/grammar"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/runtime/vision"
)

// Options say how to serve; the zero value is the default.
type Options struct {
	Names       []string // of the model; none: every name is taken
	Key         string   // that clients must send; "": none
	MaxLen      int      // tokens of prompt and answer; 0: the model's
	MaxSeqs     int      // sequences at once; 0: 16
	MaxQueue    int      // requests that wait; 0: 128
	CacheBytes  int64    // of keys and values; 0: 4 GiB
	MaxBody     int64    // bytes of a request; 0: 64 MiB
	MaxLogprobs int      // 0: 20; -1: the whole vocabulary
	// ReasoningField names where reasoning stands in answers: both (""), reasoning, reasoning_content.
	ReasoningField string
	Media          MediaOptions
	Speculative    int           // drafts of the MTP layer in each pass; 0: none
	Ping           time.Duration // of silence in a stream, after which a comment is written; 0: never
	Origins        []string      // whose pages may ask; "*": any
	Log            func(string)  // takes a line for each request; nil: none
	Version        string
	Threads        int // of the model
}

// Server is a checkpoint that answers.
type Server struct {
	o       Options
	dir     string
	model   *runtime.Model
	tok     *tokenizer.Tokenizer
	tmpl    *chat.Template // nil: only completions
	sched   *scheduler
	metrics *metrics
	vision  *vision.Processor // nil: text only
	fetch   *fetcher
	looking chan struct{}
	started int64
	closing atomic.Bool
	active  atomic.Int64 // requests that are being answered
	usual   defaults

	wordsOnce sync.Once
	words     *grammar.Words
}

// New loads a checkpoint. Errors are those of packages runtime and tokenizer.
func New(dir string, o Options) (*Server, error) {
	tok, err := tokenizer.Load(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		return nil, err
	}
	model, err := runtime.Load(dir, runtime.Options{Threads: o.Threads})
	if err != nil {
		return nil, err
	}
	cfg := model.Config()
	if o.MaxLen <= 0 || o.MaxLen > cfg.MaxPositions {
		o.MaxLen = cfg.MaxPositions
	}
	setDefault(&o.MaxSeqs, 16)
	setDefault(&o.MaxQueue, 128)
	setDefault(&o.MaxLogprobs, 20)
	setDefault(&o.CacheBytes, 4<<30)
	setDefault(&o.MaxBody, 64<<20)
	s := &Server{o: o, dir: dir, model: model, tok: tok, metrics: new(metrics), started: time.Now().Unix()}
	if s.tmpl, err = chat.Load(dir); err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		_ = model.Close()
		return nil, err
	}
	if s.usual, err = readDefaults(dir); err != nil {
		_ = model.Close()
		return nil, err
	}
	s.fetch, s.looking = newFetcher(o.Media), make(chan struct{}, 1)
	if cfg.Vision != nil {
		if s.vision, err = vision.Load(dir, cfg); err != nil {
			_ = model.Close()
			return nil, err
		}
	}
	var mtp *runtime.MTP
	if o.Speculative > 0 {
		if mtp, err = model.MTP(); err != nil {
			_ = model.Close()
			return nil, err
		}
	}
	s.metrics.k, s.metrics.slots = o.Speculative, int(o.CacheBytes/slotBytes(model, o.Speculative > 0))
	s.sched = newScheduler(model, o.MaxSeqs, o.MaxQueue, s.metrics.slots, s.metrics)
	s.sched.drafts, s.sched.mtp = o.Speculative, mtp
	go s.sched.loop()
	return s, nil
}

func setDefault[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// slotBytes is what the caches keep of one token, in float32.
func slotBytes(m *runtime.Model, drafts bool) int64 {
	cfg := m.Config()
	each := 2 * cfg.KVHeads * cfg.HeadDim
	if cfg.LatentAttention() {
		each = cfg.KVLoraRank + cfg.QKRopeHeadDim + cfg.IndexHeadDim
	}
	layers := cfg.Layers
	if drafts {
		layers++
	}
	return max(4*int64(each)*int64(layers), 1)
}

// Close ends all requests and releases the checkpoint.
func (s *Server) Close() error {
	s.closing.Store(true)
	s.sched.close()
	return s.model.Close()
}

// Stop refuses new requests, lets /health say that the server is going, and
// returns when those that it has are answered or ctx is done.
func (s *Server) Stop(ctx context.Context) {
	s.closing.Store(true)
	for s.active.Load() > 0 && ctx.Err() == nil {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// Handler answers all routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	posts := map[string]func(http.ResponseWriter, *http.Request) error{
		"/v1/chat/completions": s.chat, "/v1/completions": s.completions, "/tokenize": s.tokenize, "/detokenize": s.detokenize, "/generate": s.generate,
	}
	for path, h := range posts {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
				writeError(w, &apiError{status: http.StatusUnsupportedMediaType, message: "the body must be application/json"})
				return
			}
			s.active.Add(1)
			defer s.active.Add(-1)
			if s.closing.Load() {
				writeError(w, errClosed)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, s.o.MaxBody)
			if err := h(w, r); err != nil {
				writeError(w, err)
			}
		})
	}
	health := func(w http.ResponseWriter, _ *http.Request) {
		if s.closing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	mux.HandleFunc("GET /health", health)
	mux.HandleFunc("GET /ping", health)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		s.metrics.write(w, s.name(), s.o.Version)
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"version": s.o.Version}) })
	for _, path := range []string{"/server_info", "/get_server_info"} {
		mux.HandleFunc("GET "+path, s.serverInfo)
	}
	for _, path := range []string{"/model_info", "/get_model_info"} {
		mux.HandleFunc("GET "+path, s.modelInfo)
	}
	for _, path := range []string{"/reset_prefix_cache", "/flush_cache"} {
		mux.HandleFunc("POST "+path, s.forget)
	}
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"object": "list", "data": []any{s.card(s.name())}})
	})
	mux.HandleFunc("GET /v1/models/{id...}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		if id == "" {
			writeError(w, &apiError{status: http.StatusNotFound, message: "no such route"})
			return
		}
		if err := s.known(&id); err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, s.card(id))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if posts[r.URL.Path] != nil {
			writeError(w, &apiError{status: http.StatusMethodNotAllowed, message: "the route takes POST"})
			return
		}
		writeError(w, &apiError{status: http.StatusNotFound, message: "no such route"})
	})
	return s.observe(s.shared(s.guard(mux)))
}

// guard asks for the key, everywhere but where a machine watches.
func (s *Server) guard(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte("Bearer " + s.o.Key))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.o.Key != "" && !slices.Contains([]string{"/health", "/ping", "/metrics"}, r.URL.Path) {
			got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
			if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				writeError(w, &apiError{status: http.StatusUnauthorized, message: "Incorrect API key"})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) name() string {
	if len(s.o.Names) > 0 {
		return s.o.Names[0]
	}
	return filepath.Base(s.dir)
}

func (s *Server) card(id string) map[string]any {
	return map[string]any{"id": id, "object": "model", "created": s.started, "owned_by": "glmconv", "root": s.dir, "parent": nil, "max_model_len": s.o.MaxLen}
}

// known refuses a name that is not served and fills in the first one where a request has none, as vLLM answers.
func (s *Server) known(name *string) error {
	if *name == "" {
		*name = s.name()
	}
	if len(s.o.Names) == 0 || slices.Contains(s.o.Names, *name) {
		return nil
	}
	return &apiError{http.StatusNotFound, "the model " + *name + " does not exist", "model"}
}

// decode reads a JSON body. Unknown fields are ignored, wrong types are not.
func decode(r *http.Request, into any) error {
	err := json.NewDecoder(r.Body).Decode(into)
	var size *http.MaxBytesError
	var typed *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &size):
		return &apiError{status: http.StatusRequestEntityTooLarge, message: "the body is too large"}
	case errors.As(err, &typed):
		field, _, _ := strings.Cut(typed.Field, ".")
		return bad(field, "%s must not be a %s", typed.Field, typed.Value)
	}
	return bad("", "the body is no JSON object of a request")
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Model    string          `json:"model"`
		Prompt   string          `json:"prompt"`
		Messages json.RawMessage `json:"messages"`
	}
	if err := decode(r, &q); err != nil {
		return err
	}
	if err := s.known(&q.Model); err != nil {
		return err
	}
	ids, err := s.tok.EncodeContext(r.Context(), q.Prompt)
	if err != nil {
		return err
	}
	if len(q.Messages) > 0 {
		p, _, err := s.render(r.Context(), &chatRequest{Messages: q.Messages})
		if err != nil {
			return err
		}
		if ids, err = p.EncodeContext(r.Context(), s.tok); err != nil {
			return err
		}
	}
	if ids == nil {
		ids = []int{}
	}
	writeJSON(w, map[string]any{"tokens": ids, "count": len(ids), "max_model_len": s.o.MaxLen})
	return nil
}

func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Model  string `json:"model"`
		Tokens []int  `json:"tokens"`
	}
	if err := decode(r, &q); err != nil {
		return err
	}
	if err := s.inVocabulary(q.Tokens); err != nil {
		return err
	}
	writeJSON(w, map[string]any{"prompt": strings.ToValidUTF8(s.tok.Decode(q.Tokens), "\ufffd")})
	return nil
}

func (s *Server) inVocabulary(ids []int) error {
	for _, id := range ids {
		if id < 0 || id >= s.model.Config().VocabSize {
			return bad("prompt", "token id %d is not in the vocabulary of %d", id, s.model.Config().VocabSize)
		}
	}
	return nil
}
