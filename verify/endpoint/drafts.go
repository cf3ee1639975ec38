package endpoint

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
)

// Drafts is how a server's drafts were accepted while it answered fixed prompts,
// and how the runtime's are on the same.
type Drafts struct {
	State   string      `json:"state"`
	Line    string      `json:"line"`
	K       int         `json:"k"`
	Server  Acceptance  `json:"server"`
	Runtime *Acceptance `json:"runtime"` // null where the folder cannot draft
}

// Acceptance has vLLM's definitions: rate is accepted by all drafts, length 1 +
// accepted drafts by passes.
type Acceptance struct {
	Passes      int       `json:"passes"`
	DraftTokens int       `json:"draft_tokens"`
	Accepted    int       `json:"accepted"`
	Rate        float64   `json:"rate"`
	Length      float64   `json:"length"`
	PerPosition []float64 `json:"per_position"`
}

// The prompts whose drafts are counted.
const (
	draftPrompts = 4
	draftRead    = 48
	draftMade    = 48
)

// counted are the counters of a server.
type counted struct {
	passes, drafted, accepted, made float64
	at                              []float64 // accepted by position
	gauge                           float64   // SGLang's accept length; 0 where absent
	k                               int
}

// counters reads what a server counts; ok is false where it drafts nothing.
func (c *client) counters(ctx context.Context) (x counted, ok bool) {
	m := c.metrics(ctx)
	if x.passes, ok = m.sum("vllm:spec_decode_num_drafts_total"); ok {
		x.drafted, _ = m.sum("vllm:spec_decode_num_draft_tokens_total")
		x.accepted, _ = m.sum("vllm:spec_decode_num_accepted_tokens_total")
		x.made, _ = m.sum("vllm:generation_tokens_total")
		for _, s := range m.find("vllm:spec_decode_num_accepted_tokens_per_pos_total") {
			var i int
			if _, err := fmt.Sscan(s.labels["position"], &i); err == nil && i >= 0 && i < spec.MaxDrafts {
				for len(x.at) <= i {
					x.at = append(x.at, 0)
				}
				x.at[i] += s.value
			}
		}
		return x, true
	}
	if x.passes, ok = m.sum("sglang:spec_verify_calls_total"); ok {
		x.made, _ = m.sum("sglang:generation_tokens_total")
	}
	if g, has := m.sum("sglang:spec_accept_length"); has {
		x.gauge, ok = g, true
	}
	k, _ := m.sum("sglang:spec_num_steps")
	x.k = int(math.Min(math.Max(k, 0), spec.MaxDrafts))
	return x, ok
}

// drafts sends fixed greedy prompts and counts what is accepted.
func (v *verifying) drafts(ctx context.Context, c *client, s *Server) error {
	d := &Drafts{State: undecided}
	s.Drafts = d
	before, ok := c.counters(ctx)
	if !ok {
		d.State, d.Line = failed, "the server counts no drafts: it does not draft (vLLM: --speculative-config), or shows no metrics (SGLang: --enable-metrics)"
		v.fail("drafts", s.URL, d.Line)
		return nil
	}
	prompts := v.prompts()
	made := 0
	for _, ids := range prompts {
		n, err := c.generate(ctx, s, ids)
		if err != nil {
			return err
		}
		made += n
	}
	after, _ := c.counters(ctx)
	d.Server = between(before, after, s.Kind)
	if s.Kind == SGLang {
		d.K = after.k
	} else if d.Server.Passes > 0 {
		d.K = d.Server.DraftTokens / d.Server.Passes
	}
	if other := after.made - before.made - float64(made); abs(other) > 0.5 && (after.made > 0 || s.Kind != SGLang) {
		d.Line = fmt.Sprintf("not judged: %g tokens of other clients were made meanwhile", other)
		v.undecided("the acceptance of drafts is only known of a server without other traffic")
		return nil
	}
	if d.Server.Passes == 0 && d.Server.Length == 0 {
		d.Line = "not judged: the server's counters did not move"
		v.undecided("the server counts drafts and counted none")
		return nil
	}
	var err error
	if d.Runtime, err = v.own(ctx, s, prompts, max(d.K, 1)); err != nil {
		return err
	}
	v.judgeDrafts(s, d)
	return nil
}

// prompts are the beginnings of some sequences.
func (v *verifying) prompts() (out [][]int) {
	for _, s := range v.seqs[:min(draftPrompts, len(v.seqs))] {
		out = append(out, s[:min(draftRead, len(s))])
	}
	return out
}

