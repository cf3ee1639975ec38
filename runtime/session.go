package runtime

import "context"

// Session is one sequence: the tokens a model has seen so far, as the caches
// of its layers.
type Session struct {
	m      *Model
	caches []*LayerCache
	media  *Media // nil for text
}

// NewSession returns an empty sequence.
func (m *Model) NewSession() *Session {
	s := &Session{m: m, caches: make([]*LayerCache, m.cfg.Layers)}
	for i := range s.caches {
		s.caches[i] = &LayerCache{}
	}
	return s
}

// Len returns the number of tokens seen.
func (s *Session) Len() int { return s.caches[0].Len() }

// Truncate forgets the tokens from the n-th on.
func (s *Session) Truncate(n int) {
	for _, c := range s.caches {
		c.Truncate(n)
	}
}

// Clone returns a sequence of the first n tokens of s, which it shares nothing
// with. Media stay with s.
func (s *Session) Clone(n int) *Session {
	c := &Session{m: s.m, caches: make([]*LayerCache, len(s.caches))}
	for i, l := range s.caches {
		c.caches[i] = l.Clone(n)
	}
	return c
}

// Forward appends tokens and returns their states after model.norm
// [len(ids), H]. Long inputs go through in chunks of Options.Chunk rows. After
// an error the sequence is as long as before.
func (s *Session) Forward(ctx context.Context, ids []int) ([]float32, error) {
	start := s.Len()
	var out []float32
	for lo := 0; lo < len(ids); lo += s.m.opt.Chunk {
		h, err := s.m.Forward(ctx, []Step{{s, ids[lo:min(lo+s.m.opt.Chunk, len(ids))]}}, nil)
		if err != nil {
			s.Truncate(start)
			return nil, err
		}
		out = append(out, h...)
	}
	return out, nil
}

// Step is the tokens that a forward pass appends to a session.
type Step struct {
	Session *Session
	IDs     []int
}

// Forward appends tokens to several different sessions in one pass, layer by
// layer, and returns the states after model.norm in the order of the steps. A
// row's state does not depend on what else is in the pass. After an error every
// session is as long as before.
func (m *Model) Forward(ctx context.Context, steps []Step, tr *Trace) ([]float32, error) {
	x, err := m.forward(ctx, steps, tr, nil)
	if err != nil {
		return nil, err
	}
	return m.FinalNorm(x)
}

// forward returns the residual stream after the last layer; each sees it after
// the embedding (0) and after every layer (1 …).
func (m *Model) forward(ctx context.Context, steps []Step, tr *Trace, each func(l int, x []float32)) (x []float32, err error) {
	var ids []int
	start := make([]int, len(steps))
	for i, s := range steps {
		ids = append(ids, s.IDs...)
		start[i] = s.Session.Len()
	}
	defer func() {
		if err != nil {
			for i, s := range steps {
				s.Session.Truncate(start[i])
			}
		}
	}()
	if x, err = m.Embed(ids); err != nil {
		return nil, err
	}
	at := m.inject(x, steps, start)
	if each != nil {
		each(0, x)
	}
	spans := make([]Span, len(steps))
	for l := range m.cfg.Layers {
		for i, s := range steps {
			spans[i] = Span{Cache: s.Session.caches[l], N: len(s.IDs), Pos: start[i], At: at[i], Keys: spans[i].Keys}
		}
		if err = m.Layer(ctx, l, x, spans, tr); err != nil {
			return nil, err
		}
		if each != nil {
			each(l+1, x)
		}
	}
	return x, nil
}
