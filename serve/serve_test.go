package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
)

// start serves the built-in model on the loopback.
func start(t *testing.T, o Options) (*Server, string) { t.Helper(); return startFor(t, o) }

func startFor(t testing.TB, o Options) (*Server, string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, demo.Extract(dir))
	const template = "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(template), 0o666))
	s, err := New(dir, o)
	require.NoError(t, err)
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() { h.Close(); assert.NoError(t, s.Close()) })
	return s, h.URL
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(data)
}

type completion struct {
	Choices []struct {
		Text    string
		IDs     []int  `json:"token_ids"`
		Reason  string `json:"finish_reason"`
		Probs   []map[string]struct{ Logprob float64 }
		Prompts []map[string]struct {
			Logprob float64
			Rank    int
		} `json:"prompt_logprobs"`
	}
	Usage struct {
		Prompt int `json:"prompt_tokens"`
		Made   int `json:"completion_tokens"`
	}
}

// TestCompany: sixteen clients at once get what each gets alone, and what
// spec.Generate gives.
func TestCompany(t *testing.T) {
	s, url := start(t, Options{MaxSeqs: 8})
	body := func(i int) string {
		ids := make([]int, 3+i*40)
		for j := range ids {
			ids[j] = (7*i + j) % 200
		}
		data, err := json.Marshal(map[string]any{"prompt": ids, "max_tokens": 12, "temperature": 0, "ignore_eos": true, "return_token_ids": true})
		require.NoError(t, err)
		return string(data)
	}
	const clients = 16
	var alone, together [clients]completion
	ask := func(i int, into *completion) {
		code, text := post(t, url+"/v1/completions", body(i))
		if assert.Equal(t, 200, code, text) {
			assert.NoError(t, json.Unmarshal([]byte(text), into))
		}
	}
	for i := range clients {
		ask(i, &alone[i])
	}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { ask(i, &together[i]) })
	}
	wg.Wait()
	for i := range clients {
		require.Len(t, alone[i].Choices, 1)
		assert.Equal(t, alone[i], together[i])
		assert.Equal(t, 12, alone[i].Usage.Made)
	}
	var q struct{ Prompt []int }
	require.NoError(t, json.Unmarshal([]byte(body(5)), &q))
	want, err := spec.Generate(context.Background(), s.model, q.Prompt, spec.Options{MaxTokens: 12})
	require.NoError(t, err)
	assert.Equal(t, want.Tokens, alone[5].Choices[0].IDs)
	assert.Zero(t, s.metrics.running.Load())
}

// TestPromptLogprobs compares with the runtime's logits.
func TestPromptLogprobs(t *testing.T) {
	s, url := start(t, Options{})
	ids := []int{5, 9, 100, 42, 7}
	code, text := post(t, url+"/v1/completions", `{"prompt":[5,9,100,42,7],"max_tokens":1,"temperature":0,"prompt_logprobs":3}`)
	require.Equal(t, 200, code, text)
	var c completion
	require.NoError(t, json.Unmarshal([]byte(text), &c))
	got := c.Choices[0].Prompts
	require.Len(t, got, len(ids))
	assert.Nil(t, got[0])
	ev, err := s.model.Evaluate(context.Background(), [][]int{ids}, runtime.EvalOptions{Logits: true})
	require.NoError(t, err)
	vocab := s.model.Config().VocabSize
	for i := 1; i < len(ids); i++ {
		want := judge(ev[0].Logits[(i-1)*vocab:][:vocab], ids[i], 3)
		have := got[i][fmt.Sprint(ids[i])]
		assert.InDelta(t, want.value, have.Logprob, 1e-12)
		assert.Equal(t, want.rank, have.Rank)
		assert.GreaterOrEqual(t, len(got[i]), 3)
	}
	code, text = post(t, url+"/v1/completions", `{"prompt":[5],"max_tokens":1,"prompt_logprobs":21}`)
	assert.Equal(t, 400, code)
	assert.Contains(t, text, "greater than max allowed: 20")
}

