package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestShuffle: Python's random.seed(s); random.shuffle(list(range(n))).
func TestShuffle(t *testing.T) {
	shuffled := func(seed uint32, n int) []int {
		l := make([]int, n)
		for i := range l {
			l[i] = i
		}
		newTwister(seed).shuffle(n, func(i, j int) { l[i], l[j] = l[j], l[i] })
		return l
	}
	assert.Equal(t, []int{7, 8, 1, 5, 3, 4, 2, 0, 9, 6}, shuffled(0, 10))
	assert.Equal(t, []int{7, 3, 2, 8, 5, 6, 9, 4, 0, 1}, shuffled(42, 10))
	long := shuffled(0, 1000)
	assert.Equal(t, []int{439, 621, 160, 549, 237, 389, 658, 507}, long[:8])
	assert.Equal(t, []int{776, 394, 864}, long[997:])
}

// TestFigures works one small run out by hand.
func TestFigures(t *testing.T) {
	ms := time.Millisecond
	r := &Result{Load: &Load{Concurrency: 2, Limits: Limits{TTFT: 150 * ms}}, Duration: 2 * time.Second, Requests: []Request{
		{Start: 0, TTFT: 100 * ms, Gaps: []time.Duration{50 * ms, 150 * ms}, Latency: 300 * ms, In: 10, Out: 3},
		{Start: 900 * ms, TTFT: 200 * ms, Gaps: []time.Duration{100 * ms}, Latency: 300 * ms, In: 20, Out: 2},
		{Err: "boom"},
	}}
	f := r.Figures()
	assert.Equal(t, [4]int{2, 1, 30, 5}, [4]int{f.Completed, f.Failed, f.InputTokens, f.OutTokens})
	assert.InDelta(t, 2.5, f.Output, 1e-9)
	assert.InDelta(t, 17.5, f.Total, 1e-9)
	assert.InDelta(t, 150, f.TTFT.Mean, 1e-9)
	assert.InDelta(t, 199, f.TTFT.P[99], 1e-9)
	assert.InDelta(t, 100, f.TPOT.Mean, 1e-9)
	assert.InDelta(t, 100, f.ITL.Median, 1e-9)
	assert.InDelta(t, 0.3, f.Active, 1e-9)
	assert.InDelta(t, 0.5, f.Goodput, 1e-9)
	assert.Equal(t, 3.0, f.PeakOutput, "messages of the first second")
	assert.Equal(t, 2.0, f.PeakActive, "the second request touches the first second")
	assert.Contains(t, strings.Join(f.Warnings, "\n"), "boom")
}

// TestPasted: reports in the published guides are read, and come out again
// byte for byte.
func TestPasted(t *testing.T) {
	dir := testkit.Shared(t, "stories")
	total := 0
	for _, name := range []string{"a100-glm-4.5-air.md", "glm-4.5v.md"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		list, err := Read(data)
		require.NoError(t, err)
		total += len(list)
		text := string(data)
		for _, f := range list {
			require.Positive(t, f.Completed)
			require.False(t, math.IsNaN(f.Total) || math.IsNaN(f.TPOT.Mean), "%+v", f)
			var b bytes.Buffer
			if f.Source == "sglang" {
				continue // its vision tokens are not among the figures
			}
			require.NoError(t, WriteVLLM(&b, f, "0.11", []int{99}))
			for _, l := range strings.Split(strings.TrimSpace(b.String()), "\n") {
				assert.Contains(t, text, strings.TrimRight(l, " "))
			}
		}
	}
	assert.GreaterOrEqual(t, total, 23)
}

