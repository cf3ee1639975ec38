package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/internal/lazy"
)

// ErrFormat: neither a report nor JSON of a client that is known.
var ErrFormat = errors.New("bench: not a benchmark result")

// Read finds every result in data: reports pasted into any text, JSON of
// vLLM's client, JSON lines of SGLang's, and glmconv's own. The error matches
// ErrFormat.
func Read(data []byte) ([]Figures, error) {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) > 0 && trimmed[0] == '{' {
		return readJSON(trimmed)
	}
	if out := readReports(string(data)); len(out) > 0 {
		return out, nil
	}
	return nil, fmt.Errorf("%w: no report and no JSON object in it", ErrFormat)
}

// ReadRuns is Read for a comparison, which has runs that failed too: text without
// a report, in which a line says so, is a run with that line for its FirstError.
func ReadRuns(data []byte) ([]Figures, error) {
	out, err := Read(data)
	if err == nil || bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return out, err
	}
	for s := range strings.SplitSeq(string(data), "\n") {
		if s = strings.TrimLeft(strings.TrimSpace(s), "# "); failure().MatchString(s) {
			f := empty()
			f.FirstError = s
			return []Figures{f}, nil
		}
	}
	return nil, err
}

// failure finds what logs say of a run that failed; the head of a traceback says
// nothing.
var failure = lazy.Regexp(`(?i:\b(error|exception|crash|crashed|fatal|killed|failed|failure|not supported|out of memory)\b)|\b[A-Z]\w*(Error|Exception)\b`)

// line is a label with its value.
var line = lazy.Regexp(`^\s*([A-Z][^:]*):\s+(\S.*?)\s*$`)

func empty() Figures {
	nan := math.NaN()
	none := Spread{Mean: nan, Median: nan, Std: nan, Max: nan, P: map[int]float64{}}
	clone := func() Spread { s := none; s.P = map[int]float64{}; return s }
	return Figures{Source: "vllm", Rate: math.Inf(1), Failed: -1, Retokenized: -1, Duration: nan, Requests: nan, Input: nan, Output: nan, Total: nan, PeakOutput: nan,
		PeakActive: nan, Active: nan, Goodput: nan, TTFT: clone(), TPOT: clone(), ITL: clone(), E2EL: clone()}
}

// readReports takes the blocks between a title and its closing line.
func readReports(text string) []Figures {
	var out []Figures
	var f *Figures
	for _, s := range strings.Split(text, "\n") {
		bare := strings.TrimSpace(s)
		switch {
		case strings.Contains(bare, " Serving Benchmark Result "):
			e := empty()
			f = &e
		case f != nil && strings.Trim(bare, "=") == "" && len(bare) >= 40:
			if f.Completed > 0 || !math.IsNaN(f.Duration) {
				out = append(out, *f)
			}
			f = nil
		case f != nil:
			if m := line().FindStringSubmatch(s); m != nil {
				f.set(m[1], m[2])
			}
		}
	}
	return out
}

var latency = lazy.Regexp(`^(Mean|Median|Max|P(\d+)) (TTFT|TPOT|ITL|E2E Latency|E2EL) \(ms\)$`)

// set stores a line of a report. Lines that are not known are skipped.
func (f *Figures) set(label, value string) {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil {
		v = math.NaN()
	}
	if m := latency().FindStringSubmatch(label); m != nil {
		s := map[string]*Spread{"TTFT": &f.TTFT, "TPOT": &f.TPOT, "ITL": &f.ITL, "E2E Latency": &f.E2EL, "E2EL": &f.E2EL}[m[3]]
		switch m[1] {
		case "Mean":
			s.Mean = v
		case "Median":
			s.Median = v
		case "Max":
			s.Max = v
		default:
			if n, err := strconv.Atoi(m[2]); err == nil {
				s.P[n] = v
			}
		}
		return
	}
	count := map[string]*int{"Successful requests": &f.Completed, "Failed requests": &f.Failed, "Maximum request concurrency": &f.Concurrency,
		"Max request concurrency": &f.Concurrency, "Total input tokens": &f.InputTokens, "Total generated tokens": &f.OutTokens,
		"Total generated tokens (retokenized)": &f.Retokenized}
	if p := count[label]; p != nil {
		if v == v && math.Abs(v) < 1<<53 {
			*p = int(v)
		}
		return
	}
	floats := map[string]*float64{"Request rate configured (RPS)": &f.Rate, "Traffic request rate": &f.Rate, "Benchmark duration (s)": &f.Duration,
		"Request throughput (req/s)": &f.Requests, "Request goodput (req/s)": &f.Goodput, "Input token throughput (tok/s)": &f.Input,
		"Output token throughput (tok/s)": &f.Output, "Peak output token throughput (tok/s)": &f.PeakOutput, "Peak concurrent requests": &f.PeakActive,
		"Total token throughput (tok/s)": &f.Total, "Total Token throughput (tok/s)": &f.Total, "Concurrency": &f.Active}
	switch p := floats[label]; {
	case p != nil:
		*p = v
	case label == "Backend":
		f.Source, f.Backend = "sglang", value
	}
}