// TestChatStream: a stream is the answer in pieces, in the order of the protocol.
func TestChatStream(t *testing.T) {
	_, url := start(t, Options{})
	code, text := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":10,"temperature":0}`)
	require.Equal(t, 200, code, text)
	var whole struct {
		Choices []struct {
			Message struct {
				Content   string
				Reasoning string
			}
			Reason string `json:"finish_reason"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &whole))
	code, text = post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":10,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`)
	require.Equal(t, 200, code)
	events := strings.Split(strings.TrimSpace(text), "\n\n")
	require.Equal(t, "data: [DONE]", events[len(events)-1])
	assert.Contains(t, events[0], `"role":"assistant"`)
	assert.Contains(t, events[len(events)-2], `"completion_tokens":10`)
	var content, reasoning string
	for _, e := range events[:len(events)-2] {
		var m struct {
			Choices []struct {
				Delta struct{ Content, Reasoning string }
			}
		}
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(e, "data: ")), &m))
		require.Len(t, m.Choices, 1)
		content, reasoning = content+m.Choices[0].Delta.Content, reasoning+m.Choices[0].Delta.Reasoning
	}
	assert.Equal(t, whole.Choices[0].Message.Content, content)
	assert.Equal(t, whole.Choices[0].Message.Reasoning, reasoning)
}

// TestChatRefused: what chats do not get is named.
func TestChatRefused(t *testing.T) {
	_, url := start(t, Options{})
	for says, body := range map[string]string{
		"vision tower": `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}]}`,
		"tool_choice":  `{"messages":[{"role":"user","content":"a"}],"tool_choice":"required"}`,
		"messages":     `{"messages":7}`,
		"plain value":  `{"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":{"a":[1]}}`,
	} {
		code, text := post(t, url+"/v1/chat/completions", body)
		assert.Equal(t, 400, code, text)
		assert.Contains(t, text, says)
	}
}

// TestRefused: every wrong request has its status, and none is 500.
func TestRefused(t *testing.T) {
	_, url := start(t, Options{Names: []string{"m"}, MaxLen: 64, MaxBody: 4096})
	for _, tc := range []struct {
		body string
		code int
		says string
	}{
		{`{`, 400, "no JSON"},
		{`[]`, 400, "must not be"},
		{`{"model":"other","prompt":"a"}`, 404, "does not exist"},
		{`{"model":"m","prompt":"a","temperature":"hot"}`, 400, "temperature"},
		{`{"model":"m","prompt":"a","temperature":-1}`, 400, "temperature"},
		{`{"model":"m","prompt":"a","n":17}`, 400, "n must be"},
		{`{"model":"m","prompt":"a","logit_bias":{"x":2}}`, 400, "logit_bias"},
		{`{"model":"m","prompt":"a","logit_bias":{"1":200}}`, 400, "logit_bias"},
		{`{"model":"m","prompt":"a","presence_penalty":7}`, 400, "presence_penalty"},
		{`{"model":"m","prompt":"a","suffix":"b"}`, 400, "not supported"},
		{`{"model":"m","prompt":"a","response_format":{"type":"regex"}}`, 400, "json_schema"},
		{`{"model":"m","prompt":"a","max_tokens":100}`, 400, "the context is 64 tokens"},
		{`{"model":"m","prompt":[]}`, 400, "prompt"},
		{`{"model":"m","prompt":[-1]}`, 400, "vocabulary"},
		{`{"model":"m","prompt":[99999999]}`, 400, "vocabulary"},
		{`{"model":"m","prompt":"a","stream_options":{}}`, 400, "without stream"},
		{`{"model":"m","prompt":"a","stop":[1]}`, 400, "stop"},
		{`{"model":"m","prompt":"` + strings.Repeat("a", 5000) + `"}`, 413, "too large"},
		{`{"model":"m","prompt":"a","max_tokens":1,"user":"x","unknown":[1]}`, 200, "text_completion"},
	} {
		code, text := post(t, url+"/v1/completions", tc.body)
		assert.Equal(t, tc.code, code, "%.80s: %s", tc.body, text)
		assert.Contains(t, text, tc.says, "%.80s", tc.body)
	}
	resp, err := http.Get(url + "/v1/completions")
	require.NoError(t, err)
	_ = resp.Body.Close()
	assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	resp, err = http.Post(url+"/v1/completions", "text/plain", strings.NewReader("{}"))
	require.NoError(t, err)
	_ = resp.Body.Close()
	assert.Equal(t, http.StatusUnsupportedMediaType, resp.StatusCode)
	for path, want := range map[string]int{"/v1/models/": http.StatusNotFound, "/v1/models/other": http.StatusNotFound, "/v1/models/m": http.StatusOK} {
		resp, err = http.Get(url + path)
		require.NoError(t, err)
		_ = resp.Body.Close()
		assert.Equal(t, want, resp.StatusCode, path)
	}
}

