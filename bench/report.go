package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// page writes lines in the clients' forms.
type page struct{ b strings.Builder }

// title is a text in the middle of 50 characters, the odd one on the right, as
// Python's format has it.
func title(s, fill string) string {
	n := max(50-len([]rune(s)), 0)
	return strings.Repeat(fill, n/2) + s + strings.Repeat(fill, n-n/2)
}

func (p *page) text(label string, v any) { fmt.Fprintf(&p.b, "%-40s %-10v\n", label, v) }
func (p *page) float(label string, v float64) {
	fmt.Fprintf(&p.b, "%-40s %-10s\n", label, fmt.Sprintf("%.2f", v))
}

// latency writes the block of a latency: its title, mean, median and percentiles.
func (p *page) latency(head, name string, s Spread, percentiles []int) {
	p.b.WriteString(title(head, "-") + "\n")
	p.float("Mean "+name+" (ms):", s.Mean)
	p.float("Median "+name+" (ms):", s.Median)
	for _, n := range percentiles {
		p.float(fmt.Sprintf("P%d %s (ms):", n, name), s.P[n])
	}
}

// before reports whether release a is older than b, by its numbers.
func before(a, b string) bool {
	var x, y [3]int
	_, _ = fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2])
	_, _ = fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2])
	return slices.Compare(x[:], y[:]) < 0
}

// WriteVLLM prints figures as `vllm bench serve` of a release does, to the
// byte; "" is the newest known.
func WriteVLLM(w io.Writer, f Figures, release string, percentiles []int) error {
	var p page
	old := release != "" && before(release, "0.12")
	if len(percentiles) == 0 {
		percentiles = []int{99}
	}
	p.b.WriteString(title(" Serving Benchmark Result ", "=") + "\n")
	p.text("Successful requests:", f.Completed)
	if !old {
		p.text("Failed requests:", f.Failed)
	}
	if f.Concurrency > 0 {
		p.text("Maximum request concurrency:", f.Concurrency)
	}
	if !math.IsInf(f.Rate, 1) {
		p.float("Request rate configured (RPS):", f.Rate)
	}
	p.float("Benchmark duration (s):", f.Duration)
	p.text("Total input tokens:", f.InputTokens)
	p.text("Total generated tokens:", f.OutTokens)
	p.float("Request throughput (req/s):", f.Requests)
	if !math.IsNaN(f.Goodput) {
		p.float("Request goodput (req/s):", f.Goodput)
	}
	p.float("Output token throughput (tok/s):", f.Output)
	p.float("Peak output token throughput (tok/s):", f.PeakOutput)
	p.float("Peak concurrent requests:", f.PeakActive)
	token := "token"
	if old {
		token = "Token"
	}
	p.float("Total "+token+" throughput (tok/s):", f.Total)
	p.latency("Time to First Token", "TTFT", f.TTFT, percentiles)
	p.latency("Time per Output Token (excl. 1st token)", "TPOT", f.TPOT, percentiles)
	p.latency("Inter-token Latency", "ITL", f.ITL, percentiles)
	if d := f.Drafts; d != nil {
		p.b.WriteString(title("Speculative Decoding", "-") + "\n")
		p.float("Acceptance rate (%):", d.Rate)
		p.float("Acceptance length:", d.Length)
		p.text("Drafts:", d.Passes)
		p.text("Draft tokens:", d.Drafted)
		p.text("Accepted tokens:", d.Accepted)
		if len(d.At) > 0 {
			p.b.WriteString("Per-position acceptance (%):\n")
		}
		for i, v := range d.At {
			p.float(fmt.Sprintf("  Position %d:", i), 100*v)
		}
	}
	p.b.WriteString(strings.Repeat("=", 50) + "\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// WriteSGLang prints figures as SGLang's client of a release does; "" is the
// newest known.
func WriteSGLang(w io.Writer, f Figures, release string) error {
	var p page
	older := release != "" && before(release, "0.5.10") // fewer percentiles
	p.b.WriteString("\n" + title(" Serving Benchmark Result ", "=") + "\n")
	p.text("Backend:", f.Backend)
	if math.IsInf(f.Rate, 1) {
		p.text("Traffic request rate:", "inf")
	} else {
		p.text("Traffic request rate:", f.Rate)
	}
	if f.Concurrency > 0 {
		p.text("Max request concurrency:", f.Concurrency)
	} else {
		p.text("Max request concurrency:", "not set")
	}
	p.text("Successful requests:", f.Completed)
	p.float("Benchmark duration (s):", f.Duration)
	p.text("Total input tokens:", f.InputTokens)
	p.text("Total input text tokens:", f.InputTokens-f.Vision)
	if older || f.Vision > 0 {
		p.text("Total input vision tokens:", f.Vision)
	}
	p.text("Total generated tokens:", f.OutTokens)
	if f.Retokenized >= 0 {
		p.text("Total generated tokens (retokenized):", f.Retokenized)
	} else {
		p.text("Total generated tokens (retokenized):", "n/a")
	}
	p.float("Request throughput (req/s):", f.Requests)
	p.float("Input token throughput (tok/s):", f.Input)
	p.float("Output token throughput (tok/s):", f.Output)
	p.float("Peak output token throughput (tok/s):", f.PeakOutput)
	p.text("Peak concurrent requests:", int(f.PeakActive))
	p.float("Total token throughput (tok/s):", f.Total)
	p.float("Concurrency:", f.Active)
	if f.Drafts != nil {
		p.float("Accept length:", f.Drafts.Length)
	}
	many, few, gaps := []int{90, 95, 99}, []int{90, 95, 99}, []int{90, 95, 99}
	if older {
		many, few, gaps = nil, []int{99}, []int{95, 99}
	}
	p.latency("End-to-End Latency", "E2E Latency", f.E2EL, many)
	p.latency("Time to First Token", "TTFT", f.TTFT, few)
	p.latency("Time per Output Token (excl. 1st token)", "TPOT", f.TPOT, few)
	p.latency("Inter-Token Latency", "ITL", f.ITL, gaps)
	p.float("Max ITL (ms):", f.ITL.Max)
	p.b.WriteString(strings.Repeat("=", 50) + "\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}
