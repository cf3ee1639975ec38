package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/runtime/spec"
)

func ask(t *testing.T, url, body string) completion {
	t.Helper()
	code, text := post(t, url, body)
	require.Equal(t, 200, code, text)
	var c completion
	require.NoError(t, json.Unmarshal([]byte(text), &c))
	return c
}

func body(prompt []int, more string) string {
	data, _ := json.Marshal(prompt)
	return `{"prompt":` + string(data) + `,"return_token_ids":true,"ignore_eos":true` + more + `}`
}

func counting(n, step int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = (i*step + 3) % 200
	}
	return ids
}

// TestDrafts: with drafts every client gets the same tokens as without, greedy and
// sampled, and what is accepted is counted as package spec counts it.
func TestDrafts(t *testing.T) {
	_, plain := start(t, Options{})
	s, drafted := start(t, Options{Speculative: 3, MaxSeqs: 4})
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for _, more := range []string{`,"max_tokens":20,"temperature":0`, `,"max_tokens":9,"temperature":0.8,"seed":5,"top_k":40`, `,"max_tokens":1,"temperature":0`} {
				b := body(counting(5+7*i, 1+i), more)
				assert.Equal(t, ask(t, plain+"/v1/completions", b).Choices, ask(t, drafted+"/v1/completions", b).Choices)
			}
		})
	}
	wg.Wait()
	_, again := start(t, Options{Speculative: 3})
	prompt := counting(20, 7)
	ask(t, again+"/v1/completions", body(prompt, `,"max_tokens":24,"temperature":0`))
	want, err := spec.Generate(context.Background(), s.model, prompt, spec.Options{MaxTokens: 24, Drafts: 3})
	require.NoError(t, err)
	resp, err := http.Get(again + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for name, n := range map[string]int{"drafts": want.Counters.Passes, "accepted_tokens": want.Counters.Accepted, "draft_tokens": want.Counters.DraftTokens} {
		line := fmt.Sprintf("vllm:spec_decode_num_%s_total{model_name=%q,engine=\"0\"} %d\n", name, filepath.Base(dirOf(t, again)), n)
		assert.True(t, strings.Contains(string(text), line), line)
	}
}

func dirOf(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url + "/model_info")
	require.NoError(t, err)
	defer resp.Body.Close()
	var m struct {
		Path string `json:"model_path"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&m))
	return m.Path
}

// TestPrefix: what is found in the cache changes no token, with drafts and
// without, and counts.
func TestPrefix(t *testing.T) {
	for _, k := range []int{0, 2} {
		s, url := start(t, Options{Speculative: k})
		_, fresh := start(t, Options{Speculative: k})
		base := counting(100, 3)
		for i, prompt := range [][]int{base, base, append(counting(70, 3), 9, 8, 7), append(base[:100:100], counting(30, 11)...), base[:33]} {
			b := body(prompt, `,"max_tokens":12,"temperature":0`)
			code, _ := post(t, fresh+"/reset_prefix_cache", "{}")
			require.Equal(t, 200, code)
			got := ask(t, url+"/v1/completions", b)
			assert.Equal(t, ask(t, fresh+"/v1/completions", b).Choices, got.Choices, "prompt %d", i)
		}
		assert.Positive(t, s.metrics.cacheHit.Load())
		before := s.metrics.cacheHit.Load()
		ask(t, url+"/v1/completions", body(base, `,"max_tokens":1,"prompt_logprobs":1`))
		assert.Equal(t, before, s.metrics.cacheHit.Load(), "log-probabilities of a prompt are computed")
	}
}

// TestPrefixBudget: what is kept gives way to what runs.
func TestPrefixBudget(t *testing.T) {
	s, url := start(t, Options{CacheBytes: 1 << 20})
	for i := range 12 {
		ask(t, url+"/v1/completions", body(counting(60, 1+i), `,"max_tokens":4`))
	}
	require.Eventually(t, func() bool { return s.metrics.running.Load() == 0 }, 5*time.Second, time.Millisecond)
	require.NoError(t, s.Close())
	assert.LessOrEqual(t, s.sched.kept.slots, s.sched.budget)
	s.sched.kept.shrink(0)
	assert.Empty(t, s.sched.kept.list)
	assert.Zero(t, s.sched.kept.slots)
}

// TestChoices: choice j is what the seed j further gives alone.
func TestChoices(t *testing.T) {
	_, url := start(t, Options{})
	got := ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":6,"temperature":1,"seed":11,"n":3`))
	require.Len(t, got.Choices, 3)
	for i, c := range got.Choices {
		alone := ask(t, url+"/v1/completions", body(counting(9, 5), fmt.Sprintf(`,"max_tokens":6,"temperature":1,"seed":%d`, 11+i)))
		assert.Equal(t, alone.Choices[0].IDs, c.IDs)
	}
	assert.Equal(t, 9, got.Usage.Prompt)
	assert.Equal(t, 18, got.Usage.Made)
}

