package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	code, _, errs := sweep()
	assert.Equal(t, exitIO, code)
	assert.Contains(t, errs, "vllm, model m, context 99, no drafts")
	assert.Contains(t, errs, "503")
	assert.Equal(t, 3, lines(), "two whole runs, and one of which half came back")

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

// benchOut runs bench and returns what it prints.
func benchOut(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"glmconv", "bench"}, args...), &o, &e)
	return code, o.String(), e.String()
}
