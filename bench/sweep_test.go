package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image/jpeg"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestImages(t *testing.T) {
	for s, want := range map[string][2]int{"4k": {3840, 2160}, "360p": {640, 360}, "48x64": {64, 48}, "48X64": {64, 48}} {
		w, h, err := ParseImageSize(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, [2]int{w, h}, s)
	}
	for _, s := range []string{"", "x", "8k", "0x4", "4x-1", "4x4x4", "99999x4"} {
		_, _, err := ParseImageSize(s)
		assert.Error(t, err, s)
	}
	made := func(seed uint64) []Prompt {
		list := make([]Prompt, 2)
		require.NoError(t, AddImages(list, 64, 48, 2, seed))
		return list
	}
	list := made(1)
	seen := map[string]bool{}
	for _, p := range list {
		require.Len(t, p.Images, 2)
		for _, u := range p.Images {
			seen[u] = true
			data, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(u, "data:image/jpeg;base64,"))
			require.NoError(t, err)
			m, err := jpeg.Decode(bytes.NewReader(data))
			require.NoError(t, err)
			assert.Equal(t, [2]int{64, 48}, [2]int{m.Bounds().Dx(), m.Bounds().Dy()})
		}
	}
	assert.Len(t, seen, 4, "all differ")
	assert.Equal(t, list, made(1), "one seed, the same pictures")
	assert.NotEqual(t, list, made(2))
	assert.Error(t, AddImages(make([]Prompt, 1000), 3840, 2160, 100, 0), "more than memory holds")
}

// TestPrefix: all prompts begin alike, and are as long as prefix and input.
func TestPrefix(t *testing.T) {
	list := Random(RandomOptions{Prompts: 4, In: 6, Out: 2, Prefix: 5, Vocab: 1000}, nil)
	for _, p := range list {
		require.Len(t, p.IDs, 11)
		assert.Equal(t, list[0].IDs[:5], p.IDs[:5])
	}
	assert.NotEqual(t, list[0].IDs[5:], list[1].IDs[5:])
}

func TestScenarios(t *testing.T) {
	list, times, err := ParseScenarios("all")
	require.NoError(t, err)
	assert.Equal(t, Scenarios, list)
	assert.Equal(t, [3]int{10, 80, 500}, [3]int{ScenarioPrompts(times, 1), ScenarioPrompts(times, 16), ScenarioPrompts(times, 100)})
	list, times, err = ParseScenarios("chat,reasoning@stable")
	require.NoError(t, err)
	assert.Equal(t, []Scenario{{"chat", 1000, 1000}, {"reasoning", 1000, 8000}}, list)
	assert.Equal(t, 10, times)
	for _, s := range []string{"", "talk", "chat@", "chat@slow", "chat,"} {
		_, _, err := ParseScenarios(s)
		assert.Error(t, err, s)
	}
}

func TestFloors(t *testing.T) {
	list, err := ParseFloors("400,requests:2,attainment:90,accuracy:70")
	require.NoError(t, err)
	f := Figures{Completed: 90, Failed: 10, Duration: 10, Output: 399.99, Requests: 2, Goodput: 9}
	assert.Equal(t, []string{"output is 399.99, and 400.00 is asked for", "accuracy is NaN, and 70.00 is asked for"}, f.Missed(list, math.NaN()))
	f.Output = 400
	assert.Empty(t, f.Missed(list, 70))
	for _, s := range []string{"x", "speed:1", "output:", "output:-1", "output:inf", "output:0"} {
		_, err := ParseFloors(s)
		assert.Error(t, err, s)
	}
}

