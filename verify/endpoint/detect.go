package endpoint

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// models is the answer of /v1/models.
type models struct {
	Data []struct {
		ID    string `json:"id"`
		Owner string `json:"owned_by"`
		Len   int    `json:"max_model_len"`
	} `json:"data"`
}

// inquire finds out what a server is: the kind by what only one of them answers
// (docs/facts/serving.md 1).
func (c *client) inquire(ctx context.Context, o *Options) (*Server, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	s := &Server{URL: c.base, Kind: o.Kind, Model: o.Model, Ranks: []Rank{}, Signs: []Sign{}, Checks: []Check{}}
	var list models
	err := c.get(ctx, "/v1/models", &list)
	var no *refusal
	switch {
	case errors.As(err, &no) && no.status != http.StatusNotFound:
		return nil, err
	case err != nil && !errors.As(err, &no):
		return nil, err
	}
	if s.Kind == "" {
		s.Kind = c.kind(ctx, &list)
	}
	if s.Kind == "" {
		return nil, &Error{Kind: ErrAnswer, Where: c.base, Reason: "nothing tells which engine answers here", Advice: "say so with --endpoint-kind"}
	}
	for _, m := range list.Data {
		if s.Model == "" {
			s.Model = m.ID
		}
		if m.ID == s.Model {
			s.Context = m.Len
		}
	}
	if len(list.Data) > 0 && s.Kind != LlamaServer && s.Kind != Glmconv &&
		!slices.ContainsFunc(list.Data, func(m struct {
			ID    string `json:"id"`
			Owner string `json:"owned_by"`
			Len   int    `json:"max_model_len"`
		}) bool {
			return m.ID == s.Model
		}) {
		return nil, &Error{Kind: ErrModel, Where: c.base, Reason: "the server has no model " + s.Model + " (it has " + list.Data[0].ID + ")", Advice: "leave --model out, or give one that it has"}
	}
	c.details(ctx, s)
	return s, nil
}

// kind tells an engine by its own routes.
func (c *client) kind(ctx context.Context, list *models) Kind {
	owner := ""
	if len(list.Data) > 0 {
		owner = list.Data[0].Owner
	}
	switch owner {
	case "glmconv":
		return Glmconv
	case "vllm":
		return VLLM
	case "sglang":
		return SGLang
	case "me":
		return LlamaPython
	case "llamacpp":
		return LlamaServer
	}
	has := func(path string) bool { return c.status(ctx, path) == http.StatusOK }
	switch {
	case has("/props"):
		return LlamaServer
	case has("/server_info"), has("/get_server_info"), has("/model_info"), has("/get_model_info"):
		return SGLang
	case has("/version"):
		return VLLM
	}
	return ""
}

// details reads version and settings; what a server does not tell is left out.
func (c *client) details(ctx context.Context, s *Server) {
	var v struct {
		Version string `json:"version"`
		Context int    `json:"context_length"`
		MaxLen  int    `json:"max_total_num_tokens"`
		Build   string `json:"build_info"`
	}
	path := map[Kind]string{VLLM: "/version", Glmconv: "/version", SGLang: "/server_info", LlamaServer: "/props"}[s.Kind]
	if path != "" && c.get(ctx, path, &v) == nil {
		s.Version = v.Version
		if s.Version == "" {
			s.Version = v.Build
		}
		if s.Context == 0 {
			s.Context = v.Context
		}
	}
	m := c.metrics(ctx)
	if m == nil {
		return
	}
	for _, x := range m.find("vllm:cache_config_info") {
		s.Cache = x.labels["cache_dtype"]
	}
	s.hasDrafts = len(m.find("vllm:spec_decode_num_drafts_total")) > 0 || len(m.find("sglang:spec_accept_length")) > 0
	engines := map[string]bool{}
	for _, x := range m.find("vllm:num_requests_running") {
		engines[x.labels["engine"]] = true
	}
	if len(engines) > 1 {
		for i := range len(engines) {
			s.Ranks = append(s.Ranks, Rank{Rank: i})
		}
	}
}

// sample is one line of /metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

type samples []sample

// find returns the samples of a name.
func (s samples) find(name string) (out []sample) {
	for _, x := range s {
		if x.name == name {
			out = append(out, x)
		}
	}
	return out
}

// sum adds up the samples of a name; ok is false where there is none.
func (s samples) sum(name string) (v float64, ok bool) {
	for _, x := range s.find(name) {
		v, ok = v+x.value, true
	}
	return v, ok
}

// metrics reads /metrics; nil where there are none.
func (c *client) metrics(ctx context.Context) samples {
	a, err := c.send(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil || a.status != http.StatusOK {
		return nil
	}
	return parseMetrics(string(a.body))
}

// parseMetrics reads Prometheus' text form; lines that are none are passed over.
func parseMetrics(text string) (out samples) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		x := sample{labels: map[string]string{}}
		var rest string
		if i := strings.IndexByte(line, '{'); i >= 0 {
			x.name = line[:i]
			end, ok := x.readLabels(line[i+1:])
			if !ok {
				continue
			}
			rest = line[i+1+end:]
		} else {
			var ok bool
			if x.name, rest, ok = strings.Cut(line, " "); !ok {
				continue
			}
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		var err error
		if x.value, err = strconv.ParseFloat(fields[0], 64); err == nil {
			out = append(out, x)
		}
	}
	return out
}

// readLabels reads name="value" pairs up to the brace and returns the place
// behind it.
func (x *sample) readLabels(s string) (end int, ok bool) {
	for at := 0; at < len(s); {
		for at < len(s) && (s[at] == ',' || s[at] == ' ') {
			at++
		}
		if at < len(s) && s[at] == '}' {
			return at + 1, true
		}
		eq := strings.Index(s[at:], `="`)
		if eq < 0 {
			return 0, false
		}
		name := s[at : at+eq]
		at += eq + 1
		to := at + 1
		for to < len(s) && s[to] != '"' {
			if s[to] == '\\' {
				to++
			}
			to++
		}
		if to >= len(s) {
			return 0, false
		}
		value, err := strconv.Unquote(s[at : to+1])
		if err != nil {
			value = s[at+1 : to]
		}
		x.labels[name] = value
		at = to + 1
	}
	return 0, false
}

// fits refuses a server whose model cannot be that of the folder.
func (s *Server) fits(cfg *glm.Config, longest int) error {
	if s.Context > 0 && s.Context < longest+1 {
		return &Error{Kind: ErrModel, Where: s.URL, Reason: "its context of " + strconv.Itoa(s.Context) + " tokens is shorter than the sequences of " + strconv.Itoa(longest), Advice: "shorter ones: --seq-len"}
	}
	if s.Context > cfg.MaxPositions && cfg.MaxPositions > 0 {
		return &Error{Kind: ErrModel, Where: s.URL, Reason: "its context is " + strconv.Itoa(s.Context) + " tokens, config.json of the folder says " + strconv.Itoa(cfg.MaxPositions), Advice: "is it the folder that is served?"}
	}
	return nil
}
