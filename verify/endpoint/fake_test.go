package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/serve"
	"github.com/glmconv/glmconv/verify"
)

const chatTemplate = `[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>
{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>
{{ '<think></think>' if (enable_thinking is defined and not enable_thinking) else '' }}{% endif %}`

// folder is the built-in model with a template.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, demo.Extract(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(chatTemplate), 0o600))
	return dir
}

// live serves a folder.
func live(t *testing.T, dir string, o serve.Options) string {
	t.Helper()
	o.Threads = 1
	if o.MaxLogprobs == 0 {
		o.MaxLogprobs = -1
	}
	s, err := serve.New(dir, o)
	require.NoError(t, err)
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() { h.Close(); assert.NoError(t, s.Close()) })
	return h.URL
}

// few are options that read little.
func few(urls ...string) Options {
	return Options{URLs: urls, TopK: 200, Verify: verify.Options{Tokens: 160, SeqLen: 32, Workers: 2}}
}

// fake answers in the shapes of other engines, with the figures of a folder.
type fake struct {
	t     *testing.T
	m     *runtime.Model
	tok   *tokenizer.Tokenizer
	shift float64 // added to every log-probability
	max   int     // tokens of a place that are allowed
}

func newFake(t *testing.T, dir string) *fake {
	t.Helper()
	m, err := runtime.Load(dir, runtime.Options{Threads: 1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	tok, err := tokenizer.Load(dir)
	require.NoError(t, err)
	return &fake{t: t, m: m, tok: tok, max: 20}
}

// probs are the log-probabilities after each token, and the ids by falling
// probability.
func (f *fake) probs(ids []int) (values [][]float64, order [][]int) {
	h, err := f.m.NewSession().Forward(context.Background(), ids)
	require.NoError(f.t, err)
	z, err := f.m.Logits(context.Background(), h)
	require.NoError(f.t, err)
	vocab := f.m.Config().VocabSize
	for i := range ids {
		row := z[i*vocab:][:vocab]
		var s logSum
		s.add(row)
		lp, at := make([]float64, vocab), make([]int, vocab)
		for j, v := range row {
			lp[j], at[j] = float64(v)-s.value()+f.shift, j
		}
		slices.SortStableFunc(at, func(a, b int) int {
			switch {
			case lp[a] > lp[b]:
				return -1
			case lp[a] < lp[b]:
				return 1
			}
			return 0
		})
		values, order = append(values, lp), append(order, at)
	}
	return values, order
}

func (f *fake) serve(routes map[string]http.HandlerFunc) string {
	mux := http.NewServeMux()
	for path, h := range routes {
		mux.HandleFunc(path, h)
	}
	s := httptest.NewServer(mux)
	f.t.Cleanup(s.Close)
	return s.URL
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func (f *fake) models(owner string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"object": "list", "data": []any{map[string]any{"id": "glm", "object": "model", "owned_by": owner, "max_model_len": 1024}}})
	}
}

// vllm has vLLM's shape: at most max tokens and the actual one.
func (f *fake) vllm() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/v1/models": f.models("vllm"), "/version": func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"version": "0.32.0"}) },
		"/metrics": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"glm\"} 0\n"+
				"vllm:cache_config_info{block_size=\"16\",cache_dtype=\"fp8\",engine=\"0\"} 1\n")
		},
		"/v1/completions": func(w http.ResponseWriter, r *http.Request) {
			var q struct {
				Prompt []int
				K      int `json:"prompt_logprobs"`
			}
			assert.NoError(f.t, json.NewDecoder(r.Body).Decode(&q))
			if q.K > f.max {
				w.WriteHeader(http.StatusBadRequest)
				reply(w, map[string]any{"error": map[string]any{"message": fmt.Sprintf("Requested prompt logprobs of %d, which is greater than max allowed: %d", q.K, f.max), "code": 400}})
				return
			}
			values, order := f.probs(q.Prompt)
			list := []any{nil}
			for i := 1; i < len(q.Prompt); i++ {
				m := map[string]any{}
				for rank, id := range order[i-1][:q.K] {
					m[strconv.Itoa(id)] = map[string]any{"logprob": math.Max(values[i-1][id], -9999), "rank": rank + 1, "decoded_token": ""}
				}
				m[strconv.Itoa(q.Prompt[i])] = map[string]any{"logprob": values[i-1][q.Prompt[i]], "rank": 1, "decoded_token": ""}
				list = append(list, m)
			}
			reply(w, map[string]any{"choices": []any{map[string]any{"text": "x", "prompt_logprobs": list, "prompt_token_ids": q.Prompt}}})
		},
	}
}

// sglang has SGLang's shape.
func (f *fake) sglang() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/v1/models": f.models("sglang"), "/server_info": func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"version": "0.5.23"}) },
		"/generate": func(w http.ResponseWriter, r *http.Request) {
			var q struct {
				IDs []int `json:"input_ids"`
				K   int   `json:"top_logprobs_num"`
				Own []int `json:"token_ids_logprob"`
			}
			assert.NoError(f.t, json.NewDecoder(r.Body).Decode(&q))
			values, order := f.probs(q.IDs)
			actual, top, own := []any{[]any{nil, q.IDs[0], nil}}, []any{nil}, []any{nil}
			for i := 1; i < len(q.IDs); i++ {
				v := values[i-1]
				actual = append(actual, []any{v[q.IDs[i]], q.IDs[i], nil})
				var best, asked []any
				for _, id := range order[i-1][:q.K] {
					best = append(best, []any{v[id], id, nil})
				}
				for _, id := range q.Own {
					asked = append(asked, []any{v[id], id, nil})
				}
				top, own = append(top, best), append(own, asked)
			}
			reply(w, map[string]any{"text": "x", "meta_info": map[string]any{"input_token_logprobs": actual, "input_top_logprobs": top, "input_token_ids_logprobs": own}})
		},
	}
}

// llamaServer has llama-server's: a place a request.
func (f *fake) llamaServer() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/props": func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"build_info": "b1-abc"}) },
		"/completion": func(w http.ResponseWriter, r *http.Request) {
			var q struct {
				Prompt []int
				K      int `json:"n_probs"`
			}
			assert.NoError(f.t, json.NewDecoder(r.Body).Decode(&q))
			values, order := f.probs(q.Prompt)
			last := len(q.Prompt) - 1
			var top []any
			for _, id := range order[last][:q.K] {
				top = append(top, map[string]any{"id": id, "token": "", "logprob": values[last][id]})
			}
			reply(w, map[string]any{"content": "x", "completion_probabilities": []any{map[string]any{"id": order[last][0], "top_logprobs": top}}})
		},
	}
}
