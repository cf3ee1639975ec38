package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/serve"
	"github.com/glmconv/glmconv/verify"
)

// TestGood: a server of every family passes against its own folder, to the last
// bit.
func TestGood(t *testing.T) {
	for _, name := range []string{"nano-glm5", "nano-glm4moe", "nano-glm45v"} {
		t.Run(name, func(t *testing.T) {
			dir := testkit.Shared(t, "reference/"+name)
			r, err := Verify(t.Context(), dir, "", few(live(t, dir, serve.Options{})))
			require.NoError(t, err)
			assert.Equal(t, verify.Pass, r.Verdict, r.Text())
			assert.Equal(t, Glmconv, r.Servers[0].Kind)
			f := r.Servers[0].Figures
			assert.Less(t, f.KL, 1e-9)
			assert.InDelta(t, 0, f.Abs, 1e-9)
			assert.Zero(t, r.Servers[0].Repeat.Max)
			assert.Positive(t, r.Floor.NLL)
			assert.Equal(t, f.Tokens, len(f.Places))
		})
	}
}

// TestShapes: the forms of other engines are read, and mean the same.
func TestShapes(t *testing.T) {
	dir := folder(t)
	f := newFake(t, dir)
	for kind, routes := range map[Kind]map[string]http.HandlerFunc{VLLM: f.vllm(), SGLang: f.sglang(), LlamaPython: (&llamaPython{fake: f, bos: -1}).routes(), LlamaServer: f.llamaServer()} {
		t.Run(string(kind), func(t *testing.T) {
			o := few(f.serve(routes))
			o.TopK = 200
			o.Verify.TokenIDs = [][]int{ids(t, f, 40), ids(t, f, 33)}
			r, err := Verify(t.Context(), dir, "", o)
			require.NoError(t, err)
			s := r.Servers[0]
			assert.Equal(t, kind, s.Kind)
			assert.InDelta(t, 0, s.Figures.Abs, 1e-6, r.Text())
			assert.InDelta(t, 0, s.Figures.KL, 1e-6)
			assert.Empty(t, r.Failed, r.Text())
			switch kind {
			case VLLM:
				assert.Equal(t, 20, s.TopK, "what the server allows")
				assert.Equal(t, "fp8", s.Cache)
				assert.Equal(t, "0.32.0", s.Version)
				assert.Greater(t, s.Figures.Tokens, 50)
			case LlamaServer:
				assert.Greater(t, s.Figures.Tokens, 15)
			default:
				assert.Greater(t, s.Figures.Tokens, 50)
			}
		})
	}
}

// ids are some ids that survive decoding and encoding.
func ids(t *testing.T, f *fake, n int) []int {
	t.Helper()
	list := f.tok.Encode("The river bends twice before the old mill, and nobody who lives there remembers why. In spring the water rises; in autumn it falls, and the children count stones.")
	require.GreaterOrEqual(t, len(list), n)
	return list[:n]
}