// TestAdjusted: a bias decides, a penalty forbids to repeat, and min_tokens holds a
// stop token back.
func TestAdjusted(t *testing.T) {
	_, url := start(t, Options{})
	got := ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":4,"temperature":0,"logit_bias":{"77":100}`))
	assert.Equal(t, []int{77, 77, 77, 77}, got.Choices[0].IDs)
	got = ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":16,"temperature":0,"logit_bias":{"77":100,"78":100},"presence_penalty":2,"frequency_penalty":2`))
	assert.Subset(t, got.Choices[0].IDs, []int{77, 78}, "what stands in the text often is less likely")
	got = ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":6,"temperature":0,"logit_bias":{"77":100},"stop_token_ids":[77],"min_tokens":3`))
	assert.Len(t, got.Choices[0].IDs, 4, "three, and the stop token")
	assert.Equal(t, "stop", got.Choices[0].Reason)
	got = ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":5,"temperature":1,"seed":3,"min_p":1`))
	greedy := ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":5,"temperature":0`))
	assert.Equal(t, greedy.Choices[0].IDs, got.Choices[0].IDs)
}

// TestEcho: the form that lm-eval reads: the actual token stands among the most
// likely with the identical figure.
func TestEcho(t *testing.T) {
	_, url := start(t, Options{})
	prompt := counting(12, 5)
	code, text := post(t, url+"/v1/completions", body(prompt, `,"max_tokens":1,"temperature":0,"echo":true,"logprobs":1,"return_tokens_as_token_ids":true,"prompt_logprobs":1`))
	require.Equal(t, 200, code, text)
	var m struct {
		Choices []struct {
			Probs struct {
				Tokens []string             `json:"tokens"`
				Values []*float64           `json:"token_logprobs"`
				Top    []map[string]float64 `json:"top_logprobs"`
			} `json:"logprobs"`
			Prompt []map[string]struct{ Logprob float64 } `json:"prompt_logprobs"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	p := m.Choices[0].Probs
	require.Len(t, p.Tokens, 13)
	assert.Nil(t, p.Values[0])
	for i := 1; i < 12; i++ {
		name := fmt.Sprintf("token_id:%d", prompt[i])
		assert.Equal(t, name, p.Tokens[i])
		assert.Equal(t, *p.Values[i], p.Top[i][name])
		assert.Equal(t, *p.Values[i], m.Choices[0].Prompt[i][fmt.Sprint(prompt[i])].Logprob)
	}
}

// TestNative: SGLang's route: streams hold all of the text so far, figures are
// those of prompt_logprobs.
func TestNative(t *testing.T) {
	_, url := start(t, Options{})
	ids, _ := json.Marshal(counting(8, 5))
	code, text := post(t, url+"/generate", `{"input_ids":`+string(ids)+`,"sampling_params":{"temperature":0,"max_new_tokens":5,"ignore_eos":true},"return_logprob":true,"logprob_start_len":0,"top_logprobs_num":3,"token_ids_logprob":[4]}`)
	require.Equal(t, 200, code, text)
	var m struct {
		Text string
		Meta struct {
			Tokens int     `json:"completion_tokens"`
			Input  [][]any `json:"input_token_logprobs"`
			Top    [][]any `json:"input_top_logprobs"`
			Own    [][]any `json:"input_token_ids_logprobs"`
		} `json:"meta_info"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	assert.Equal(t, 5, m.Meta.Tokens)
	assert.Len(t, m.Meta.Input, 8)
	assert.Nil(t, m.Meta.Input[0][0])
	assert.Len(t, m.Meta.Top[3], 3)
	assert.Len(t, m.Meta.Own[3], 1)
	code, stream := post(t, url+"/generate", `{"input_ids":`+string(ids)+`,"stream":true,"sampling_params":{"temperature":0,"max_new_tokens":5,"ignore_eos":true}}`)
	require.Equal(t, 200, code)
	events := strings.Split(strings.TrimSpace(stream), "\n\n")
	assert.Equal(t, "data: [DONE]", events[len(events)-1])
	var last struct{ Text string }
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(events[len(events)-2], "data: ")), &last))
	assert.Equal(t, m.Text, last.Text)
	code, _ = post(t, url+"/generate", `{}`)
	assert.Equal(t, 400, code)
}

