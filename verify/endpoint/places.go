package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// said is what a server says of one place: the log-probability of the token
// there and of others, each once.
type said struct {
	known  bool // false: nothing was said of the place
	actual float64
	others map[int]float64 // the actual token among them

	mute func(id int) bool // tokens that cannot be named; nil: none
}

// asker reads log-probabilities of prompts from one server.
type asker struct {
	c     *client
	s     *Server
	top   int // tokens of a place
	vocab int
	tok   *tokenizer.Tokenizer // nil where the folder has none
	own   func(seq int) []int  // ids to ask for besides; nil: none

	mu      sync.Mutex
	texts   map[string]int // ids by text, of texts that only one token has
	leads   map[bool]int   // of llama-cpp-python: see lead
	unknown map[string]int // why sequences were not judged, and how many

	untold atomic.Bool // an answer does not say which ids were read
}

// ids is what is known of the ids that the server has read.
func (a *asker) ids() (state, line string) {
	switch {
	case a.s.Kind == LlamaServer || a.untold.Load():
		return none, "not judged: the server does not say which ids it has read"
	case a.s.Kind == LlamaPython:
		return passed, "the server cuts the text that was sent into its ids"
	}
	return passed, "the server read the ids that were sent"
}

// skip notes why a sequence is not judged.
func (a *asker) skip(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unknown == nil {
		a.unknown = map[string]int{}
	}
	a.unknown[why]++
}