// TestReportBytes: labels, order, widths and trailing blanks.
func TestReportBytes(t *testing.T) {
	f := empty()
	f.Completed, f.Failed, f.InputTokens, f.OutTokens, f.Duration, f.Requests, f.Output, f.PeakOutput, f.PeakActive, f.Total = 2, 0, 30, 5, 2, 1, 2.5, 3, 2, 17.5
	f.TTFT.Mean, f.TTFT.Median, f.TTFT.P[99] = 150, 150, 199
	var b bytes.Buffer
	require.NoError(t, WriteVLLM(&b, f, "", nil))
	lines := strings.Split(b.String(), "\n")
	assert.Equal(t, "============ Serving Benchmark Result ============", lines[0])
	assert.Equal(t, "Successful requests:                     2         ", lines[1])
	assert.Equal(t, "Failed requests:                         0         ", lines[2])
	assert.Equal(t, "Benchmark duration (s):                  2.00      ", lines[3])
	assert.Contains(t, b.String(), "---------------Time to First Token----------------\n")
	assert.Contains(t, b.String(), "-----Time per Output Token (excl. 1st token)------\n")
	assert.Contains(t, b.String(), "---------------Inter-token Latency----------------\n")
	b.Reset()
	require.NoError(t, WriteSGLang(&b, f, ""))
	assert.Contains(t, b.String(), "Max request concurrency:                 not set   \n")
	assert.Contains(t, b.String(), "----------------End-to-End Latency----------------\n")
}

// TestCompare gives the published gains.
func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		base, now float64
		want      string
	}{{3903.44, 6245.77, "+60.0%"}, {6271.24, 13012.20, "+107.5%"}, {8643.75, 10956.49, "+26.8%"}, {6975.10, 9100.71, "+30.5%"}, {6435.97, 7945.66, "+23.5%"}} {
		assert.Equal(t, tc.want, Gain(tc.base, tc.now, 4, 4))
	}
	assert.Equal(t, "+0.0%", Gain(100, 200, 4, 8))
	assert.Equal(t, "–", Gain(0, 1, 1, 1))
	assert.Equal(t, []StepGain{{"engine", "+57.8%"}, {"quantization", "–"}, {"parallelism", "+1.4%"}, {"attention", "–"}, {"graphs", "–"}}, Steps([]Step{
		{"engine", 3903.44}, {"engine", 6160.72}, {"quantization", 0}, {"parallelism", 0}, {"parallelism", 6245.77}, {"attention", 6019.69},
		{"attention", 6123.98}, {"graphs", 6242.21}}))
}