// TestKey: without it nothing but health and metrics answers.
func TestKey(t *testing.T) {
	_, url := start(t, Options{Key: "secret"})
	for path, want := range map[string]int{"/health": 200, "/metrics": 200, "/v1/models": 401} {
		resp, err := http.Get(url + path)
		require.NoError(t, err)
		_ = resp.Body.Close()
		assert.Equal(t, want, resp.StatusCode, path)
	}
	who, err := bench.FindServer(context.Background(), &bench.Load{URL: url, Client: bench.NewClient(), Key: "secret"})
	require.NoError(t, err)
	assert.NotEmpty(t, who.Model)
	assert.Equal(t, "glmconv", who.Engine)
	assert.False(t, who.Drafts)
}

// TestGone: aborted streams leave the batch.
func TestGone(t *testing.T) {
	s, url := start(t, Options{MaxSeqs: 4})
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/completions",
				bytes.NewReader([]byte(`{"prompt":[1,2,3],"max_tokens":400,"ignore_eos":true,"temperature":0,"stream":true}`)))
			if !assert.NoError(t, err) {
				return
			}
			req.Header.Set("Content-Type", "application/json")
			go func() { time.Sleep(50 * time.Millisecond); cancel() }()
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool {
		return s.metrics.running.Load() == 0 && s.metrics.waiting.Load() == 0 && s.metrics.usage.Load() == 0
	},
		20*time.Second, 20*time.Millisecond)
}

// TestGoneBeforeItsIds: text of a client that is gone is not turned into tokens.
func TestGoneBeforeItsIds(t *testing.T) {
	s, _ := start(t, Options{})
	text := strings.Repeat("one two ", 1<<15)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for path, body := range map[string]any{
		"/tokenize": map[string]any{"prompt": text}, "/v1/completions": map[string]any{"prompt": []string{"a", text}, "max_tokens": 1},
		"/v1/chat/completions": map[string]any{"messages": []any{map[string]any{"role": "user", "content": text}}, "max_tokens": 1},
	} {
		data, err := json.Marshal(body)
		require.NoError(t, err)
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(data))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		assert.NotEqual(t, http.StatusOK, w.Code, "%s: %.200s", path, w.Body)
	}
	assert.Zero(t, s.metrics.waiting.Load()+s.metrics.running.Load())
}

// TestBench: the load generator counts what the server counts.
func TestBench(t *testing.T) {
	s, url := start(t, Options{})
	prompts := bench.Random(bench.RandomOptions{Prompts: 10, In: 20, Out: 8, Vocab: 200}, nil)
	r, err := bench.Run(context.Background(), bench.Load{URL: url, Backend: bench.Completions, Model: "m", Prompts: prompts, Concurrency: 4, IgnoreEOS: true})
	require.NoError(t, err)
	f := r.Figures()
	require.Zero(t, f.Failed, f.FirstError)
	assert.Equal(t, [2]int{200, 80}, [2]int{f.InputTokens, f.OutTokens})
	assert.EqualValues(t, 80, s.metrics.madeTokens.Load())
}

// TestStops: a stop string is cut off wherever its pieces fall.
func TestStops(t *testing.T) {
	for _, tc := range []struct {
		pieces []string
		want   string
		hit    bool
	}{
		{[]string{"ab", "EN", "D", "x"}, "ab", true}, {[]string{"aE", "Nx"}, "aENx", false}, {[]string{"E", "E", "END"}, "EE", true}, {[]string{"aEN"}, "aEN", false},
	} {
		r := &reader{stops: []string{"END"}}
		got := ""
		for _, p := range tc.pieces {
			got += r.text(p, false)
		}
		got += r.text("", true)
		assert.Equal(t, tc.want, got, tc.pieces)
		assert.Equal(t, tc.hit, r.hit, tc.pieces)
	}
}