// TestCounters: drafts and prefix hits during a run, by vLLM's names.
func TestCounters(t *testing.T) {
	a := parseCounters("# x\nvllm:prefix_cache_hits_total{engine=\"0\"} 16\nvllm:spec_decode_num_drafts_total{a=\"}\"} 10 123\nbroken{\nvllm:prefix_cache_hits_total x\n")
	b := parseCounters(`vllm:prefix_cache_hits_total{engine="0"} 48
vllm:prefix_cache_hits_total{engine="1"} 2
vllm:spec_decode_num_drafts_total{engine="0"} 30.0
vllm:spec_decode_num_draft_tokens_total{engine="0"} 40
vllm:spec_decode_num_accepted_tokens_total{engine="0"} 25
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 15
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="1"} 10
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="999999"} 10
`)
	assert.Equal(t, 34.0, b.hits-a.hits)
	d := b.since(&a)
	require.NotNil(t, d)
	assert.Equal(t, &Drafts{Rate: 62.5, Length: 2.25, Passes: 20, Drafted: 40, Accepted: 25, At: []float64{0.75, 0.5}}, d)
	assert.Nil(t, a.since(&a))
	f := empty()
	f.Drafts = d
	var out bytes.Buffer
	require.NoError(t, WriteVLLM(&out, f, "", nil))
	assert.Contains(t, out.String(), "---------------Speculative Decoding---------------\nAcceptance rate (%):                     62.50     \nAcceptance length:                       2.25      \n"+
		"Drafts:                                  20        \nDraft tokens:                            40        \nAccepted tokens:                         25        \n"+
		"Per-position acceptance (%):\n  Position 0:                            75.00     \n  Position 1:                            50.00     \n====")
}