// sequences asks for every step-th of the sequences, several at once. A sequence is
// asked of one rank, however often: its number says which.
func (a *asker) sequences(ctx context.Context, seqs [][]int, step, together int, done func(n int)) ([][]said, error) {
	out := make([][]said, len(seqs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(together, 1))
	var mu sync.Mutex
	n := 0
	for i := 0; i < len(seqs); i += step {
		ids := seqs[i]
		g.Go(func() (err error) {
			if out[i], err = a.sequence(ctx, i, ids); err == nil {
				err = a.sane(ids, out[i])
			}
			mu.Lock()
			n++
			if done != nil {
				done(n)
			}
			mu.Unlock()
			return err
		})
	}
	return out, g.Wait()
}

func (a *asker) sequence(ctx context.Context, i int, ids []int) ([]said, error) {
	var header http.Header
	if n := len(a.s.Ranks); n > 0 {
		header = http.Header{"X-Data-Parallel-Rank": {strconv.Itoa(i % n)}}
	}
	switch a.s.Kind {
	case SGLang:
		return a.sglang(ctx, i, ids, header)
	case LlamaPython:
		return a.llamaPython(ctx, ids)
	case LlamaServer:
		return a.llamaServer(ctx, ids)
	case VLLM, Glmconv:
	}
	return a.vllm(ctx, ids, header)
}

// sane refuses figures that no distribution has.
func (a *asker) sane(ids []int, list []said) error {
	where := a.s.URL
	if len(list) != len(ids) {
		return &Error{Kind: ErrAnswer, Where: where, Reason: fmt.Sprintf("it says something of %d places of a prompt of %d tokens", len(list), len(ids))}
	}
	for i, x := range list {
		if !x.known {
			continue
		}
		sum := 0.0
		for id, v := range x.others {
			switch {
			case id < 0 || id >= a.vocab:
				return &Error{Kind: ErrModel, Where: where, Reason: fmt.Sprintf("it names token %d, the vocabulary of the folder has %d", id, a.vocab), Advice: "the server has another model"}
			case math.IsNaN(v):
				return &Error{Kind: ErrAnswer, Where: where, Reason: fmt.Sprintf("the log-probability of place %d is not a number", i), Advice: "the engine computes NaN: look for overflow of FP16, or damaged scales (glmconv check --weights)"}
			case v > 1e-4:
				return &Error{Kind: ErrAnswer, Where: where, Reason: fmt.Sprintf("a log-probability of %.3g is above 0: these are logits", v), Advice: "start vLLM with --logprobs-mode raw_logprobs"}
			}
			sum += math.Exp(v)
		}
		if sum > 1.05 {
			return &Error{Kind: ErrAnswer, Where: where, Reason: fmt.Sprintf("the probabilities of place %d add up to %.3g", i, sum)}
		}
	}
	return nil
}

var maxAllowed = lazy.Regexp(`max(?:imum)?(?: allowed)?:? *(?:is )?(\d+)`)

// vllm asks /v1/completions with prompt_logprobs. A server that allows fewer
// tokens is asked for those.
func (a *asker) vllm(ctx context.Context, ids []int, header http.Header) ([]said, error) {
	a.mu.Lock()
	top := a.top
	a.mu.Unlock()
	var out struct {
		Choices []struct {
			IDs   []int `json:"prompt_token_ids"`
			Probs []map[string]struct {
				Value *float64 `json:"logprob"`
			} `json:"prompt_logprobs"`
		} `json:"choices"`
	}
	for {
		err := a.c.post(ctx, "/v1/completions", map[string]any{"model": a.s.Model, "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": top, "return_token_ids": true}, &out, header)
		var no *refusal
		if errors.As(err, &no) && no.status == http.StatusBadRequest {
			if m := maxAllowed().FindStringSubmatch(no.text); m != nil {
				if n, _ := strconv.Atoi(m[1]); n >= 1 && (n < top || top < 0) {
					top = n
					a.mu.Lock()
					a.top = n
					a.mu.Unlock()
					continue
				}
			}
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if len(out.Choices) != 1 || out.Choices[0].Probs == nil {
		return nil, a.c.answered("/v1/completions", "holds no prompt_logprobs", "is it a server of the kind "+string(a.s.Kind)+"? --endpoint-kind says which; a proxy in front of prefill and decode drops them: ask the engines")
	}
	c := out.Choices[0]
	if c.IDs != nil {
		if err := a.sameIDs(ids, c.IDs); err != nil {
			return nil, err
		}
	} else {
		a.untold.Store(true)
	}
	list := make([]said, 0, len(c.Probs))
	for i, m := range c.Probs {
		x := said{others: map[int]float64{}}
		for key, v := range m {
			id, err := strconv.Atoi(key)
			if err != nil || v.Value == nil {
				return nil, a.c.answered("/v1/completions", fmt.Sprintf("has %q among the tokens of place %d", key, i), "")
			}
			x.others[id] = *v.Value
		}
		if i < len(ids) {
			x.actual, x.known = x.others[ids[i]], m != nil
			if _, ok := x.others[ids[i]]; m != nil && !ok {
				return nil, a.c.answered("/v1/completions", fmt.Sprintf("says nothing of the token at place %d", i), "")
			}
		}
		list = append(list, x)
	}
	return list, nil
}

// sameIDs compares the ids that a server has read with those sent.
func (a *asker) sameIDs(ids, read []int) error {
	for i, id := range ids {
		if i >= len(read) || read[i] != id {
			return &Error{Kind: ErrModel, Where: a.s.URL, Reason: fmt.Sprintf("the server read %d tokens that are not those sent (the first other one at place %d)", len(read), i), Advice: "its tokenizer or vocabulary is another"}
		}
	}
	if len(read) != len(ids) {
		return &Error{Kind: ErrModel, Where: a.s.URL, Reason: fmt.Sprintf("the server read %d tokens where %d were sent", len(read), len(ids))}
	}
	return nil
}

// triple is SGLang's [log-probability, id, text].
type triple struct {
	value *float64
	id    int
}

func (t *triple) UnmarshalJSON(b []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	if len(raw) < 2 {
		return fmt.Errorf("%d values where a log-probability and an id should be", len(raw))
	}
	return errors.Join(json.Unmarshal(raw[0], &t.value), json.Unmarshal(raw[1], &t.id))
}

// sglang asks /generate.
func (a *asker) sglang(ctx context.Context, i int, ids []int, header http.Header) ([]said, error) {
	body := map[string]any{"input_ids": ids, "sampling_params": map[string]any{"max_new_tokens": 1, "temperature": 0}, "return_logprob": true,
		"logprob_start_len": 0, "top_logprobs_num": a.top, "return_text_in_logprobs": false}
	if a.own != nil {
		if own := a.own(i); len(own) > 0 {
			body["token_ids_logprob"] = own
		}
	}
	var out struct {
		Meta *struct {
			Actual []triple   `json:"input_token_logprobs"`
			Top    [][]triple `json:"input_top_logprobs"`
			Own    [][]triple `json:"input_token_ids_logprobs"`
		} `json:"meta_info"`
	}
	if err := a.c.post(ctx, "/generate", body, &out, header); err != nil {
		return nil, err
	}
	if out.Meta == nil || len(out.Meta.Actual) == 0 {
		return nil, a.c.answered("/generate", "holds no input_token_logprobs", "is it an SGLang server? --endpoint-kind says which it is")
	}
	read := make([]int, len(out.Meta.Actual))
	list := make([]said, len(read))
	for i, t := range out.Meta.Actual {
		read[i] = t.id
		x := &list[i]
		x.others = map[int]float64{}
		if t.value == nil {
			continue // the first
		}
		x.known, x.actual = true, *t.value
		for _, more := range [][][]triple{out.Meta.Top, out.Meta.Own} {
			if i < len(more) {
				for _, o := range more[i] {
					if o.value != nil {
						x.others[o.id] = *o.value
					}
				}
			}
		}
		x.others[t.id] = *t.value
	}
	return list, a.sameIDs(ids, read)
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// maxSingle is how many places of a sequence are asked for where each takes a
// request of its own.
const maxSingle = 16

// llamaServer asks for the token after each of some beginnings of the prompt.
func (a *asker) llamaServer(ctx context.Context, ids []int) ([]said, error) {
	list := make([]said, len(ids))
	step := max(1, (len(ids)-1)/maxSingle)
	type entry struct {
		ID    int      `json:"id"`
		Value *float64 `json:"logprob"`
		Prob  *float64 `json:"prob"`
	}
	for at := 1; at < len(ids); at += step {
		var out struct {
			New []struct {
				Top []entry `json:"top_logprobs"`
			} `json:"completion_probabilities"`
		}
		err := a.c.post(ctx, "/completion", map[string]any{"prompt": ids[:at], "n_predict": 1, "n_probs": a.top, "cache_prompt": true, "temperature": 0}, &out, nil)
		if err != nil {
			return nil, err
		}
		if len(out.New) == 0 || len(out.New[0].Top) == 0 {
			return nil, a.c.answered("/completion", "holds no completion_probabilities", "a newer llama-server names tokens with id and logprob")
		}
		x := said{others: map[int]float64{}}
		for _, e := range out.New[0].Top {
			if e.Value != nil {
				x.others[e.ID] = *e.Value
			}
		}
		x.actual, x.known = x.others[ids[at]], len(x.others) > 0
		if _, ok := x.others[ids[at]]; !ok {
			x.actual = math.NaN() // among those that are not named
		}
		list[at] = x
	}
	return list, nil
}

// short is a text of a server, cut for a line.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 120 {
		s = string(r[:120]) + "…"
	}
	return s
}
