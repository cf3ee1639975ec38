package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/runtime/chat"
)

// pieces are the messages of a stream, without its end.
func pieces[T any](t *testing.T, url, body string) (list []T) {
	t.Helper()
	code, text := post(t, url, body)
	require.Equal(t, 200, code, text)
	for e := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if e == "data: [DONE]" {
			return list
		}
		var m T
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(e, "data: ")), &m))
		list = append(list, m)
	}
	t.Fatal("no end")
	return nil
}

// TestStreamsHaveAll: log-probabilities and ids that are asked for come in streams as
// they come in one piece.
func TestStreamsHaveAll(t *testing.T) {
	type legacy struct {
		Tokens  []string
		Values  []float64            `json:"token_logprobs"`
		Top     []map[string]float64 `json:"top_logprobs"`
		Offsets []int                `json:"text_offset"`
	}
	type message struct {
		Prompt  []int `json:"prompt_token_ids"`
		Choices []struct {
			Index  int
			Probs  *legacy `json:"logprobs"`
			IDs    []int   `json:"token_ids"`
			Prompt []int   `json:"prompt_token_ids"`
		}
	}
	for _, drafts := range []int{0, 2} {
		_, url := start(t, Options{Speculative: drafts})
		ask := body(counting(8, 5), `,"max_tokens":7,"temperature":0,"n":2,"logprobs":2`)
		code, text := post(t, url+"/v1/completions", ask)
		require.Equal(t, 200, code, text)
		var whole message
		require.NoError(t, json.Unmarshal([]byte(text), &whole))
		got := make([]legacy, 2)
		ids, prompts := make([][]int, 2), make([][]int, 2)
		for _, m := range pieces[message](t, url+"/v1/completions", strings.TrimSuffix(ask, "}")+`,"stream":true}`) {
			c := m.Choices[0]
			require.NotNil(t, c.Probs)
			require.NotNil(t, c.IDs)
			g := &got[c.Index]
			g.Tokens, g.Values, g.Top, g.Offsets = append(g.Tokens, c.Probs.Tokens...), append(g.Values, c.Probs.Values...), append(g.Top, c.Probs.Top...), append(g.Offsets, c.Probs.Offsets...)
			ids[c.Index], prompts[c.Index] = append(ids[c.Index], c.IDs...), append(prompts[c.Index], c.Prompt...)
		}
		for i, c := range whole.Choices {
			assert.Equal(t, *c.Probs, got[i])
			assert.Len(t, c.IDs, 7)
			assert.Equal(t, c.IDs, ids[i])
			assert.Equal(t, c.Prompt, prompts[i], "once, with the first message")
		}

		ask = `{"messages":[{"role":"user","content":"hi"}],"max_tokens":7,"temperature":0,"ignore_eos":true,"return_token_ids":true`
		code, text = post(t, url+"/v1/chat/completions", ask+"}")
		require.Equal(t, 200, code, text)
		whole = message{}
		require.NoError(t, json.Unmarshal([]byte(text), &whole))
		var have, prompt []int
		for _, m := range pieces[message](t, url+"/v1/chat/completions", ask+`,"stream":true}`) {
			have, prompt = append(have, m.Choices[0].IDs...), append(prompt, m.Prompt...)
		}
		assert.Equal(t, whole.Choices[0].IDs, have)
		assert.Len(t, have, 7)
		assert.NotEmpty(t, prompt)
		assert.Equal(t, whole.Prompt, prompt)
	}
}