// TestRefused: answers that are none, and servers of other models.
func TestRefused(t *testing.T) {
	dir := folder(t)
	f := newFake(t, dir)
	prompt := ids(t, f, 24)
	change := func(with func(m map[string]any)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			f.vllm()["/v1/completions"](rec, r)
			var m map[string]any
			assert.NoError(t, json.Unmarshal(rec.Body.Bytes(), &m))
			if c, ok := m["choices"].([]any); ok {
				with(c[0].(map[string]any))
			}
			reply(w, m)
		}
	}
	for name, tc := range map[string]struct {
		kind error
		says string
		h    http.HandlerFunc
	}{
		"logits": {ErrAnswer, "these are logits", change(func(m map[string]any) {
			m["prompt_logprobs"].([]any)[3] = map[string]any{"1": map[string]any{"logprob": 7.5}, itoa(prompt[3]): map[string]any{"logprob": 3}}
		})},
		"too few places": {ErrAnswer, "of 5 places", change(func(m map[string]any) { m["prompt_logprobs"] = m["prompt_logprobs"].([]any)[:5] })},
		"other ids":      {ErrModel, "not those sent", change(func(m map[string]any) { m["prompt_token_ids"] = []int{1, 2, 3} })},
		"nothing of the token": {ErrAnswer, "says nothing of the token", change(func(m map[string]any) {
			m["prompt_logprobs"].([]any)[3] = map[string]any{"1": map[string]any{"logprob": -1}}
		})},
		"no numbers": {ErrAnswer, "among the tokens", change(func(m map[string]any) {
			m["prompt_logprobs"].([]any)[3] = map[string]any{"x": map[string]any{"logprob": -1}}
		})},
		"beyond the vocabulary": {ErrModel, "the vocabulary of the folder", change(func(m map[string]any) {
			m["prompt_logprobs"].([]any)[3].(map[string]any)["99999999"] = map[string]any{"logprob": -1}
		})},
		"none":    {ErrAnswer, "no prompt_logprobs", change(func(m map[string]any) { delete(m, "prompt_logprobs") })},
		"no JSON": {ErrAnswer, "cannot be read", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }},
		"NaN": {ErrAnswer, "cannot be read", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"choices":[{"prompt_logprobs":[null,{"1":{"logprob":NaN}}]}]}`)
		}},
		"deep": {ErrAnswer, "cannot be read", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("[", 1<<20)) }},
		"redirect": {ErrAnswer, "redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}},
		"key":    {ErrAnswer, "status 401", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }},
		"large":  {ErrAnswer, "larger than 64 MiB", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+10)) }},
		"killed": {ErrLost, "connection broke", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(name, func(t *testing.T) {
			routes := f.vllm()
			routes["/v1/completions"] = tc.h
			o := few(f.serve(routes))
			o.TopK = 20
			o.Verify.TokenIDs = [][]int{prompt}
			_, err := Verify(t.Context(), dir, "", o)
			require.ErrorIs(t, err, tc.kind)
			assert.Contains(t, err.Error(), tc.says)
		})
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestNotReady(t *testing.T) {
	dir := folder(t)
	o := few("http://127.0.0.1:1/v1")
	o.Timeout = 50 * time.Millisecond
	_, err := Verify(t.Context(), dir, "", o)
	require.ErrorIs(t, err, ErrNotReady)
	o.URLs = []string{"ftp://host"}
	_, err = Verify(t.Context(), dir, "", o)
	require.ErrorIs(t, err, ErrAddress)
	f := newFake(t, dir)
	o.URLs, o.Model, o.Timeout = []string{f.serve(f.vllm())}, "another", time.Second
	_, err = Verify(t.Context(), dir, "", o)
	require.ErrorIs(t, err, ErrModel)
	o.URLs = []string{strings.Replace(o.URLs[0], "http://", "http://user:secret@", 1)}
	_, err = Verify(t.Context(), dir, "", o)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "secret")
}

// TestReports: the forms of a result are well-formed and tell the verdict.
func TestReports(t *testing.T) {
	dir := folder(t)
	o := few(live(t, dir, serve.Options{}))
	o.Functional, o.Chat = true, true
	r, err := Verify(t.Context(), dir, "", o)
	require.NoError(t, err)
	assert.Equal(t, verify.Pass, r.Verdict, r.Text())
	assert.Len(t, r.Probes, 12)
	for _, p := range append(r.Probes, r.Chat...) {
		assert.NotEqual(t, failed, p.State, "%s: %s", p.Name, p.Line)
	}
	assert.Equal(t, passed, r.Chat[0].State, "text that looks like a marker stays text: %s", r.Chat[0].Line)
	assert.Contains(t, r.Text(), "PASS")
	var b bytes.Buffer
	require.NoError(t, JSON(&b, r))
	var back Result
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	assert.Equal(t, r.Servers[0].Figures.Places, back.Servers[0].Figures.Places)
	b.Reset()
	require.NoError(t, JUnit(&b, r))
	var suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
	}
	require.NoError(t, xml.Unmarshal(b.Bytes(), &suite))
	assert.GreaterOrEqual(t, suite.Tests, 19)
	assert.Zero(t, suite.Failures)
	r.Cause = "<script>alert(1)</script>\u202e"
	b.Reset()
	require.NoError(t, HTML(&b, r, "<p>folders</p>"))
	assert.NotContains(t, b.String(), "<script>")
	assert.Contains(t, b.String(), "<polyline")
}

// TestCoarse: the bound is a bound, and tight where all is named.
func TestCoarse(t *testing.T) {
	p := map[int]float64{0: math.Log(0.5), 1: math.Log(0.3), 2: math.Log(0.2)}
	q := map[int]float64{0: math.Log(0.25), 1: math.Log(0.25), 2: math.Log(0.5)}
	want := 0.5*math.Log(2) + 0.3*math.Log(1.2) + 0.2*math.Log(0.4)
	kl, _, tail := coarse(p, q)
	assert.InDelta(t, want, kl, 1e-9)
	assert.InDelta(t, 0, tail, 1e-9)
	delete(q, 2)
	kl, _, tail = coarse(p, q)
	assert.InDelta(t, want, kl, 1e-6, "the rest is one token")
	assert.InDelta(t, 0.2, tail, 1e-9)
	delete(q, 1)
	kl, _, _ = coarse(p, q)
	assert.Less(t, kl, want)
	assert.Positive(t, kl)
}

func TestParseMetrics(t *testing.T) {
	m := parseMetrics("# HELP x y\nvllm:a{engine=\"0\",model_name=\"a\\\"b, c\"} 3\nvllm:a{engine=\"1\"} 4.5e0\nplain 7\nbroken{x=\"\nnone{} \n")
	v, ok := m.sum("vllm:a")
	assert.True(t, ok)
	assert.InDelta(t, 7.5, v, 1e-12)
	assert.Equal(t, `a"b, c`, m[0].labels["model_name"])
	v, _ = m.sum("plain")
	assert.InDelta(t, 7, v, 0)
	assert.Len(t, m, 3)
}

