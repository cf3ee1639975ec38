package runtime

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/glm"
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
// (docs/facts/families.md 4.2).
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
	m.prefetch(l.q, l.k, l.v, l.o)
	jobs := []job{{in: in, w: l.q, bias: l.qBias}, {in: in, w: l.k, bias: l.kBias}, {in: in, w: l.v, bias: l.vBias}}
	err := m.linears(ctx, jobs)
	if err != nil {
		return nil, err
	}
	q, k, v := jobs[0].y, jobs[1].y, jobs[2].y
	if l.qNorm != nil {
		if q, err = m.norm(q, l.qNorm); err != nil {
			return nil, err
		}
		if k, err = m.norm(k, l.kNorm); err != nil {
			return nil, err
		}
	}
	a.rotate(m, q, k, spans)
	if m.opt.ObserveCache != nil {
		m.opt.ObserveCache(l.layer, k, v)
	}
	if err := l.int8.keysValues(m.p, k, v); err != nil {
		return nil, err
	}
	a.remember(k, v, spans)
	o := make([]float32, len(q))
	a.attend(m, o, q, spans)
	return m.linear(ctx, m.input(o, a.heads*a.dim), l.o, nil)
}

// attend computes o [R, heads·dim]: runs of a sequence's tokens for each key
// head.
func (a *gqa) attend(m *Model, o, q []float32, spans []Span) {
	group, w := a.heads/a.kvHeads, a.heads*a.dim
	shared := kernel.Attention{Heads: group, KeyDim: a.dim, ValueDim: a.dim, Scale: float32(math.Pow(float64(a.dim), -0.5))}
	type task struct{ span, row, tokens, first int }
	var tasks []task
	row := 0
	for i, s := range spans {
		n := s.Cache.Len()
		step := shared.Block(n)
		for lo := 0; lo < s.N; lo += step {
			tasks = append(tasks, task{i, row + lo, min(step, s.N-lo), n - s.N + lo + 1})
		}
		row += s.N
	}
	work := 2 * group * a.dim * m.longest(spans) * len(q) / w / max(len(tasks), 1)
	m.workers.Each(len(tasks)*a.kvHeads, 1, work, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			t, head := tasks[i/a.kvHeads], i%a.kvHeads
			cache, at := spans[t.span].Cache, head*a.dim
			stream := func(s int) kernel.Rows {
				return func(t int) ([]float32, int, int) {
					rows, n := cache.run(s, t)
					return rows[at:], a.kvHeads * a.dim, n
				}
			}
			x := shared
			x.Tokens, x.First, x.Keys, x.Values = t.tokens, t.first, stream(0), stream(1)
			at2 := t.row*w + head*group*a.dim
			x.Attend(o[at2:], w, q[at2:], w)
		}
	})
}

// rotate applies rope to every head of every row.
func (a *gqa) rotate(m *Model, q, k []float32, spans []Span) {
	row := 0
	for _, s := range spans {
		at := row
		m.workers.Each(s.N, 1, (a.heads+a.kvHeads)*a.dim, func(lo, hi int) {
			cos, sin := make([]float32, len(a.rope.Inv)), make([]float32, len(a.rope.Inv))
			for i := lo; i < hi; i++ {
				if s.At != nil && a.sections != nil {
					a.rope.AnglesAxes(cos, sin, s.At[i], a.sections)
				} else {
					a.rope.Angles(cos, sin, s.Pos+i)
				}
				for h := range a.heads {
					kernel.RotateHalf(q[((at+i)*a.heads+h)*a.dim:][:a.dim], cos, sin)
				}
				for h := range a.kvHeads {
					kernel.RotateHalf(k[((at+i)*a.kvHeads+h)*a.dim:][:a.dim], cos, sin)
				}
			}
		})
		row += s.N
	}
}

// place is where a row stands in its sequence.
type place struct {
	cache *LayerCache
	slot  int
}

// remember appends keys and values to the caches.
func (a *gqa) remember(k, v []float32, spans []Span) {
	w := a.kvHeads * a.dim
	r := 0
	for _, s := range spans {
		first := s.Cache.grow(s.N, w, w)
		for i := range s.N {
			copy(s.Cache.row(0, first+i), k[r*w:][:w])
			copy(s.Cache.row(1, first+i), v[r*w:][:w])
			r++
		}
	}
}

// longest returns the largest number of slots that a row will see.
func (m *Model) longest(spans []Span) int {
	n := 0
	for _, s := range spans {
		n = max(n, s.Cache.Len())
	}
	return n
}
