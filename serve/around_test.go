package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDefaults: what a request does not name is what generation_config.json says.
func TestDefaults(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "generation_config.json")
	d, err := readDefaults(dir)
	require.NoError(t, err)
	assert.Equal(t, defaults{}, d)
	require.NoError(t, os.WriteFile(path, []byte(`{"temperature":0.25,"top_p":0.9,"top_k":7,"do_sample":true}`), 0o600))
	d, err = readDefaults(dir)
	require.NoError(t, err)
	own := 0.5
	q := sampling{Temperature: &own}
	d.fill(&q)
	assert.Equal(t, []any{0.5, 0.9, 7}, []any{*q.Temperature, *q.TopP, *q.TopK})
	assert.Nil(t, q.MinP)
	for _, bad := range []string{`{`, `{"temperature":"hot"}`, `{"temperature":-1}`} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		_, err = readDefaults(dir)
		require.Error(t, err, bad)
		assert.Contains(t, err.Error(), "generation_config.json")
	}
}

// TestModelName: an answer names the model that gave it, also where the request named none.
func TestModelName(t *testing.T) {
	_, url := start(t, Options{Names: []string{"first", "second"}})
	for _, tc := range []struct{ name, body, want string }{
		{"none", `{"prompt":"a","max_tokens":1}`, `"model":"first"`},
		{"an empty one", `{"model":"","prompt":"a","max_tokens":1}`, `"model":"first"`},
		{"the second", `{"model":"second","prompt":"a","max_tokens":1}`, `"model":"second"`},
		{"none, streamed", `{"prompt":"a","max_tokens":1,"stream":true}`, `"model":"first"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, text := post(t, url+"/v1/completions", tc.body)
			assert.Equal(t, http.StatusOK, code, text)
			assert.Contains(t, text, tc.want)
		})
	}
}

// TestOrigins: pages of other origins get no leave to read.
func TestOrigins(t *testing.T) {
	_, url := start(t, Options{Origins: []string{"http://page.example"}, Key: "k"})
	for origin, may := range map[string]string{"http://page.example": "http://page.example", "http://other.example": "", "": ""} {
		req, err := http.NewRequest(http.MethodOptions, url+"/v1/chat/completions", nil)
		require.NoError(t, err)
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, may, resp.Header.Get("Access-Control-Allow-Origin"), origin)
		assert.Equal(t, may != "", resp.StatusCode == http.StatusNoContent, origin)
	}
}

// TestPing: a stream that waits gets comments where they are asked for, and only
// there; each event of continuous_usage_stats has its usage; a request is a line.
func TestPing(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	_, url := start(t, Options{MaxSeqs: 1, Ping: time.Millisecond, Log: func(s string) { mu.Lock(); defer mu.Unlock(); lines = append(lines, s) }})
	ask := `{"prompt":"` + strings.Repeat("a long prompt ", 200) + `","max_tokens":3,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`
	code, text := post(t, url+"/v1/completions", ask)
	require.Equal(t, 200, code)
	assert.Contains(t, text, ": ping\n\n")
	assert.Contains(t, text, `"completion_tokens":2`)
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(lines) == 1 }, 5*time.Second, time.Millisecond)
	assert.Regexp(t, `^POST /v1/completions 200, \d+ bytes, \d+\.\d{3} s$`, lines[0])
	_, quiet := start(t, Options{MaxSeqs: 1})
	_, text = post(t, quiet+"/v1/completions", ask)
	assert.NotContains(t, text, "ping")
}

// TestStop: a server that stops answers what it has, and refuses what comes.
func TestStop(t *testing.T) {
	s, url := start(t, Options{})
	begun := make(chan io.ReadCloser)
	go func() {
		resp, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a","max_tokens":300,"ignore_eos":true,"stream":true}`))
		if assert.NoError(t, err) {
			begun <- resp.Body
		}
	}()
	stream := <-begun
	stopped := make(chan error)
	go func() { s.Stop(context.Background()); stopped <- nil }()
	require.Eventually(t, s.closing.Load, 5*time.Second, time.Millisecond)
	resp, err := http.Get(url + "/health")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 503, resp.StatusCode)
	code, text := post(t, url+"/v1/completions", `{"prompt":"a","max_tokens":1}`)
	assert.Equal(t, 503, code, text)
	whole, err := io.ReadAll(stream)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(whole), "data: [DONE]\n\n"), fmt.Sprint(len(whole)))
	require.NoError(t, <-stopped)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	s.active.Add(1) // one that never ends
	s.Stop(ctx)
	s.active.Add(-1)
}

// deadlines remembers when a write had to be done by.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) Write(p []byte) (int, error)         { return len(p), nil }
func (d *deadlines) Header() http.Header                 { return http.Header{} }
func (d *deadlines) Flush()                              {}
func (d *deadlines) SetWriteDeadline(at time.Time) error { d.set = append(d.set, at); return nil }

// TestStalledReader: each event has to be taken within a minute, and the next
// request of a connection begins without a deadline.
func TestStalledReader(t *testing.T) {
	d := &deadlines{}
	newSSE(d).end(nil)
	require.Len(t, d.set, 2)
	assert.InDelta(t, stall.Seconds(), time.Until(d.set[0]).Seconds(), 5)
	assert.True(t, d.set[1].IsZero())
}
