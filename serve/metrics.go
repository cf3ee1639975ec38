package serve

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glmconv/glmconv/runtime/spec"
)

// metrics are counted under vLLM's names, in Prometheus' text form.
type metrics struct {
	running, waiting         atomic.Int64
	usage                    atomic.Int64 // millionths of the cache
	promptTokens, madeTokens atomic.Int64
	stopped, cut, aborted    atomic.Int64
	cacheAsked, cacheHit     atomic.Int64
	preempted                atomic.Int64
	passes, drafted          atomic.Int64
	accepted                 atomic.Int64
	acceptedAt               [spec.MaxDrafts]atomic.Int64
	k                        int
	slots                    int
	first, whole, queued     histogram
	between, perToken        histogram
}

// bounds of the histograms, in seconds.
var bounds = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, math.Inf(1)}

type histogram struct {
	mu    sync.Mutex
	count [21]int64
	sum   float64
}

func (h *histogram) observe(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sum += d.Seconds()
	for i, b := range bounds {
		if d.Seconds() <= b {
			h.count[i]++
			return
		}
	}
}

func (h *histogram) write(w io.Writer, name, labels string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(w, "# TYPE %s histogram\n", name)
	n := int64(0)
	for i, b := range bounds {
		n += h.count[i]
		le := "+Inf"
		if !math.IsInf(b, 1) {
			le = strconv.FormatFloat(b, 'g', -1, 64)
		}
		fmt.Fprintf(w, "%s_bucket{%s,le=%q} %d\n", name, labels, le, n)
	}
	fmt.Fprintf(w, "%s_sum{%s} %g\n%s_count{%s} %d\n", name, labels, h.sum, name, labels, n)
}

// write prints everything.
func (m *metrics) write(w io.Writer, model, version string) {
	labels := fmt.Sprintf("model_name=%q,engine=\"0\"", model)
	one := func(kind, name string, v float64) {
		fmt.Fprintf(w, "# TYPE %s %s\n%s{%s} %g\n", name, kind, name, labels, v)
	}
	one("gauge", "vllm:num_requests_running", float64(m.running.Load()))
	one("gauge", "vllm:num_requests_waiting", float64(m.waiting.Load()))
	one("gauge", "vllm:kv_cache_usage_perc", float64(m.usage.Load())/1e6)
	one("counter", "vllm:prompt_tokens_total", float64(m.promptTokens.Load()))
	one("counter", "vllm:generation_tokens_total", float64(m.madeTokens.Load()))
	one("counter", "vllm:prefix_cache_queries_total", float64(m.cacheAsked.Load()))
	one("counter", "vllm:prefix_cache_hits_total", float64(m.cacheHit.Load()))
	one("counter", "vllm:num_preemptions_total", float64(m.preempted.Load()))
	if m.k > 0 { // that they are there says that drafts are on
		one("counter", "vllm:spec_decode_num_drafts_total", float64(m.passes.Load()))
		one("counter", "vllm:spec_decode_num_draft_tokens_total", float64(m.drafted.Load()))
		one("counter", "vllm:spec_decode_num_accepted_tokens_total", float64(m.accepted.Load()))
		fmt.Fprint(w, "# TYPE vllm:spec_decode_num_accepted_tokens_per_pos_total counter\n")
		for i := range m.k {
			fmt.Fprintf(w, "vllm:spec_decode_num_accepted_tokens_per_pos_total{%s,position=\"%d\"} %d\n", labels, i, m.acceptedAt[i].Load())
		}
	}
	fmt.Fprintf(w, "# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{%s,block_size=\"%d\",cache_dtype=\"float32\",num_gpu_blocks=\"%d\",enable_prefix_caching=\"True\"} 1\n", labels, page, m.slots/page)
	fmt.Fprint(w, "# TYPE vllm:request_success_total counter\n")
	for _, r := range []struct {
		name string
		n    *atomic.Int64
	}{{"stop", &m.stopped}, {"length", &m.cut}, {"abort", &m.aborted}} {
		fmt.Fprintf(w, "vllm:request_success_total{%s,finished_reason=%q} %d\n", labels, r.name, r.n.Load())
	}
	m.first.write(w, "vllm:time_to_first_token_seconds", labels)
	m.between.write(w, "vllm:inter_token_latency_seconds", labels)
	m.perToken.write(w, "vllm:request_time_per_output_token_seconds", labels)
	m.whole.write(w, "vllm:e2e_request_latency_seconds", labels)
	m.queued.write(w, "vllm:request_queue_time_seconds", labels)
	fmt.Fprintf(w, "# TYPE glmconv_build_info gauge\nglmconv_build_info{version=%q} 1\n", version)
}
