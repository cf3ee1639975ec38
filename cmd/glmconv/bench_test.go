package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// TestBenchSweep: a sweep that broke off keeps its finished runs, and goes on
// behind them.
func TestBenchSweep(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/completions") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m","owned_by":"vllm","max_model_len":99}]}`)
			return
		}
		if asked.Add(1) > 5 {
			http.Error(w, "no more", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "runs.json")
	sweep := func(more ...string) (int, string, string) {
		return benchOut(t, append([]string{s.URL, "--backend", "openai", "--num-prompts", "2", "--warmup", "0", "--input-len", "4", "--output-len", "1",
			"--concurrency", "1,2", "--repeat", "2", "--report", "table", "--save-json", file}, more...)...)
	}
	lines := func() int {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		return strings.Count(string(data), "\n")
	}
	page := filepath.Join(t.TempDir(), "runs.html")
	code, said, errs := sweep("--html", page)
	assert.Equal(t, exitIO, code)
	assert.Contains(t, errs, "vllm, model m, context 99, drafts unknown")
	assert.Contains(t, errs, "503")
	assert.Equal(t, 3, lines(), "two whole runs, and one of which half came back")
	assert.Contains(t, errs, "note: broke off after 3 of 4 runs")
	assert.Contains(t, said, "| 4+1, 1 at once | 2 |", "the table of what there is")
	report, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(report), "broke off after 3 of 4 runs")

	asked.Store(0)
	code, out, errs := sweep("--resume")
	assert.Equal(t, exitOK, code, errs)
	assert.EqualValues(t, 4, asked.Load(), "two runs of four")
	assert.Equal(t, 2, strings.Count(errs, "in the file already"))
	assert.Equal(t, 4, lines())
	assert.Contains(t, out, "| 4+1, 1 at once | 2 | 4 |")
	asked.Store(0)
	code, _, errs = sweep("--resume", "--fail-under", "requests:1e9")
	assert.Equal(t, exitNegative, code)
	assert.Zero(t, asked.Load())
	assert.Contains(t, errs, "missed: requests is")
	code, _, _ = sweep("--resume", "--seed", "7", "--allow-failures")
	assert.Equal(t, exitIO, code, "other settings are other runs")
	assert.EqualValues(t, 8, asked.Load(), "another seed is measured anew")
}

// TestBenchResumed: runs that are taken from the file end with the code that they
// ended with when they were measured.
func TestBenchResumed(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/completions") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
			return
		}
		asked.Add(1)
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"7\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	lines := filepath.Join(t.TempDir(), "questions.jsonl")
	require.NoError(t, os.WriteFile(lines, []byte("{\"id\":\"a\",\"prompt\":\"3+4\",\"answer\":\"7\"}\n{\"id\":\"b\",\"prompt\":\"4+4\",\"answer\":\"8\"}\n"), 0o600))
	scored := []string{"--dataset", "jsonl", "--dataset-path", lines, "--score", "number", "--fail-under"}
	for _, tc := range []struct {
		name  string
		args  []string
		code  int
		again int64 // requests of the run that goes on
	}{
		{"a floor of accuracy that is met", append(scored, "accuracy:50"), exitOK, 0},
		{"one that is missed", append(scored, "accuracy:51"), exitNegative, 0},
		{"SGLang's lines have no scores", append(scored, "accuracy:51", "--json-style", "sglang"), exitNegative, 2},
		{"limits that are missed", []string{"--goodput", "ttft:0.000001"}, exitNegative, 0},
		{"limits that are met", []string{"--goodput", "ttft:60000", "--fail-under", "attainment:100"}, exitOK, 0},
		{"SGLang's lines have no goodput", []string{"--goodput", "ttft:0.000001", "--json-style", "sglang"}, exitNegative, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{s.URL, "--backend", "openai", "--num-prompts", "2", "--warmup", "0", "--concurrency", "1", "--output-len", "1",
				"--save-json", filepath.Join(t.TempDir(), "runs.json")}, tc.args...)
			code, first, errs := benchOut(t, args...)
			require.Equal(t, tc.code, code, errs)
			asked.Store(0)
			code, then, errs := benchOut(t, append(args, "--resume")...)
			assert.Equal(t, tc.code, code, errs)
			assert.Equal(t, tc.again, asked.Load())
			assert.Equal(t, strings.Count(first, "accuracy 50.0%"), strings.Count(then, "accuracy 50.0%"))
			code, _, errs = benchOut(t, append(args, "--resume", "--goodput", "ttft:50000")...)
			assert.NotContains(t, errs, "in the file already", "other limits are other runs: %d", code)
		})
	}
}

// TestBenchLost: a server that goes away is no list of failures.
func TestBenchLost(t *testing.T) {
	var s *httptest.Server
	var asked atomic.Int64
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/completions") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
			return
		}
		if asked.Add(1) == 3 {
			_ = s.Listener.Close()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Connection", "close")
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "runs.json")
	code, out, errs := benchOut(t, s.URL, "--backend", "openai", "--num-prompts", "4", "--warmup", "0", "--input-len", "4", "--concurrency", "1", "--save-json", file)
	assert.Equal(t, exitIO, code)
	assert.Contains(t, errs, "lost after 2 of 4 requests")
	assert.Contains(t, out, "Successful requests:                     2 ")
	assert.FileExists(t, file)
}

// TestBenchInterrupted: what came back until then is shown, marked as that.
func TestBenchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/completions") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if asked.Add(1) == 4 {
			cancel()
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	page := filepath.Join(t.TempDir(), "runs.html")
	var o, e bytes.Buffer
	code := run(ctx, []string{"glmconv", "bench", s.URL, "--backend", "openai", "--num-prompts", "2", "--warmup", "0", "--concurrency", "1", "--repeat", "2", "--html", page}, &o, &e)
	assert.Equal(t, exitInterrupted, code, e.String())
	assert.Contains(t, e.String(), "note: broke off in run 2 of 2")
	assert.Contains(t, o.String(), "| 1024+128, 1 at once | 2 | 3 |")
	report, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(report), "broke off in run 2 of 2")
}

// TestBenchHangs: a server that takes connections and says nothing is not ready.
func TestBenchHangs(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	code, _, errs := benchOut(t, s.URL, "--backend", "openai", "--ready-timeout", "10ms")
	assert.Equal(t, exitTemporary, code)
	assert.Contains(t, errs, "not ready")
}

// benchOut runs bench and returns what it prints.
func benchOut(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"glmconv", "bench"}, args...), &o, &e)
	return code, o.String(), e.String()
}

// TestBenchCounts: the answers of a server that sends no usage are counted with the
// tokenizer that is given.
func TestBenchCounts(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/completions") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
			return
		}
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"one two\"}]}\n\ndata: {\"choices\":[{\"text\":\" three four\"}]}\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	dir := t.TempDir()
	require.NoError(t, demo.Extract(dir))
	tok, err := tokenizer.Load(dir)
	require.NoError(t, err)
	code, out, errs := benchOut(t, s.URL, "--backend", "openai", "--num-prompts", "2", "--warmup", "0", "--input-len", "4", "--tokenizer", dir, "--report", "table")
	require.Equal(t, exitOK, code, errs)
	assert.Contains(t, out, fmt.Sprintf("8 tokens in, %d out", 2*len(tok.EncodeOrdinary("one two three four"))))
	assert.Contains(t, errs, "counted from the text")
}