// TestWholeVocabulary: -1 asks for all tokens, and is refused where the server does not
// allow so many.
func TestWholeVocabulary(t *testing.T) {
	_, url := start(t, Options{})
	for _, name := range []string{"logprobs", "prompt_logprobs"} {
		code, text := post(t, url+"/v1/completions", `{"prompt":[5,9],"max_tokens":1,"`+name+`":-1}`)
		assert.Equal(t, 400, code, text)
		assert.Contains(t, text, "greater than max allowed: 20")
		code, text = post(t, url+"/v1/completions", `{"prompt":[5,9],"max_tokens":1,"`+name+`":-2}`)
		assert.Equal(t, 400, code, text)
	}
	s, url := start(t, Options{MaxLogprobs: -1})
	code, text := post(t, url+"/v1/completions", `{"prompt":[5,9],"max_tokens":1,"temperature":0,"prompt_logprobs":-1,"logprobs":-1,"return_tokens_as_token_ids":true}`)
	require.Equal(t, 200, code, text)
	var m struct {
		Choices []struct {
			Prompt []map[string]any `json:"prompt_logprobs"`
			Probs  struct {
				Top []map[string]any `json:"top_logprobs"`
			} `json:"logprobs"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	require.Len(t, m.Choices[0].Prompt, 2)
	assert.Len(t, m.Choices[0].Prompt[1], s.model.Config().VocabSize)
	require.Len(t, m.Choices[0].Probs.Top, 1)
	assert.Len(t, m.Choices[0].Probs.Top[0], s.model.Config().VocabSize)
}

// TestQueueOfRequests: the queue counts requests: one of many prompts is taken by a
// server that is idle, and all of it or nothing waits.
func TestQueueOfRequests(t *testing.T) {
	_, url := start(t, Options{MaxSeqs: 1, MaxQueue: 2})
	code, text := post(t, url+"/v1/completions", `{"prompt":[[1],[2],[3],[4],[5],[6]],"max_tokens":1}`)
	require.Equal(t, 200, code, text)
	assert.Equal(t, 6, strings.Count(text, `"finish_reason"`))

	s := newScheduler(nil, 1, 2, 100, new(metrics))
	some := func(n int) (list []*job) {
		for range n {
			list = append(list, &job{ctx: context.Background()})
		}
		return list
	}
	require.NoError(t, s.add(some(5)...))
	require.NoError(t, s.add(some(1)...))
	require.ErrorIs(t, s.add(some(1)...), errBusy)
	assert.Len(t, s.waiting, 6)
}

// TestStopEndsTheJob: a choice that met its stop string makes no more tokens, whoever
// else of its request goes on.
func TestStopEndsTheJob(t *testing.T) {
	for _, drafts := range []int{0, 2} {
		s, url := start(t, Options{Speculative: drafts})
		stop, _ := json.Marshal(s.text(77))
		bias := `"logit_bias":{"77":100},"temperature":0,"ignore_eos":true,"max_tokens":300,"stop":` + string(stop)
		for _, b := range []string{`{"prompt":[[3,8],[5],[9]],` + bias + `}`, `{"prompt":[3,8],"n":3,` + bias + `}`, `{"prompt":[3,8],"n":3,"stream":true,` + bias + `}`} {
			before := s.metrics.madeTokens.Load()
			code, text := post(t, url+"/v1/completions", b)
			require.Equal(t, 200, code, text)
			assert.Equal(t, 3, strings.Count(text, `"finish_reason":"stop"`), text)
			require.Eventually(t, func() bool { return s.metrics.running.Load() == 0 && s.metrics.waiting.Load() == 0 }, 20*time.Second, time.Millisecond)
			assert.EqualValues(t, 3, s.metrics.madeTokens.Load()-before, "one token each: %s", b)
		}
	}
}

// TestStopBehindMinTokens: within min_tokens a stop string is text; behind it one that
// began before counts.
func TestStopBehindMinTokens(t *testing.T) {
	s, url := start(t, Options{})
	stop, _ := json.Marshal(s.text(77))
	got := ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":6,"temperature":0,"logit_bias":{"77":100},"min_tokens":3,"stop":`+string(stop)))
	assert.Equal(t, []int{77, 77, 77, 77}, got.Choices[0].IDs)
	assert.Equal(t, "stop", got.Choices[0].Reason)
	assert.Equal(t, strings.Repeat(s.text(77), 3), got.Choices[0].Text)
	for _, tc := range []struct {
		tokens []string
		wait   int
		want   string
		hit    bool
	}{
		{[]string{"END", "END"}, 1, "END", true}, {[]string{"aE", "ND"}, 1, "a", true}, {[]string{"aE", "ND", "x"}, 2, "aENDx", false},
		{[]string{"END", "x"}, 1, "ENDx", false}, {[]string{"END"}, 0, "", true},
	} {
		at := 0
		r := &reader{stops: []string{"END"}, wait: tc.wait, add: func(int) string { at++; return tc.tokens[at-1] }, flush: func() string { return "" }}
		text := ""
		for range tc.tokens {
			text += r.token(0)
		}
		text += r.rest()
		assert.Equal(t, tc.want, text, "%v", tc)
		assert.Equal(t, tc.hit, r.hit, "%v", tc)
	}
}

// TestOneCall: with parallel_tool_calls false no more than a call is answered, whoever
// chose to call.
func TestOneCall(t *testing.T) {
	args := chat.Message("user", "any object")
	for _, one := range []bool{false, true} {
		a := &chatAnswer{one: one}
		a.hold(chat.Delta{Calls: []chat.Call{{Name: "a", Arguments: args}, {Name: "b", Arguments: args}}})
		a.step()
		a.hold(chat.Delta{Calls: []chat.Call{{Name: "c", Arguments: args}}})
		a.step()
		want := 3
		if one {
			want = 1
		}
		assert.Len(t, a.calls, want)
	}
}

// TestGate: while a model is loaded every route says so at once.
func TestGate(t *testing.T) {
	s, _ := start(t, Options{})
	g := new(Gate)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	for _, path := range []string{"/health", "/v1/models", "/metrics"} {
		w := get(path)
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.NotEmpty(t, w.Header().Get("Retry-After"), path)
		assert.Contains(t, w.Body.String(), "being loaded")
	}
	g.Open(s)
	assert.Equal(t, http.StatusOK, get("/health").Code)
	assert.Contains(t, get("/v1/models").Body.String(), fmt.Sprintf("%q", s.name()))
}
