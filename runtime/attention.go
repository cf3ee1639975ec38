package runtime

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/internal/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// Span is a run of rows of one forward pass that belong to one sequence. Its
// rows are appended to the cache and see each other causally, and everything
// that the cache held before.
type Span struct {
	Cache *LayerCache
	N     int // rows
	Pos   int // rope position of the first row
	// At gives every row its own position on each axis (temporal, height,
	// width) instead of Pos, Pos+1, …: prompts with media (glm4v_moe).
	At [][3]int
	// Keys are the slots that each row attends to, rising (glm_moe_dsa). A layer
	// with an indexer sets them, a layer without one reads them: keep them from
	// layer to layer. With Reuse a layer with an indexer reads them too: drafts
	// that share the choice of their first step (MTP.Next).
	Keys  [][]int32
	Reuse bool
}

// attention is a kind of attention block. x [R, H] is normed; the result
// [R, H] is added to the residual stream by the caller.
type attention interface {
	forward(ctx context.Context, m *Model, l *refs, x []float32, spans []Span) ([]float32, error)
}

// gqa is grouped-query attention with biases, optional per-head norms of
// queries and keys, and half-split rope on the first dimensions of a head
// (architectures.md 4.2).
type gqa struct {
	heads, kvHeads, dim int
	rope                *kernel.Rope
	sections            []int // frequencies of each axis, nil without M-RoPE
}

func newGQA(cfg *glm.Config) *gqa {
	return &gqa{cfg.Heads, cfg.KVHeads, cfg.HeadDim, kernel.NewRope(cfg.RopeTheta, cfg.RopeWidth), cfg.MRopeSections}
}

func (a *gqa) forward(ctx context.Context, m *Model, l *refs, x []float32, spans []Span) ([]float32, error) {
	in := m.input(x, m.cfg.HiddenSize)
	q, err := m.linear(ctx, in, l.q, l.qBias)
	if err != nil {
		return nil, err
	}
	k, err := m.linear(ctx, in, l.k, l.kBias)
	if err != nil {
		return nil, err
	}
	v, err := m.linear(ctx, in, l.v, l.vBias)
	if err != nil {
		return nil, err
	}
	if l.qNorm != nil {
		if q, err = m.norm(q, l.qNorm); err != nil {
			return nil, err
		}
		if k, err = m.norm(k, l.kNorm); err != nil {
			return nil, err
		}
	}
	a.rotate(q, k, spans)
	places := a.remember(k, v, spans)
	o := make([]float32, len(q))
	work := 2 * a.heads * a.dim * m.longest(spans)
	m.workers.Each(len(places), 1, work, func(lo, hi int) {
		var scores []float32
		for i := lo; i < hi; i++ {
			n := a.heads * a.dim
			scores = a.row(o[i*n:][:n], q[i*n:][:n], places[i], scores)
		}
	})
	return m.linear(ctx, m.input(o, a.heads*a.dim), l.o, nil)
}

// rotate applies rope to every head of every row.
func (a *gqa) rotate(q, k []float32, spans []Span) {
	cos, sin := make([]float32, len(a.rope.Inv)), make([]float32, len(a.rope.Inv))
	row := 0
	for _, s := range spans {
		for i := range s.N {
			if s.At != nil && a.sections != nil {
				a.rope.AnglesAxes(cos, sin, s.At[i], a.sections)
			} else {
				a.rope.Angles(cos, sin, s.Pos+i)
			}
			for h := range a.heads {
				kernel.RotateHalf(q[(row*a.heads+h)*a.dim:][:a.dim], cos, sin)
			}
			for h := range a.kvHeads {
				kernel.RotateHalf(k[(row*a.kvHeads+h)*a.dim:][:a.dim], cos, sin)
			}
			row++
		}
	}
}

// place is where a row stands in its sequence.
type place struct {
	cache *LayerCache
	slot  int
}

// remember appends keys and values to the caches and returns where each row
// stands.
func (a *gqa) remember(k, v []float32, spans []Span) []place {
	w := a.kvHeads * a.dim
	var places []place
	for _, s := range spans {
		first := s.Cache.grow(s.N, w, w)
		for i := range s.N {
			r := len(places)
			copy(s.Cache.row(0, first+i), k[r*w:][:w])
			copy(s.Cache.row(1, first+i), v[r*w:][:w])
			places = append(places, place{s.Cache, first + i})
		}
	}
	return places
}

// row computes the attention of one token: all heads, over all slots up to its
// own. scores is scratch.
func (a *gqa) row(o, q []float32, p place, scores []float32) []float32 {
	n := p.slot + 1
	if cap(scores) < n {
		scores = make([]float32, n+n/2)
	}
	scores = scores[:n]
	scale := float32(math.Pow(float64(a.dim), -0.5))
	group := a.heads / a.kvHeads
	for h := range a.heads {
		qh, at := q[h*a.dim:][:a.dim], h/group*a.dim
		for t := range scores {
			scores[t] = kernel.Dot(qh, p.cache.row(0, t)[at:]) * scale
		}
		kernel.Softmax(scores)
		oh := o[h*a.dim:][:a.dim]
		for t, s := range scores {
			kernel.Axpy(oh, s, p.cache.row(1, t)[at:])
		}
	}
	return scores
}

// longest returns the largest number of slots that a row will see.
func (m *Model) longest(spans []Span) int {
	n := 0
	for _, s := range spans {
		n = max(n, s.Cache.Len())
	}
	return n
}
