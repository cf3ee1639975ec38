package endpoint

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/verify"
)

// verifying is a verification under way.
type verifying struct {
	o         *Options
	dir       string // what is served
	original  string // or ""
	seqs      [][]int
	tok       *tokenizer.Tokenizer // nil where the folder has none
	served    *model
	states    [][]float32
	quantized bool
	templated bool   // the folder has a chat template
	first     *model // the original; nil until it is needed
	firstAt   [][]float32
	r         *Result
}

// Verify compares servers with the folder that they serve: src, or dst where
// that is given and src is what it was made of. Errors are *Error, those of the
// runtime, or ctx.Err().
func Verify(ctx context.Context, src, dst string, o Options) (*Result, error) {
	start := time.Now()
	o.setDefaults()
	v := &verifying{o: &o, dir: src, r: &Result{Schema: Schema, Verdict: verify.Pass, Advice: []string{}, Failed: []verify.Failed{}, Notes: []verify.Note{},
		Servers: []Server{}, Chat: []Probe{}, Probes: []Probe{}}}
	if dst != "" {
		v.dir, v.original = dst, src
	}
	v.r.Served, v.r.Original = v.dir, v.original
	defer v.close()
	if err := v.prepare(ctx); err != nil {
		return nil, err
	}
	clients, err := v.find(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	if err := v.compute(ctx); err != nil || v.numberless() {
		if err := v.speechless(ctx, err); err != nil {
			return nil, err
		}
		v.r.Seconds = time.Since(start).Seconds()
		return v.r, nil
	}
	for i, c := range clients {
		if err := v.server(ctx, c, &v.r.Servers[i]); err != nil {
			return nil, err
		}
	}
	if err := v.files(ctx); err != nil {
		return nil, err
	}
	if err := v.conclude(ctx, clients); err != nil {
		return nil, err
	}
	v.r.Seconds = time.Since(start).Seconds()
	return v.r, nil
}

func (v *verifying) close() {
	for _, m := range []*model{v.served, v.first} {
		if m != nil {
			m.close()
		}
	}
}

// prepare opens the served folder and chooses what is read.
func (v *verifying) prepare(ctx context.Context) (err error) {
	switch {
	case len(v.o.URLs) == 0:
		return &Error{Kind: ErrAddress, Reason: "no address of a server"}
	case v.o.TopK < -1:
		return &Error{Kind: ErrAddress, Reason: "at least one token of each place is needed"}
	}
	if v.served, err = openModel(v.dir, v.o.Verify.Workers, v.o.Verify.MaxMemory, nil); err != nil {
		return err
	}
	cfg := v.served.Config()
	v.quantized = cfg.Quantization != "" || describes(v.dir)
	if v.seqs, v.r.Corpus, _, err = verify.Sequences(ctx, v.dir, cfg.VocabSize, v.o.Verify); err != nil {
		return err
	}
	if v.o.Long {
		long := v.o.Verify
		long.Tokens, long.SeqLen = min(4096, cfg.MaxPositions-1), min(4096, cfg.MaxPositions-1)
		more, _, _, err := verify.Sequences(ctx, v.dir, cfg.VocabSize, long)
		if err != nil {
			return err
		}
		v.seqs = append(v.seqs, more...)
	}
	if len(v.seqs) == 0 {
		return &verify.Error{Where: v.dir, Reason: "there is nothing to read", Advice: "give a longer text, or more tokens"}
	}
	_, err = chat.Load(v.dir)
	v.templated = err == nil
	if v.tok, err = tokenizer.Load(v.dir); err != nil {
		v.tok = nil
	}
	return nil
}

// find asks every server what it is.
func (v *verifying) find(ctx context.Context) (list []*client, err error) {
	longest := 0
	for _, s := range v.seqs {
		longest = max(longest, len(s))
	}
	for _, address := range v.o.URLs {
		c, err := newClient(address, v.o)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
		s, err := c.inquire(ctx, v.o)
		if err == nil {
			err = s.fits(v.served.Config(), longest)
		}
		if err != nil {
			return nil, err
		}
		v.r.Servers = append(v.r.Servers, *s)
	}
	return list, nil
}

// compute runs the served folder, and again with its stream rounded for a
// quarter of the sequences.
func (v *verifying) compute(ctx context.Context) (err error) {
	v.o.progress(0, len(v.seqs), "runtime")
	if v.states, err = v.served.states(ctx, v.seqs, false); err != nil {
		return err
	}
	var few [][]int
	var at []int
	for i := 0; i < len(v.seqs); i += 4 {
		few, at = append(few, v.seqs[i]), append(at, i)
	}
	rounded, err := v.served.states(ctx, few, true)
	if err != nil {
		return err
	}
	// The floor is measured with the tokens that the runtime itself finds likely,
	// as a server would name them.
	c := v.comparing()
	for i, ids := range few {
		own := make([][]int, max(len(ids)-1, 0))
		rows, err := v.served.rows(ctx, v.states[at[i]], own, c.top)
		if err != nil {
			return err
		}
		like := make([]said, len(ids))
		for k := 1; k < len(ids); k++ {
			like[k] = said{known: true, others: map[int]float64{ids[k]: 0}}
			for _, e := range rows[k-1].top {
				like[k].others[e.id] = 0
			}
		}
		exact, err := v.served.rows(ctx, v.states[at[i]], wanted(ids, like), 10)
		if err != nil {
			return err
		}
		noisy, err := v.served.rows(ctx, rounded[i], wanted(ids, like), 0)
		if err != nil {
			return err
		}
		c.add(at[i], ids, exact, spoken(ids, noisy, like))
	}
	f := c.figures()
	v.r.Floor = Floor{KL: f.KL, NLL: f.Abs}
	return nil
}

// topK is how many tokens of a place are asked for: 20, and where those leave
// out too much of the runtime's distribution, as many as do not.
func (v *verifying) topK(ctx context.Context) (int, error) {
	vocab := v.served.Config().VocabSize
	switch {
	case v.o.TopK < 0:
		return vocab, nil
	case v.o.TopK > 0:
		return min(v.o.TopK, vocab), nil
	}
	ids := v.seqs[0]
	rows, err := v.served.rows(ctx, v.states[0], make([][]int, max(len(ids)-1, 0)), min(1000, vocab))
	if err != nil {
		return 0, err
	}
	for _, k := range []int{20, 50, 100, 200, 500, 1000} {
		if k >= vocab {
			return vocab, nil
		}
		tail := 0.0
		for _, r := range rows {
			sum := 0.0
			for _, e := range r.top[:min(k, len(r.top))] {
				sum += exp(e.value)
			}
			tail += (1 - sum) / float64(len(rows))
		}
		if tail < maxTail*0.8 || len(rows) == 0 {
			return k, nil
		}
	}
	if vocab <= 1<<13 {
		return vocab, nil
	}
	return 1000, nil
}

func (v *verifying) comparing() *comparing {
	cfg := v.served.Config()
	c := &comparing{top: 20}
	if v.tok != nil {
		c.special = v.tok.IsSpecial
	}
	if cfg.SparseAttention() {
		c.step = cfg.IndexTopK
	}
	return c
}

// server asks one server and compares.
func (v *verifying) server(ctx context.Context, c *client, s *Server) error {
	top, err := v.topK(ctx)
	if err != nil {
		return err
	}
	cfg := v.served.Config()
	a := &asker{c: c, s: s, top: top, vocab: cfg.VocabSize, tok: v.tok}
	if s.Kind == SGLang && v.o.TopK == 0 {
		a.own = func(i int) []int { return v.favourites(ctx, i) }
	}
	server, err := a.sequences(ctx, v.seqs, 1, v.o.Concurrency, func(n int) { v.o.progress(n, len(v.seqs), "server") })
	if err != nil {
		return err
	}
	s.TopK = a.top
	s.ids.State, s.ids.Line = a.ids()
	for _, why := range slices.Sorted(maps.Keys(a.unknown)) {
		v.note("sequences", fmt.Sprintf("%d of %d are not judged: %s", a.unknown[why], len(v.seqs), why))
	}
	cmp := v.comparing()
	if s.Figures, err = v.served.compare(ctx, cmp, v.seqs, v.states, server); err != nil {
		return err
	}
	if cmp.unknown > 0 {
		v.note("log-probabilities", fmt.Sprintf("%d tokens were not among those that the server names; nothing is said of them", cmp.unknown))
	}
	if s.Figures.Tokens == 0 {
		v.undecided("the server says nothing of any place that could be compared")
	}
	s.rank(v.seqs)
	again, err := a.sequences(ctx, v.seqs, 4, v.o.Concurrency, nil)
	if err != nil {
		return err
	}
	for i := 0; i < len(v.seqs); i += 4 {
		s.Repeat.add(server[i], again[i])
	}
	if s.Repeat.Tokens > 0 {
		s.Repeat.Abs /= float64(s.Repeat.Tokens)
	}
	v.judge(s)
	if !s.agrees() {
		return v.explain(ctx, s, server)
	}
	return nil
}

// favourites are the runtime's own most likely tokens over a sequence, at most
// 128.
func (v *verifying) favourites(ctx context.Context, i int) []int {
	ids := v.seqs[i]
	rows, err := v.served.rows(ctx, v.states[i], make([][]int, max(len(ids)-1, 0)), 3)
	if err != nil {
		return nil // they tighten the bound and nothing else
	}
	var out []int
	for _, r := range rows {
		for _, e := range r.top {
			if len(out) < 128 && !slices.Contains(out, e.id) {
				out = append(out, e.id)
			}
		}
	}
	return out
}

// rank spreads the figures over the ranks of a data parallel engine.
func (s *Server) rank(seqs [][]int) {
	n := len(s.Ranks)
	if n == 0 {
		return
	}
	for _, p := range s.Figures.Places {
		r := &s.Ranks[p.Seq%n]
		r.Tokens++
		r.Abs += abs(p.Delta)
	}
	for i := range s.Ranks {
		if r := &s.Ranks[i]; r.Tokens > 0 {
			r.Abs /= float64(r.Tokens)
		}
	}
}

// add takes two answers to the same sequence.
func (p *Repeat) add(a, b []said) {
	for i := range min(len(a), len(b)) {
		if d := abs(a[i].actual - b[i].actual); a[i].known && b[i].known && d == d {
			p.Tokens++
			p.Abs += d
			p.Max = max(p.Max, d)
		}
	}
}

// explain says what a server that strays is near to: the original, or the folder
// with a fault.
func (v *verifying) explain(ctx context.Context, s *Server, server [][]said) error {
	if v.original != "" {
		if v.first == nil {
			m, err := openModel(v.original, v.o.Verify.Workers, v.o.Verify.MaxMemory, nil)
			if err != nil {
				return err
			}
			v.first = m
			if v.firstAt, err = m.states(ctx, v.seqs, false); err != nil {
				return err
			}
		}
		if v.first.Config().VocabSize == v.served.Config().VocabSize {
			f, err := v.first.compare(ctx, v.comparing(), v.seqs, v.firstAt, server)
			if err != nil {
				return err
			}
			s.Original = &f
			if f.KL <= v.allowed(s) && f.KL < s.Figures.KL/2 {
				return nil
			}
		}
	}
	signs, advice, plain, err := v.try(ctx, server)
	if err != nil {
		return err
	}
	s.Signs = append([]Sign{}, signs...)
	if name := named(signs, plain, v.allowed(s)); name != "" {
		s.cause = name
		for _, x := range signs {
			if x.KL <= 2*signs[0].KL+1e-6 {
				s.advice = append(s.advice, advice[x.Name])
			}
		}
	}
	return nil
}

func (v *verifying) note(where, detail string) {
	v.r.Notes = append(v.r.Notes, verify.Note{Where: where, Detail: detail})
}