func FuzzMetrics(f *testing.F) {
	f.Add("a{b=\"c\"} 1\n")
	f.Add("a{b=\"\\\"} 1\na{,,} nan")
	f.Fuzz(func(t *testing.T, s string) {
		for _, x := range parseMetrics(s) {
			_ = x.labels["engine"]
		}
	})
}

// TestDrafts: the drafts of a server are accepted as the runtime's; a server that
// drafts nothing is told so.
func TestDrafts(t *testing.T) {
	dir := folder(t)
	o := few(live(t, dir, serve.Options{Speculative: 2}))
	o.Drafts = true
	r, err := Verify(t.Context(), dir, "", o)
	require.NoError(t, err)
	d := r.Servers[0].Drafts
	require.NotNil(t, d)
	assert.Equal(t, 2, d.K)
	assert.Equal(t, d.Runtime.Accepted, d.Server.Accepted, d.Line)
	assert.Equal(t, d.Runtime.Passes, d.Server.Passes)
	assert.NotEqual(t, failed, d.State, d.Line)
	o.URLs = []string{live(t, dir, serve.Options{})}
	r, err = Verify(t.Context(), dir, "", o)
	require.NoError(t, err)
	assert.Equal(t, verify.Fail, r.Verdict)
	assert.Contains(t, r.Servers[0].Drafts.Line, "counts no drafts")
}

// TestCancelled: a verification that is stopped stops.
func TestCancelled(t *testing.T) {
	dir := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Verify(ctx, dir, "", few("http://127.0.0.1:1"))
	require.ErrorIs(t, err, context.Canceled)
}