// server streams n tokens in the form of a backend.
func server(t *testing.T, n int) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil && r.Method == http.MethodPost {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		send := func(format string, args ...any) {
			fmt.Fprintf(w, "data: "+format+"\n\n", args...)
			w.(http.Flusher).Flush()
		}
		switch r.URL.Path {
		case "/v1/models":
			fmt.Fprint(w, `{"data":[{"id":"m","root":"/r"}]}`)
		case "/generate":
			for i := range n {
				send(`{"text":%q,"meta_info":{"prompt_tokens":7,"completion_tokens":%d}}`, strings.Repeat("a", i+1), i+1)
			}
			send("[DONE]")
		case "/v1/chat/completions", "/v1/completions":
			fmt.Fprint(w, ": comment\n\n")
			for range n {
				if r.URL.Path == "/v1/completions" {
					send(`{"choices":[{"text":"a"}]}`)
				} else {
					send(`{"choices":[{"delta":{"content":"a"}}]}`)
				}
			}
			send(`{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":%d}}`, n)
			send("[DONE]")
		default:
			http.Error(w, "no", http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestRun(t *testing.T) {
	s := server(t, 5)
	for _, b := range Backends {
		l := Load{URL: s.URL, Backend: b, Model: "m", Concurrency: 4, Prompts: make([]Prompt, 20)}
		for i := range l.Prompts {
			l.Prompts[i] = Prompt{Text: "hi", Out: 5}
		}
		r, err := Run(context.Background(), l)
		require.NoError(t, err)
		f := r.Figures()
		require.Zero(t, f.Failed, "%s: %s", b, f.FirstError)
		assert.Equal(t, [3]int{20, 140, 100}, [3]int{f.Completed, f.InputTokens, f.OutTokens}, b)
		assert.Len(t, r.Requests[0].Gaps, 4, b)
		assert.Equal(t, "aaaaa", r.Requests[0].Text, b)
		var buf bytes.Buffer
		require.NoError(t, r.SaveVLLM(&buf, f, true, time.Unix(0, 0)))
		back, err := Read(buf.Bytes())
		require.NoError(t, err)
		assert.Equal(t, f.OutTokens, back[0].OutTokens)
		assert.True(t, math.IsInf(back[0].Rate, 1))
		buf.Reset()
		require.NoError(t, r.SaveSGLang(&buf, f))
		back, err = Read(buf.Bytes())
		require.NoError(t, err)
		assert.InDelta(t, f.Total, back[0].Total, 1e-9)
	}
	who, err := FindServer(context.Background(), &Load{URL: s.URL, Client: NewClient()})
	require.NoError(t, err)
	assert.Equal(t, "m /r", who.Model+" "+who.Root)
}

// TestBadServers: errors are counted with their text, never a hang or a panic.
func TestBadServers(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "data: {\n\n", "cut off": "data: {\"choices\":[{\"text\":\"a\"}]}\n\n", "empty": "", "an error": "data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n",
		"only usage": "data: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
		r, err := Run(context.Background(), Load{URL: s.URL, Backend: Completions, Prompts: []Prompt{{Text: "a", Out: 1}}})
		s.Close()
		require.NoError(t, err)
		assert.NotEmpty(t, r.Requests[0].Err, name)
	}
}

// TestNativeGaps: a gap of SGLang's native form belongs to each of its new tokens; a
// message without one has none.
func TestNativeGaps(t *testing.T) {
	a := answer{native: true, start: time.Unix(0, 0)}
	for _, m := range []struct {
		at, tokens int
		text       string
	}{{100, 2, "a"}, {160, 4, "ab"}, {170, 4, "abc"}, {220, 5, "abcd"}, {230, 5, "abcde"}} {
		var got message
		require.NoError(t, json.Unmarshal(fmt.Appendf(nil, `{"text":%q,"meta_info":{"prompt_tokens":7,"completion_tokens":%d}}`, m.text, m.tokens), &got))
		a.take(&got, time.UnixMilli(int64(m.at)))
	}
	ms := time.Millisecond
	assert.Equal(t, []time.Duration{30 * ms, 30 * ms, 60 * ms}, a.q.Gaps)
	assert.Equal(t, [2]time.Duration{100 * ms, 230 * ms}, [2]time.Duration{a.q.TTFT, a.q.Latency}, "which ends with the last message")
	assert.Equal(t, 5, a.q.Out)
	assert.Equal(t, "abcde", a.q.Text)
}

func TestRandomLengths(t *testing.T) {
	for _, p := range Random(RandomOptions{Prompts: 50, In: 100, Out: 10, Seed: 1, Vocab: 1000}, nil) {
		assert.Len(t, p.IDs, 100)
		assert.Equal(t, 10, p.Out)
	}
	sum := 0
	for _, p := range Random(RandomOptions{Prompts: 2000, In: 1000, Out: 10, SGLang: true, Seed: 1, Vocab: 1000}, nil) {
		sum += len(p.IDs)
	}
	assert.InDelta(t, 500, float64(sum)/2000, 25, "SGLang's lengths are half of what is asked for")
}

func TestArrivals(t *testing.T) {
	for _, shape := range []float64{0.5, 1, 4, math.Inf(1)} {
		l := Load{Rate: 10, Burstiness: shape, Prompts: make([]Prompt, 50), Seed: 3}
		at := l.arrivals()
		assert.InDelta(t, 5, at[49].Seconds(), 1e-6)
		for i := 1; i < len(at); i++ {
			assert.GreaterOrEqual(t, at[i], at[i-1])
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"completed": 1, "request_rate": Infinity}`))
	f.Add([]byte("============ Serving Benchmark Result ============\nSuccessful requests: 1\n=================================================="))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Read(data)
		if err == nil && len(list) == 0 && len(bytes.TrimSpace(data)) > 0 {
			t.Fatal("no error and no result")
		}
	})
}
