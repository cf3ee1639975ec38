package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// soak counts what clients saw.
type soak struct {
	mu     sync.Mutex
	whole  int         // answers that came to their end
	gone   int         // requests that their client broke off
	codes  map[int]int // other answers
	wrong  []string    // requests that were lost
	client *http.Client
}

// requests are the kinds of requests of a soak: path and body.
func requests(client, n int) (path, body string) {
	prompt := counting(4+(client*13+n*7)%120, 1+client%5)
	list := strings.ReplaceAll(fmt.Sprint(prompt), " ", ",")
	limits := fmt.Sprintf(`"max_tokens":%d,"temperature":0.5,"seed":%d`, 1+n*5%40, n)
	switch (client + n) % 6 {
	case 0:
		return "/v1/completions", fmt.Sprintf(`{"prompt":%s,%s,"stream":true,"stream_options":{"include_usage":true}}`, list, limits)
	case 1:
		return "/v1/completions", fmt.Sprintf(`{"prompt":%s,%s,"n":2,"prompt_logprobs":1,"logprobs":1}`, list, limits)
	case 2:
		return "/v1/chat/completions", fmt.Sprintf(`{"messages":[{"role":"user","content":"%d"}],%s,"stream":true}`, n, limits)
	case 3:
		return "/v1/chat/completions", fmt.Sprintf(`{"messages":[{"role":"user","content":"%d"}],%s,"response_format":{"type":"json_object"}}`, n, limits)
	case 4:
		return "/generate", fmt.Sprintf(`{"input_ids":%s,"stream":true,"sampling_params":{"max_new_tokens":%d,"temperature":0}}`, list, 1+n%8)
	}
	return "/v1/completions", fmt.Sprintf(`{"prompt":%s,"max_tokens":120,"ignore_eos":true,"temperature":0,"stream":true}`, list) // broken off
}

// ask sends one request, and judges what came back.
func (s *soak) ask(url string, client, n int) {
	path, body := requests(client, n)
	patience, breaks := time.Minute, (client+n)%6 == 5
	if breaks {
		patience = time.Duration(5+n%60) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	text, code := []byte{}, 0
	if err == nil {
		text, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		code = resp.StatusCode
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	streamed := strings.Contains(body, `"stream":true`)
	switch {
	case err != nil && breaks:
		s.gone++
	case err != nil:
		s.wrong = append(s.wrong, fmt.Sprintf("%s %s: %v", path, body, err))
	case code != http.StatusOK:
		s.codes[code]++
	case strings.Contains(string(text), `"error"`), streamed && !strings.HasSuffix(string(text), "data: [DONE]\n\n"),
		!strings.Contains(string(text), "finish_reason"):
		s.wrong = append(s.wrong, fmt.Sprintf("%s %s: %.200s", path, body, text))
	default:
		s.whole++
	}
}

// heap is what is in use after garbage was collected.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// TestSoak: clients of every kind that come, go and break off, on a cache that is
// too small for all of them, lose no answer and leave neither goroutines nor pages
// nor memory behind.
func TestSoak(t *testing.T) {
	roomy, _ := start(t, Options{Speculative: 2})
	s, url := start(t, Options{MaxSeqs: 8, Speculative: 2, MaxQueue: 256, CacheBytes: 320 * slotBytes(roomy.model, true)}) // requests have up to 250 tokens
	long, clients := 1500*time.Millisecond, 20
	if os.Getenv("GLMCONV_TORTURE") != "" {
		long, clients = time.Minute, 100
	}
	k := &soak{codes: map[int]int{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}}
	for n := range 6 {
		k.ask(url, 0, n) // everything was used once
	}
	rest := func() {
		k.client.CloseIdleConnections()
		require.Eventually(t, func() bool {
			return s.metrics.running.Load() == 0 && s.metrics.waiting.Load() == 0 && s.metrics.usage.Load() == 0
		}, 20*time.Second, 10*time.Millisecond)
		code, _ := post(t, url+"/flush_cache", "{}")
		require.Equal(t, 200, code)
		http.DefaultClient.CloseIdleConnections()
	}
	rest()
	time.Sleep(100 * time.Millisecond)
	before, memory := runtime.NumGoroutine(), heap()
	end := time.Now().Add(long)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				k.ask(url, i, n)
			}
		})
	}
	wg.Wait()
	rest()
	assert.Empty(t, k.wrong[:min(len(k.wrong), 3)], "%d requests were lost", len(k.wrong))
	assert.Positive(t, k.whole)
	assert.Positive(t, k.gone)
	for code, n := range k.codes {
		assert.Equal(t, http.StatusTooManyRequests, code, "%d answers", n)
	}
	if os.Getenv("GLMCONV_TORTURE") != "" { // in a short run it is chance
		assert.Positive(t, s.metrics.preempted.Load())
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, 10*time.Second, 20*time.Millisecond, "%d goroutines before", before)
	after := heap()
	assert.Less(t, after, memory+32<<20, "heap of %d bytes before", memory)
	t.Logf("%d clients, %v: %d whole answers, %d broken off, %v refused, %d preemptions; %d goroutines before and %d after, heap %d and %d MiB",
		clients, long, k.whole, k.gone, k.codes, s.metrics.preempted.Load(), before, runtime.NumGoroutine(), memory>>20, after>>20)
}