// generate makes the server continue a prompt and returns the number of tokens.
func (c *client) generate(ctx context.Context, s *Server, ids []int) (int, error) {
	if s.Kind == SGLang {
		var out struct {
			Meta struct {
				N int `json:"completion_tokens"`
			} `json:"meta_info"`
		}
		err := c.post(ctx, "/generate", map[string]any{"input_ids": ids, "sampling_params": map[string]any{"max_new_tokens": draftMade, "temperature": 0, "ignore_eos": true}}, &out, nil)
		return out.Meta.N, err
	}
	var out struct {
		Usage struct {
			N int `json:"completion_tokens"`
		} `json:"usage"`
	}
	err := c.post(ctx, "/v1/completions", map[string]any{"model": s.Model, "prompt": ids, "max_tokens": draftMade, "temperature": 0, "ignore_eos": true}, &out, nil)
	return out.Usage.N, err
}

func between(a, b counted, kind Kind) Acceptance {
	x := Acceptance{Passes: int(b.passes - a.passes), DraftTokens: int(b.drafted - a.drafted), Accepted: int(b.accepted - a.accepted), PerPosition: []float64{}}
	if kind == SGLang {
		x.Length = b.gauge
		if x.Passes > 0 {
			x.Length = (b.made - a.made) / float64(x.Passes)
			x.DraftTokens = x.Passes * b.k
			x.Accepted = max(int(b.made-a.made)-x.Passes, 0)
		}
	} else if x.Passes > 0 {
		x.Length = 1 + float64(x.Accepted)/float64(x.Passes)
		for i, n := range b.at {
			if i < len(a.at) {
				n -= a.at[i]
			}
			x.PerPosition = append(x.PerPosition, n/float64(x.Passes))
		}
	}
	if x.DraftTokens > 0 {
		x.Rate = float64(x.Accepted) / float64(x.DraftTokens)
	}
	return x
}

// own drafts the same with the runtime; nil where the folder cannot.
func (v *verifying) own(ctx context.Context, s *Server, prompts [][]int, k int) (*Acceptance, error) {
	m, err := runtime.Load(v.dir, runtime.Options{Threads: v.o.Verify.Workers})
	if err != nil {
		return nil, err
	}
	defer func() { _ = m.Close() }()
	// vLLM carries the state before shared_head.norm for these (docs/facts/engine-vllm.md 3).
	pre := s.Kind == VLLM && slices.Contains([]glm.Family{glm.Glm4Moe, glm.Glm4MoeLite}, m.Config().Family)
	sum := &Acceptance{PerPosition: make([]float64, k)}
	for _, ids := range prompts {
		out, err := spec.Generate(ctx, m, ids, spec.Options{MaxTokens: draftMade, Drafts: min(k, spec.MaxDrafts), PreNorm: pre})
		if errors.Is(err, runtime.ErrNoMTP) || errors.Is(err, runtime.ErrIncomplete) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		sum.Passes += out.Counters.Passes
		sum.DraftTokens += out.Counters.DraftTokens
		sum.Accepted += out.Counters.Accepted
		for i, n := range out.Counters.AcceptedAt {
			sum.PerPosition[i] += float64(n)
		}
	}
	for i := range sum.PerPosition {
		sum.PerPosition[i] /= float64(max(sum.Passes, 1))
	}
	sum.Rate = float64(sum.Accepted) / float64(max(sum.DraftTokens, 1))
	sum.Length = 1 + float64(sum.Accepted)/float64(max(sum.Passes, 1))
	return sum, nil
}

// idle is the acceptance length below which a draft layer guesses.
const idle = 1.05

// judgeDrafts compares the two. How many are accepted is binomial; four standard
// deviations and a tenth are allowed.
func (v *verifying) judgeDrafts(s *Server, d *Drafts) {
	d.Line = fmt.Sprintf("%d of %d drafts accepted, length %.3g", d.Server.Accepted, d.Server.DraftTokens, d.Server.Length)
	if d.Runtime == nil {
		d.State = failed
		d.Line += "; the folder has no MTP layer that could draft: the server drafts with something else"
		v.fail("drafts", s.URL, d.Line)
		return
	}
	r := d.Runtime
	d.Line += fmt.Sprintf("; the runtime's %d of %d, length %.3g", r.Accepted, r.DraftTokens, r.Length)
	n := float64(max(min(d.Server.Passes, r.Passes), 1))
	spread := 4*math.Sqrt(float64(max(d.K, 1))/n) + 0.1
	switch {
	case d.Server.Length < idle && r.Length >= idle+0.1:
		d.State = failed
		d.Line += ": the server's draft layer runs on weights that were not loaded or are scaled wrongly"
	case d.Server.Length < r.Length-spread:
		d.State = failed
		d.Line += ": fewer are accepted than the folder's draft layer deserves"
	case r.Length < idle:
		d.State = undecided
		d.Line += ": the folder's own drafts are not accepted either; glmconv verify against the original says whether they should be"
		v.undecided("the folder's own drafts are hardly accepted")
	default:
		d.State = passed
	}
	if d.State == failed {
		v.fail("drafts", s.URL, d.Line)
		if v.r.Fault == NoFault {
			v.r.Fault, v.r.Cause = EngineFault, d.Line
			v.r.Advice = append(v.r.Advice, "look for the names of the MTP layer in the engine's log; glmconv check --engine judges them")
		}
	}
}
