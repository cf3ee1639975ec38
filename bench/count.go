package bench

import (
	"fmt"
	"strings"
)

// countedBy says where a number of tokens is from.
type countedBy int

const (
	byUsage    countedBy = iota // of the server
	byText                      // encoded again
	byMessages                  // that had text: one token each, which drafts make too few
)

// count counts the tokens of every answer's text, where the load can, and takes that
// in place of what the server did not say, as vLLM's client does
// (vllm/benchmarks/serve.py:calculate_metrics).
func (r *Result) count() {
	count := r.Load.Count
	for i := range r.Requests {
		q := &r.Requests[i]
		if q.Err != "" {
			continue
		}
		if count != nil {
			q.Again = count(q.Thought + q.Text)
		}
		switch {
		case q.Out > 0 || q.messages == 0:
		case count != nil:
			q.Out, q.counted = q.Again, byText
		default:
			q.Out, q.counted = q.messages, byMessages
		}
		if p := &r.Load.Prompts[i]; q.In == 0 {
			if q.In = max(len(p.IDs), p.TextIn); q.In == 0 && count != nil {
				q.In = count(p.words())
			}
		}
	}
}

// words is the text of a prompt, without what a chat template writes around it.
func (p *Prompt) words() string {
	if p.Messages == nil {
		return p.Text
	}
	var b strings.Builder
	for _, m := range p.Messages {
		message, _ := m.(map[string]any)
		switch content := message["content"].(type) {
		case string:
			b.WriteString(content)
		case []any:
			for _, part := range content {
				piece, _ := part.(map[string]any)
				text, _ := piece["text"].(string)
				b.WriteString(text)
			}
		}
	}
	return b.String()
}

// uncounted says which answers the server gave no usage for, and what stands there.
func (r *Result) uncounted() (out []string) {
	var n [byMessages + 1]int
	blind := 0
	for i := range r.Requests {
		if q := &r.Requests[i]; q.Err == "" {
			n[q.counted]++
			if q.In == 0 {
				blind++
			}
		}
	}
	if n[byText] > 0 {
		out = append(out, fmt.Sprintf("the server sent no usage for %d answers: their tokens are counted from the text", n[byText]))
	}
	if n[byMessages] > 0 {
		out = append(out, fmt.Sprintf("the server sent no usage for %d answers: each message is counted as one token (--tokenizer DIR counts the text)", n[byMessages]))
	}
	if blind > 0 {
		out = append(out, fmt.Sprintf("tokens of %d prompts are not counted: the server sent no usage (--tokenizer DIR counts the text)", blind))
	}
	return out
}