// TestChatLogprobs: tokens with their bytes and alternatives.
func TestChatLogprobs(t *testing.T) {
	_, url := start(t, Options{})
	code, text := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,"temperature":0,"logprobs":true,"top_logprobs":2,"n":2}`)
	require.Equal(t, 200, code, text)
	var m struct {
		Choices []struct {
			Probs struct {
				Content []struct {
					Logprob float64
					Top     []struct{ Logprob float64 } `json:"top_logprobs"`
				}
			} `json:"logprobs"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	require.Len(t, m.Choices, 2)
	require.NotEmpty(t, m.Choices[0].Probs.Content)
	assert.Equal(t, m.Choices[0].Probs.Content[0].Logprob, m.Choices[0].Probs.Content[0].Top[0].Logprob)
	assert.Len(t, m.Choices[0].Probs.Content[0].Top, 2)
}

// FuzzBody: no body makes the server fail.
func FuzzBody(f *testing.F) {
	for _, b := range []string{`{"prompt":"a","max_tokens":1}`, `{"messages":[{"role":"user","content":"a"}],"max_tokens":1}`, `{"prompt":[[1],[2]],"n":2,"max_tokens":1,"logprobs":2,"echo":true}`,
		`{"input_ids":[1,2],"sampling_params":{"max_new_tokens":1},"return_logprob":true,"logprob_start_len":1,"top_logprobs_num":2,"token_ids_logprob":[3]}`,
		`{"messages":[{"role":"tool","tool_call_id":"x","content":null}],"tools":[{"type":"function","function":{"name":"f"}}],"chat_template_kwargs":{"enable_thinking":false}}`,
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]}`, `{"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"array","items":{"$ref":"#"}}}},"max_tokens":3}`,
		`{"messages":[{"role":"user","content":"a"}],"tool_choice":"required","tools":[{"function":{"name":"f","parameters":{"properties":{"a":{"type":"string"}}}}}],"max_tokens":3}`,
		`{"prompt":"a","logit_bias":{"1":-100},"min_p":0.5,"repetition_penalty":0.01,"max_tokens":2}`} {
		for route := range 4 {
			f.Add(route, b)
		}
	}
	s, url := startFor(f, Options{MaxLen: 32, MaxBody: 1 << 16, Threads: 1})
	f.Fuzz(func(t *testing.T, route int, body string) {
		path := []string{"/v1/completions", "/v1/chat/completions", "/generate", "/tokenize"}[uint(route)%4]
		req := httptest.NewRequest(http.MethodPost, url+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Fatalf("%s: status %d: %s", path, w.Code, w.Body.String())
		}
	})
}

// TestEqualTexts: where the likeliest token reads as the actual one does, the
// likeliest one's figure stands there: the actual one is not taken for greedy.
func TestEqualTexts(t *testing.T) {
	s, _ := start(t, Options{})
	same := map[string]int{}
	a, b := -1, -1
	for id := range s.model.Config().VocabSize {
		if first, ok := same[s.text(id)]; ok {
			a, b = first, id
			break
		}
		same[s.text(id)] = id
	}
	require.Positive(t, b, "two tokens with one text")
	answer := &textAnswer{s: s, top: 1, probs: []*position{{token: a, value: -5, rank: 2, top: []alternative{{b, -1, 1}}}}}
	got := answer.legacy(nil, false)
	assert.Equal(t, []any{-5.0}, got["token_logprobs"])
	assert.Equal(t, []any{map[string]float64{s.text(b): -1}}, got["top_logprobs"])
}
