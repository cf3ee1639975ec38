package serve

import (
	"context"
	"net/http"

	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/grammar"
)

// generateRequest is a body of /generate, SGLang's own route: what its bench
// and verifiers send.
type generateRequest struct {
	Text   *string `json:"text"`
	IDs    []int   `json:"input_ids"`
	Params struct {
		Temperature *float64 `json:"temperature"`
		TopP        *float64 `json:"top_p"`
		TopK        *int     `json:"top_k"`
		MaxNew      *int     `json:"max_new_tokens"`
		Stop        any      `json:"stop"`
		StopIDs     []int    `json:"stop_token_ids"`
		IgnoreEOS   bool     `json:"ignore_eos"`
		Schema      *string  `json:"json_schema"`
		Regex       *string  `json:"regex"`
		EBNF        *string  `json:"ebnf"`
	} `json:"sampling_params"`
	Stream  bool  `json:"stream"`
	Probs   bool  `json:"return_logprob"`
	Start   int   `json:"logprob_start_len"`
	Top     int   `json:"top_logprobs_num"`
	Wanted  []int `json:"token_ids_logprob"`
	NoTexts *bool `json:"return_text_in_logprobs"`
}

// defaultNew is how many tokens are made where a request does not say.
const defaultNew = 128

func (s *Server) generate(w http.ResponseWriter, r *http.Request) error {
	q := generateRequest{Start: -1}
	if err := decode(r, &q); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	ids := q.IDs
	if q.Text != nil {
		var err error
		if ids, err = s.tok.EncodeContext(r.Context(), *q.Text); err != nil {
			return err
		}
	}
	if err := s.inVocabulary(q.Wanted); err != nil {
		return err
	}
	p, err := q.sampling()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var top *int
	if q.Probs {
		top = &q.Top
	}
	j, err := s.job(ctx, p, ids, top, 0)
	if err != nil {
		return err
	}
	if q.Probs && q.Start >= 0 {
		j.asked, j.wanted = q.Top, q.Wanted
	}
	if err := s.sched.add(j); err != nil {
		return err
	}
	a := &nativeAnswer{textAnswer: textAnswer{s: s, read: s.reader(p)}, j: j, id: newID("")}
	if q.Stream {
		a.events = newSSE(w)
	}
	if err := s.follow(ctx, j, a, a.events); err != nil {
		if a.events != nil && a.events.begun {
			a.events.end(err)
			return nil
		}
		return err
	}
	a.text += a.read.rest()
	if a.events != nil {
		a.events.send(a.whole(&q))
		a.events.end(nil)
		return nil
	}
	writeJSON(w, a.whole(&q))
	return nil
}

// check says what of the request contradicts itself or is not supported.
func (q *generateRequest) check() error {
	switch {
	case (q.Text == nil) == (len(q.IDs) == 0):
		return bad("text", "text or input_ids, one of the two")
	case q.Probs && q.Stream:
		return bad("return_logprob", "return_logprob and stream exclude each other")
	case q.Top < 0 || len(q.Wanted) > 1024:
		return bad("top_logprobs_num", "top_logprobs_num is not negative, and token_ids_logprob has at most 1024 ids")
	case q.Params.Regex != nil || q.Params.EBNF != nil:
		return bad("sampling_params", "regex and ebnf are not supported by this server; json_schema is")
	case q.Start > len(q.IDs) && q.Text == nil:
		return bad("logprob_start_len", "logprob_start_len lies behind the prompt")
	}
	return nil
}

// sampling takes the request's parameters over.
func (q *generateRequest) sampling() (*sampling, error) {
	p := &sampling{Temperature: q.Params.Temperature, TopP: q.Params.TopP, TopK: q.Params.TopK, MaxTokens: q.Params.MaxNew, Stop: q.Params.Stop, StopIDs: q.Params.StopIDs,
		IgnoreEOS: q.Params.IgnoreEOS, defaultLimit: defaultNew}
	if err := p.check(); err != nil {
		return nil, err
	}
	if q.Params.Schema != nil {
		v, err := chat.ParseJSON([]byte(*q.Params.Schema))
		if err != nil {
			return nil, bad("sampling_params", "json_schema: %v", err)
		}
		if p.shape, err = grammar.Schema(v); err != nil {
			return nil, bad("sampling_params", "json_schema: %v", err)
		}
	}
	return p, nil
}

// nativeAnswer collects an answer; its stream has all of the text so far in each
// event.
type nativeAnswer struct {
	textAnswer
	j      *job
	id     string
	events *sse
}

func (a *nativeAnswer) step() {
	if a.events != nil {
		a.events.send(map[string]any{"text": a.text, "meta_info": a.meta(nil)})
	}
}

func (a *nativeAnswer) meta(reason any) map[string]any {
	return map[string]any{"id": a.id, "prompt_tokens": len(a.j.prompt), "completion_tokens": a.tokens, "cached_tokens": a.j.cached, "finish_reason": reason}
}

func (a *nativeAnswer) whole(q *generateRequest) map[string]any {
	m := a.meta(map[string]any{"type": a.reason})
	if q.Probs {
		a.put(m, "output", a.probs, 0)
		if q.Start >= 0 {
			list := a.prompt
			if list == nil {
				list = make([]*position, len(a.j.prompt))
			}
			a.put(m, "input", list, q.Start)
		}
	}
	return map[string]any{"text": a.text, "output_ids": a.ids, "meta_info": m}
}

// put writes [log-probability, id, text] lists; the first token of a prompt has no
// figure.
func (a *nativeAnswer) put(m map[string]any, side string, list []*position, start int) {
	actual, top, wanted := []any{}, []any{}, []any{}
	for i, p := range list {
		if i < start {
			continue
		}
		if p == nil {
			id := 0
			if i < len(a.j.prompt) {
				id = a.j.prompt[i]
			}
			actual, top, wanted = append(actual, []any{nil, id, nil}), append(top, nil), append(wanted, nil)
			continue
		}
		actual = append(actual, []any{p.value, p.token, nil})
		top, wanted = append(top, triples(p.top)), append(wanted, triples(p.wanted))
	}
	m[side+"_token_logprobs"] = actual
	m[side+"_top_logprobs"] = top
	if len(a.j.wanted) > 0 {
		m[side+"_token_ids_logprobs"] = wanted
	}
}

func triples(list []alternative) []any {
	out := []any{}
	for _, t := range list {
		out = append(out, []any{t.value, t.token, nil})
	}
	return out
}

// serverInfo is what SGLang's bench asks: the mean length of accepted drafts is
// there where drafts are made.
func (s *Server) serverInfo(w http.ResponseWriter, _ *http.Request) {
	state := map[string]any{}
	if n := s.metrics.passes.Load(); s.o.Speculative > 0 && n > 0 {
		state["avg_spec_accept_length"] = 1 + float64(s.metrics.accepted.Load())/float64(n)
	}
	writeJSON(w, map[string]any{"version": s.o.Version, "model_path": s.dir, "tokenizer_path": s.dir, "served_model_name": s.name(), "context_length": s.o.MaxLen,
		"max_running_requests": s.o.MaxSeqs, "internal_states": []any{state}})
}

func (s *Server) modelInfo(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{"model_path": s.dir, "tokenizer_path": s.dir, "is_generation": true})
}

// forget drops the prefixes that are kept.
func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	s.sched.forget.Store(true)
	s.sched.mu.Lock()
	s.sched.poke()
	s.sched.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}