// bareInfinity is what Python's json writes for infinite rates.
var bareInfinity = lazy.Regexp(`:\s*(-?Infinity|NaN)\b`)

// readJSON reads one object, or one a line.
func readJSON(data []byte) ([]Figures, error) {
	dec := json.NewDecoder(bytes.NewReader(bareInfinity().ReplaceAll(data, []byte(`: "$1"`))))
	var out []Figures
	for dec.More() {
		var m map[string]any
		if err := dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		f, err := fromJSON(m)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func fromJSON(m map[string]any) (Figures, error) {
	f := empty()
	if _, ok := m["completed"].(float64); !ok {
		return f, fmt.Errorf("%w: the object has no number \"completed\"", ErrFormat)
	}
	number := func(into *float64, keys ...string) {
		for _, k := range keys {
			if v, ok := m[k].(float64); ok {
				*into = v
				return
			}
		}
	}
	count := func(into *int, keys ...string) {
		v := math.NaN()
		if number(&v, keys...); v == v && math.Abs(v) < 1<<53 {
			*into = int(v)
		}
	}
	count(&f.Completed, "completed")
	count(&f.Failed, "failed")
	count(&f.Concurrency, "max_concurrency")
	count(&f.InputTokens, "total_input_tokens")
	count(&f.OutTokens, "total_output_tokens")
	count(&f.Retokenized, "total_output_tokens_retokenized")
	number(&f.Rate, "request_rate")
	number(&f.Duration, "duration")
	number(&f.Requests, "request_throughput")
	number(&f.Goodput, "request_goodput")
	number(&f.Input, "input_throughput")
	number(&f.Output, "output_throughput")
	number(&f.Total, "total_token_throughput", "total_throughput")
	number(&f.PeakOutput, "max_output_tokens_per_s")
	number(&f.PeakActive, "max_concurrent_requests")
	number(&f.Active, "concurrency")
	for name, s := range map[string]*Spread{"ttft": &f.TTFT, "tpot": &f.TPOT, "itl": &f.ITL, "e2el": &f.E2EL, "e2e_latency": &f.E2EL} {
		number(&s.Mean, "mean_"+name+"_ms")
		number(&s.Median, "median_"+name+"_ms")
		number(&s.Std, "std_"+name+"_ms")
		number(&s.Max, "max_"+name+"_ms")
		for p := 1; p < 100; p++ {
			if v, ok := m[fmt.Sprintf("p%d_%s_ms", p, name)].(float64); ok {
				s.P[p] = v
			}
		}
	}
	f.shape(m)
	f.firstError(m)
	f.Backend, _ = m["backend"].(string)
	f.Model, _ = m["model_id"].(string)
	if _, sglang := m["total_throughput"]; sglang {
		f.Source = "sglang"
	}
	if m["schema"] == Schema {
		f.Source = "glmconv"
	}
	return f, nil
}

// firstError reads what a request that failed said: our own field, or the lists
// that vLLM's and SGLang's clients keep for all requests.
func (f *Figures) firstError(m map[string]any) {
	f.FirstError, _ = m["first_error"].(string)
	list, _ := m["errors"].([]any)
	for _, v := range list {
		if s, _ := v.(string); f.FirstError == "" {
			f.FirstError, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
		}
	}
}

// shape reads how prompts were made, as far as an object says so.
func (f *Figures) shape(m map[string]any) {
	f.Shape.Dataset, _ = m["dataset_name"].(string)
	f.Shape.Style, _ = m["range_style"].(string)
	if v, ok := m["random_range_ratio"]; ok && v != 1.0 { // 1 is exact, in either style
		f.Shape.Style = "sglang"
	}
	f.Shape.Size, _ = m["image_size"].(string)
	for into, keys := range map[*int][]string{&f.Shape.In: {"input_len", "random_input_len"}, &f.Shape.Out: {"output_len", "random_output_len"},
		&f.Shape.Prefix: {"prefix_len"}, &f.Shape.Images: {"image_count"}} {
		for _, k := range keys {
			if v, ok := m[k].(float64); ok && v >= 0 && v < 1<<40 {
				*into = int(v)
			}
		}
	}
	for _, k := range []string{"range_ratio", "random_range_ratio"} {
		if v, ok := m[k].(float64); ok {
			f.Shape.Ratio = v
		}
	}
}
