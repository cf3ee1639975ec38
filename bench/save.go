package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"
)

// Schema names glmconv's own JSON form.
const Schema = "glmconv.bench/1"

// pairs is a JSON object in the order in which it was built.
type pairs []struct {
	key string
	v   any
}

func (p *pairs) add(key string, v any) {
	if f, ok := v.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
		v = nil
	}
	*p = append(*p, struct {
		key string
		v   any
	}{key, v})
}

func (p pairs) write(w io.Writer) error {
	out := []byte{'{'}
	for i, kv := range p {
		if i > 0 {
			out = append(out, ", "...)
		}
		k, err := json.Marshal(kv.key)
		if err != nil {
			return err
		}
		v, err := json.Marshal(kv.v)
		if err != nil {
			return fmt.Errorf("bench: %s: %w", kv.key, err)
		}
		out = append(append(append(out, k...), ": "...), v...)
	}
	_, err := w.Write(append(out, '}', '\n'))
	return err
}

// rate is a number, or the text "inf".
func rate(r float64) any {
	if math.IsInf(r, 1) {
		return "inf"
	}
	return r
}

// latencies adds mean, median, std and percentiles of a latency.
func (p *pairs) latencies(name string, s Spread, percentiles []int) {
	p.add("mean_"+name+"_ms", s.Mean)
	p.add("median_"+name+"_ms", s.Median)
	p.add("std_"+name+"_ms", s.Std)
	for _, n := range percentiles {
		p.add(fmt.Sprintf("p%d_%s_ms", n, name), s.P[n])
	}
}

// SaveVLLM writes a run as `vllm bench serve --save-result` does. With own the
// schema and the warnings are added.
func (r *Result) SaveVLLM(w io.Writer, f Figures, own bool, now time.Time) error {
	var p pairs
	if own {
		p.add("schema", Schema)
		if r.Scores != nil {
			p.add("scores", r.Scores)
		}
	}
	p.add("date", now.Format("20060102-150405"))
	p.add("endpoint_type", f.Backend)
	p.add("backend", f.Backend)
	p.add("label", nil)
	p.add("model_id", f.Model)
	p.add("tokenizer_id", f.Model)
	p.add("num_prompts", len(r.Load.Prompts))
	if r.Cell != nil {
		p.add("cell", r.Cell.String())
	}
	if own {
		p.shape(r)
	}
	p.add("request_rate", rate(f.Rate))
	p.add("burstiness", cmp.Or(r.Load.Burstiness, 1))
	p.add("max_concurrency", limit(f.Concurrency))
	p.add("duration", f.Duration)
	p.add("completed", f.Completed)
	p.add("failed", f.Failed)
	if own && f.FirstError != "" {
		p.add("first_error", f.FirstError)
	}
	p.add("total_input_tokens", f.InputTokens)
	p.add("total_output_tokens", f.OutTokens)
	p.add("request_throughput", f.Requests)
	p.add("request_goodput", f.Goodput)
	p.add("output_throughput", f.Output)
	p.add("total_token_throughput", f.Total)
	p.add("max_output_tokens_per_s", f.PeakOutput)
	p.add("max_concurrent_requests", f.PeakActive)
	p.drafts(f.Drafts)
	percentiles := r.Load.Percentiles
	if len(percentiles) == 0 {
		percentiles = []int{99}
	}
	p.latencies("ttft", f.TTFT, percentiles)
	p.latencies("tpot", f.TPOT, percentiles)
	p.latencies("itl", f.ITL, percentiles)
	p.latencies("e2el", f.E2EL, percentiles)
	if own {
		p.add("warnings", f.Warnings)
	}
	return p.write(w)
}

// limit is a number, or null for none.
func limit(n int) any {
	if n == 0 {
		return nil
	}
	return n
}

// SaveSGLang writes a run as a line of SGLang's client.
func (r *Result) SaveSGLang(w io.Writer, f Figures) error {
	var p pairs
	if r.Cell != nil {
		p.add("tag", r.Cell.String())
	} else {
		p.add("tag", nil)
	}
	p.add("backend", f.Backend)
	p.add("dataset_name", r.Load.Shape.name())
	p.add("request_rate", rate(f.Rate))
	p.add("max_concurrency", limit(f.Concurrency))
	if s := r.Load.Shape; s.In > 0 {
		p.add("random_input_len", s.In)
		p.add("random_output_len", s.Out)
		switch { // from ratio times the length to the length: 1 is exact
		case s.Style == "sglang":
			p.add("random_range_ratio", s.Ratio)
		case s.Ratio == 0:
			p.add("random_range_ratio", 1.0)
		}
	}
	p.add("duration", f.Duration)
	p.add("completed", f.Completed)
	p.add("total_input_tokens", f.InputTokens)
	p.add("total_input_text_tokens", f.InputTokens-f.Vision)
	p.add("total_input_vision_tokens", f.Vision)
	p.add("total_output_tokens", f.OutTokens)
	if f.Retokenized >= 0 {
		p.add("total_output_tokens_retokenized", f.Retokenized)
	} else {
		p.add("total_output_tokens_retokenized", nil)
	}
	p.add("request_throughput", f.Requests)
	p.add("input_throughput", f.Input)
	p.add("output_throughput", f.Output)
	p.add("total_throughput", f.Total)
	percentiles := []int{90, 95, 99}
	p.latencies("e2e_latency", f.E2EL, percentiles)
	p.latencies("ttft", f.TTFT, percentiles)
	p.latencies("tpot", f.TPOT, percentiles)
	p.latencies("itl", f.ITL, percentiles)
	p.add("concurrency", f.Active)
	if f.Drafts != nil {
		p.add("accept_length", f.Drafts.Length)
	}
	p.add("max_output_tokens_per_s", f.PeakOutput)
	p.add("max_concurrent_requests", f.PeakActive)
	return p.write(w)
}

// shape adds what makes two runs comparable.
func (p *pairs) shape(r *Result) {
	s := r.Load.Shape
	p.add("dataset_name", s.name())
	p.add("seed", r.Load.Seed)
	if s.In > 0 {
		p.add("input_len", s.In)
		p.add("output_len", s.Out)
		p.add("range_ratio", s.Ratio)
		p.add("range_style", s.Style)
		p.add("prefix_len", s.Prefix)
	}
	if s.Images > 0 {
		p.add("image_count", s.Images)
		p.add("image_size", s.Size)
	}
}

// drafts adds the figures of speculative decoding, where there are any.
func (p *pairs) drafts(d *Drafts) {
	if d == nil {
		return
	}
	p.add("spec_decode_acceptance_rate", d.Rate)
	p.add("spec_decode_acceptance_length", d.Length)
	p.add("spec_decode_num_drafts", d.Passes)
	p.add("spec_decode_draft_tokens", d.Drafted)
	p.add("spec_decode_accepted_tokens", d.Accepted)
	p.add("spec_decode_per_position_acceptance_rates", d.At)
}
