package spec

import (
	"context"
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/runtime"
)

// MaxDrafts is the largest number of drafts of a pass.
const MaxDrafts = 16

// Options say how to generate; the zero value generates nothing.
type Options struct {
	MaxTokens   int     // tokens to generate at most
	Stop        []int   // ids that end the text; they are part of the result
	Temperature float64 // 0: greedy
	TopK        int     // sample from the K most likely tokens; 0: all
	TopP        float64 // … from the fewest tokens of at least this probability; 0 or 1: all
	Seed        uint64  // of sampling; the same seed gives the same text

	Drafts  int  // drafts of the MTP layer in each pass; 0: none
	PreNorm bool // carry the state before shared_head.norm (vLLM's glm4_moe)

	Media *runtime.Media  // of the prompt, or nil
	Token func(token int) // called with each token as soon as it is certain; may be nil
}

// FinishReason says why a text ended.
type FinishReason string

// The reasons, with the names of the OpenAI API.
const (
	Stop   FinishReason = "stop"   // a stop token
	Length FinishReason = "length" // MaxTokens
)

// Result is a generated text.
type Result struct {
	Tokens   []int // a stop token included
	Finish   FinishReason
	Counters *Counters // nil without drafts
}

// Generate continues a prompt. It needs at least one token to start from. With
// drafts the checkpoint must have an MTP layer (runtime.ErrNoMTP). On an error
// the result holds the tokens so far.
func Generate(ctx context.Context, m *runtime.Model, prompt []int, o Options) (Result, error) {
	g, err := newGenerator(m, prompt, o)
	if err != nil || o.MaxTokens <= 0 {
		return Result{Finish: Length}, err
	}
	err = g.run(ctx, prompt)
	return g.out, err
}

// generator is the state of one text.
type generator struct {
	m       *runtime.Model
	o       Options
	session *runtime.Session
	drafter *Drafter // nil without drafts
	sampler *sampler
	out     Result
}

func newGenerator(m *runtime.Model, prompt []int, o Options) (*generator, error) {
	switch {
	case len(prompt) == 0:
		return nil, fmt.Errorf("spec: the prompt is empty, there is nothing to continue")
	case o.Drafts < 0 || o.Drafts > MaxDrafts:
		return nil, fmt.Errorf("spec: %d drafts in a pass, it must be 0 to %d", o.Drafts, MaxDrafts)
	case o.Temperature < 0 || o.TopK < 0 || o.TopP < 0 || o.TopP > 1:
		return nil, fmt.Errorf("spec: temperature and top-k cannot be negative, top-p is a probability")
	}
	g := &generator{m: m, o: o, session: m.NewSession(), sampler: newSampler(o), out: Result{Finish: Length}}
	if o.Media != nil {
		if err := g.session.Attach(o.Media); err != nil {
			return nil, err
		}
	}
	if o.Drafts > 0 {
		mtp, err := m.MTP()
		if err != nil {
			return nil, err
		}
		g.drafter = NewDrafter(mtp, o.PreNorm)
		g.out.Counters = newCounters(o.Drafts)
	}
	return g, nil
}

func (g *generator) run(ctx context.Context, prompt []int) error {
	h, err := g.session.Forward(ctx, prompt)
	if err != nil {
		return err
	}
	width, vocab := g.m.Config().HiddenSize, g.m.Config().VocabSize
	z, err := g.m.Logits(ctx, h[len(h)-width:])
	if err != nil {
		return err
	}
	next := g.sampler.next(z)
	if g.emit(next) {
		return nil
	}
	ahead := append(slices.Clone(prompt[1:]), next) // the token behind each slot of h
	for {
		pass := []int{next}
		if g.drafter != nil {
			drafts, err := g.drafter.Draft(ctx, ahead, h, g.o.Drafts)
			if err != nil {
				return err
			}
			pass = append(pass, drafts...)
		}
		start := g.session.Len()
		if h, err = g.session.Forward(ctx, pass); err != nil {
			return err
		}
		if z, err = g.m.Logits(ctx, h); err != nil {
			return err
		}
		ahead = g.accept(z, vocab, pass[1:])
		n := len(ahead)
		g.session.Truncate(start + n)
		h, next = h[:n*width], ahead[n-1]
		if g.out.Counters != nil {
			g.out.Counters.add(n - 1)
		}
		if slices.ContainsFunc(ahead, g.emit) {
			return nil
		}
	}
}

// accept returns the tokens that the rows of z choose, up to the first that
// differs from its draft: 1 to len(drafts)+1 tokens.
func (g *generator) accept(z []float32, vocab int, drafts []int) []int {
	var chosen []int
	for i := 0; ; i++ {
		t := g.sampler.next(z[i*vocab:][:vocab])
		chosen = append(chosen, t)
		if i == len(drafts) || t != drafts[i] {
			return chosen
		}
	}
}

// emit appends a token to the result and reports whether the text ends there.
func (g *generator) emit(t int) bool {
	g.out.Tokens = append(g.out.Tokens, t)
	if g.o.Token != nil {
		g.o.Token(t)
	}
	if slices.Contains(g.o.Stop, t) {
		g.out.Finish = Stop
		return true
	}
	return len(g.out.Tokens) >= g.o.MaxTokens
}
