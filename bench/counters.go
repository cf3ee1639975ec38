package bench

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// counters are what a server says of itself in /metrics, added up over engines.
type counters struct {
	hits                      float64 // tokens of prompts that were found in the prefix cache
	drafts                    bool    // the server drafts
	told                      bool    // it has counters of an engine that would say so
	gauge                     float64 // SGLang's length of accepted drafts; 0: none
	passes, drafted, accepted float64
	at                        []float64 // accepted drafts by position
}

// maxPositions bounds the positions of drafts that a server may name.
const maxPositions = 64

// counters asks a server; zero where it tells nothing.
func (l *Load) counters(ctx context.Context) (c counters) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(l.URL, "/")+"/metrics", nil)
	if err != nil {
		return c
	}
	resp, err := l.Client.Do(req)
	if err != nil {
		return c
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return c
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxLine))
	if err != nil {
		return c
	}
	return parseCounters(string(text))
}

// parseCounters reads Prometheus' text form; lines that are none are passed over.
func parseCounters(text string) (c counters) {
	for line := range strings.Lines(text) {
		end := strings.IndexAny(line, "{ ")
		if end < 0 || line[0] == '#' {
			continue
		}
		name, labels, rest := line[:end], "", line[end:]
		if rest[0] == '{' {
			i := strings.LastIndexByte(rest, '}')
			if i < 0 {
				continue
			}
			labels, rest = rest[:i], rest[i+1:]
		}
		words := strings.Fields(rest)
		if len(words) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(words[0], 64)
		if err != nil || !(v >= 0) {
			continue
		}
		c.told = c.told || strings.HasPrefix(name, "vllm:")
		switch name {
		case "vllm:prefix_cache_hits_total":
			c.hits += v
		case "vllm:spec_decode_num_drafts_total":
			c.drafts = true
			c.passes += v
		case "vllm:spec_decode_num_draft_tokens_total":
			c.drafted += v
		case "vllm:spec_decode_num_accepted_tokens_total":
			c.accepted += v
		case "vllm:spec_decode_num_accepted_tokens_per_pos_total":
			c.addAt(labels, v)
		case "sglang:spec_accept_length": // 0 where nothing was drafted yet, or never is
			c.gauge = max(c.gauge, v)
			c.drafts = c.drafts || v > 0
		}
	}
	return c
}

// addAt adds what was accepted at the position that labels name.
func (c *counters) addAt(labels string, v float64) {
	_, rest, ok := strings.Cut(labels, `position="`)
	digits, _, ok2 := strings.Cut(rest, `"`)
	i, err := strconv.Atoi(digits)
	if !ok || !ok2 || err != nil || i < 0 || i >= maxPositions {
		return
	}
	for len(c.at) <= i {
		c.at = append(c.at, 0)
	}
	c.at[i] += v
}

// Drafts are the figures of speculative decoding during a run, by vLLM's
// definitions (vllm/benchmarks/serve.py 0.32).
type Drafts struct {
	Rate                      float64 // accepted of drafted tokens, in percent
	Length                    float64 // tokens of a pass
	Passes, Drafted, Accepted int
	At                        []float64 // accepted at each position, as a share of passes
}

// since is what was drafted from b to c; nil where nothing was.
func (c *counters) since(b *counters) *Drafts {
	d := Drafts{Passes: int(c.passes - b.passes), Drafted: int(c.drafted - b.drafted), Accepted: int(c.accepted - b.accepted)}
	if d.Passes <= 0 || d.Drafted <= 0 {
		return nil
	}
	d.Rate, d.Length = 100*float64(d.Accepted)/float64(d.Drafted), 1+float64(d.Accepted)/float64(d.Passes)
	for i, v := range c.at {
		if i < len(b.at) {
			v -= b.at[i]
		}
		d.At = append(d.At, v/float64(d.Passes))
	}
	return &d
}