// TestServerWords: counters that are not there say nothing of drafts, SGLang's
// gauge does, and a server that hangs is left alone.
func TestServerWords(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 100 * time.Millisecond
	for _, tc := range []struct{ name, metrics, want string }{
		{"none", "", "drafts unknown"}, {"of another engine", "llamacpp:requests 1\n", "drafts unknown"},
		{"vLLM", "vllm:num_requests_running 0\n", "no drafts"}, {"vLLM with drafts", "vllm:spec_decode_num_drafts_total 0\n", "drafts on"},
		{"SGLang", "sglang:spec_accept_length{} 0.0\n", "drafts unknown"}, {"SGLang with drafts", "sglang:spec_accept_length{} 2.5\n", "drafts on"},
		{"hanging", "hang", "drafts unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/v1/models":
					fmt.Fprint(w, `{"data":[{"id":"m"}]}`)
				case r.URL.Path == "/metrics" && tc.metrics == "hang":
					<-r.Context().Done()
				case r.URL.Path == "/metrics" && tc.metrics != "":
					fmt.Fprint(w, tc.metrics)
				case r.Method == http.MethodPost:
					fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: [DONE]\n\n")
				default:
					http.NotFound(w, r)
				}
			}))
			defer s.Close()
			l := Load{URL: s.URL, Client: NewClient(), Backend: Completions, Prompts: []Prompt{{Text: "a", Out: 1}}}
			who, err := FindServer(t.Context(), &l)
			require.NoError(t, err)
			assert.Equal(t, "unknown engine, model m, "+tc.want, who.String())
			r, err := Run(t.Context(), l)
			require.NoError(t, err)
			assert.Equal(t, strings.HasPrefix(tc.name, "SGLang with"), strings.Contains(strings.Join(r.Figures().Warnings, "\n"), "the server drafts"))
		})
	}
	hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"data":[`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer hang.Close()
	_, err := FindServer(t.Context(), &Load{URL: hang.URL, Client: NewClient()})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, ErrFormat, "it may answer yet")
}

// TestWarmup: what warms a server up begins like no prompt that is measured.
func TestWarmup(t *testing.T) {
	for _, p := range []Prompt{
		{Text: "abc def"}, {Text: "abc", Images: []string{"data:x"}}, {Messages: []any{map[string]any{"role": "user", "content": "abc"}, map[string]any{"role": "user", "content": "x"}}},
		{Messages: []any{map[string]any{"role": "user", "content": []any{map[string]any{"type": "text", "text": "abc"}}}}},
	} {
		was := fmt.Sprint(p.chat())
		w := p.warmup()
		assert.Contains(t, fmt.Sprint(w.chat()), "abc")
		assert.NotEqual(t, fmt.Sprint(w.chat())[:50], (was + strings.Repeat(" ", 50))[:50])
		assert.Equal(t, was, fmt.Sprint(p.chat()), "the prompt stays")
		assert.Len(t, w.chat(), len(p.chat()))
	}
	p := Prompt{IDs: []int{1, 2, 3}}
	assert.Equal(t, []int{3, 2, 1}, p.warmup().IDs)
	assert.Equal(t, []int{1, 2, 3}, p.IDs)
	var bodies []string // one request at a time
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if data, _ := io.ReadAll(r.Body); r.Method == http.MethodPost {
			bodies = append(bodies, string(data))
		}
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	_, err := Run(t.Context(), Load{URL: s.URL, Backend: Completions, Concurrency: 1, Warmup: 1, Prompts: []Prompt{{IDs: []int{1, 2, 3}}}})
	require.NoError(t, err)
	require.Len(t, bodies, 2)
	assert.Contains(t, bodies[0], "[3,2,1]")
	assert.Contains(t, bodies[1], "[1,2,3]")
}

// TestWarnings: what the server counts and an interruption are said.
func TestWarnings(t *testing.T) {
	hits, stop := 0, false
	var second atomic.Bool // of the requests, in the run that is stopped
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			fmt.Fprintf(w, "vllm:prefix_cache_hits_total %d\n", hits)
			hits += 8
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if stop && second.Swap(true) {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	l := Load{URL: s.URL, Backend: Completions, Concurrency: 1, Prompts: []Prompt{{Text: "a", Out: 1, Missed: 2}, {Text: "b"}}}
	r, err := Run(context.Background(), l)
	require.NoError(t, err)
	said := strings.Join(r.Figures().Warnings, "\n")
	assert.Contains(t, said, "read 8 tokens of prompts from its prefix cache")
	assert.Contains(t, said, "1 of 2 prompts are not of the length asked for: up to 2")
	stop = true
	ctx, cancel := context.WithCancel(context.Background())
	l.Done = func(int, int) { cancel() }
	r, err = Run(ctx, l)
	require.Error(t, err)
	f := r.Figures()
	assert.Equal(t, [3]int{1, 0, 1}, [3]int{f.Completed, f.Failed, f.Unfinished})
	assert.Contains(t, strings.Join(f.Warnings, "\n"), "interrupted: 1 of 2")
	busy := &Result{Load: &Load{Rate: 10}, Requests: make([]Request, 2), Duration: 2 * time.Second, busy: 1500 * time.Millisecond, late: 40 * time.Millisecond}
	said = strings.Join(busy.warnings(&Figures{}), "\n")
	assert.Contains(t, said, "75% of a processor")
	assert.Contains(t, said, "20ms late")
}

// TestCells: a line that was written is found again by its cell, in every style.
func TestCells(t *testing.T) {
	cell := Cell{Scenario: "chat", In: 1000, Out: 1000, Prompts: 80, Concurrency: 16, Run: 2, Settings: "01ab"}
	r := &Result{Load: &Load{Prompts: make([]Prompt, 1), Shape: Shape{In: 1000, Out: 1000, Style: "vllm"}}, Cell: &cell, Duration: time.Second,
		Requests: []Request{{In: 3, Out: 4, TTFT: time.Millisecond, Latency: time.Second}}}
	f := r.Figures()
	var b bytes.Buffer
	require.NoError(t, r.SaveVLLM(&b, f, true, time.Unix(0, 0)))
	require.NoError(t, r.SaveVLLM(&b, f, false, time.Unix(0, 0)))
	require.NoError(t, r.SaveSGLang(&b, f))
	list, err := ReadSaved(b.Bytes())
	require.NoError(t, err)
	require.Len(t, list, 3)
	for _, x := range list {
		assert.Equal(t, cell.String(), x.Cell)
		assert.Equal(t, 1, x.Completed)
	}
	assert.Equal(t, 1000, list[0].Shape.Out)
	assert.Contains(t, b.String(), `"random_range_ratio": 1,`, "exact lengths, as SGLang's client has them")
	for _, tc := range []struct {
		shape Shape
		want  string
	}{{Shape{In: 1, Style: "sglang"}, `"random_range_ratio": 0,`}, {Shape{In: 1, Style: "vllm", Ratio: 0.5}, ""}, {Shape{In: 1, Style: "sglang", Ratio: 0.5}, `"random_range_ratio": 0.5,`}} {
		b.Reset()
		r.Load.Shape = tc.shape
		require.NoError(t, r.SaveSGLang(&b, f))
		assert.Equal(t, tc.want != "", strings.Contains(b.String(), "random_range_ratio"), tc.want)
		assert.Contains(t, b.String(), tc.want)
	}
	b.Reset()
	r.Load.Burstiness = 0.5
	require.NoError(t, r.SaveVLLM(&b, f, false, time.Unix(0, 0)))
	assert.Contains(t, b.String(), `"burstiness": 0.5,`)
	_, err = ReadSaved([]byte("{\"completed\": 1}\n{"))
	assert.ErrorIs(t, err, ErrFormat)
	table := Table([]Group{{"chat, 16 at once", []Figures{{Completed: 1, Total: 3}, {Completed: 1, Total: 1}, {Completed: 1, Total: 2}}}, {"one", []Figures{{Total: 5, Output: math.NaN()}}}})
	assert.Contains(t, table, "| chat, 16 at once | 3 | 3 | 2.00 (1.00 to 3.00) |")
	assert.Contains(t, table, "| one | 1 | 0 | 5.00 | – |")
}

func TestDifferences(t *testing.T) {
	a := Figures{Completed: 10, InputTokens: 10000, OutTokens: 1000, Concurrency: 16, Shape: Shape{Dataset: "random", Out: 100, Style: "vllm"}}
	b := a
	assert.Empty(t, Differences(&a, &b))
	b.InputTokens, b.Concurrency, b.Shape.Style, b.Shape.Out = 5000, 0, "sglang", 200
	said := strings.Join(Differences(&a, &b), "\n")
	for _, want := range []string{"tokens of a prompt differ: 1000.0 and 500.0", "at once differ: 16 and –", "range styles differ", "output lengths asked for differ: 100 and 200"} {
		assert.Contains(t, said, want)
	}
	b.Shape = Shape{Dataset: "sharegpt"}
	assert.Contains(t, Differences(&a, &b)[0], "data sets differ: random and sharegpt")
}

// TestCommand: the clients' own flags, and what they lack.
func TestCommand(t *testing.T) {
	o := CommandOptions{Load: &Load{URL: "http://h:1", Backend: Chat, Model: "m", Burstiness: 1, Warmup: 1, IgnoreEOS: true, Percentiles: []int{50, 99}, Extra: map[string]any{"a": 1}},
		Cell: Cell{In: 10, Out: 20, Prompts: 5, Concurrency: 2}, Dataset: "random", Prefix: 3, Goodput: "ttft:5,tpot:6", Save: true}
	args, missing, err := Command("vllm", o)
	require.NoError(t, err)
	assert.Empty(t, missing)
	assert.Equal(t, `vllm bench serve --backend openai-chat --endpoint /v1/chat/completions --base-url http://h:1 --model m --num-prompts 5 --request-rate inf --max-concurrency 2 --seed 0 `+
		`--dataset-name random --random-input-len 10 --random-output-len 20 --random-range-ratio 0 --random-prefix-len 3 --num-warmups 1 --temperature 0 --ignore-eos `+
		`--percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,99 --goodput ttft:5 tpot:6 --extra-body {"a":1} --save-result`, strings.Join(args, " "))
	o.Dataset, o.Images, o.Height, o.Width = "image", 2, 360, 640
	args, _, err = Command("vllm", o)
	require.NoError(t, err)
	assert.Contains(t, strings.Join(args, " "), `--dataset-name random-mm --random-mm-base-items-per-request 2 --random-mm-limit-mm-per-prompt {"image": 2} --random-mm-bucket-config {(360, 640, 1): 1.0}`)
	o.Dataset, o.Load.Burstiness, o.Load.Backend = "random", 2, Native
	args, missing, err = Command("sglang", o)
	require.NoError(t, err)
	assert.Contains(t, strings.Join(args, " "), "--backend sglang --base-url http://h:1")
	assert.Contains(t, strings.Join(args, " "), "--dataset-name random-ids --tokenize-prompt --random-input-len 10 --random-output-len 20 --random-range-ratio 1 --warmup-requests 1")
	assert.Len(t, missing, 2, "prefix and burstiness")
	_, _, err = Command("vllm", o)
	assert.Error(t, err)
}
