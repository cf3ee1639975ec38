package runtime

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// indexer chooses the tokens that a row of sparse attention sees: the top k by
// a score of its own heads and its own cached keys (docs/facts/families.md 4.4).
// Layers without an indexer take the choice of the nearest earlier one.
type indexer struct {
	heads, dim, top int
	rope            *kernel.Rope
	turn            func(x, cos, sin []float32)
	norm            func(x, w, b []float32) // of keys
}

// indexEps is the eps of the indexer's LayerNorm, in no config.
const indexEps = 1e-6

func newIndexer(cfg *glm.Config, rope *kernel.Rope) *indexer {
	return &indexer{cfg.IndexHeads, cfg.IndexHeadDim, cfg.IndexTopK, rope, pairing(cfg.IndexerInterleaved), layerNorm}
}

// choose caches the index keys of the rows and sets Span.Keys, unless the layer
// or the span (Reuse) has to keep those of an earlier one. x are the layer's
// normed rows, cq their normed query latents.
func (x *indexer) choose(ctx context.Context, m *Model, l *refs, in, cq *input, places []place, spans []Span) error {
	if l.ixK != nil {
		if err := x.remember(ctx, m, l, in, places, spans); err != nil {
			return err
		}
	}
	first, fresh := 0, false
	for i := range spans {
		s := &spans[i]
		if l.ixK == nil || s.Reuse {
			if len(s.Keys) != s.N {
				return &Error{Where: l.inNorm.Module, Reason: "attends to the tokens that an earlier indexer chose, and Span.Keys does not hold them", Kind: ErrUnsupported}
			}
		} else {
			s.Keys = make([][]int32, s.N)
			for j := range s.N {
				p := places[first+j]
				if p.slot < x.top {
					s.Keys[j] = upTo(p.slot)
				} else {
					fresh = true
				}
			}
		}
		first += s.N
	}
	if !fresh {
		return nil // every row sees everything: nothing to score
	}
	return x.score(ctx, m, l, in, cq, places, spans)
}

func upTo(slot int) []int32 {
	keys := make([]int32, slot+1)
	for i := range keys {
		keys[i] = int32(i)
	}
	return keys
}

// remember caches LayerNorm(wk·x), its first dimensions rotated.
func (x *indexer) remember(ctx context.Context, m *Model, l *refs, in *input, places []place, spans []Span) error {
	k, err := m.linear(ctx, in, l.ixK, nil)
	if err != nil {
		return err
	}
	w, err := m.p.Vector(l.ixKNorm)
	if err != nil {
		return err
	}
	b, err := m.p.Vector(l.ixKNormOffset)
	if err != nil {
		return err
	}
	x.rotate(k, 1, spans, func(row []float32) { x.norm(row, w, b) })
	if l.int8 != nil {
		if err := turnInt8(m.p, k, l.int8.kRot); err != nil {
			return err
		}
	}
	for i, p := range places {
		copy(p.cache.row(indexKeys, p.slot), k[i*x.dim:][:x.dim])
	}
	return nil
}

// rotate turns the first dimensions of every head of every row, after prepare.
func (x *indexer) rotate(rows []float32, heads int, spans []Span, prepare func(row []float32)) {
	n := len(x.rope.Inv)
	cos, sin := make([]float32, n), make([]float32, n)
	at := 0
	for _, s := range spans {
		for i := range s.N {
			x.rope.Angles(cos, sin, s.Pos+i)
			for range heads {
				head := rows[at:][:x.dim]
				if prepare != nil {
					prepare(head)
				}
				x.turn(head[:2*n], cos, sin)
				at += x.dim
			}
		}
	}
}

// layerNorm replaces x by LayerNorm(x)·w + b.
func layerNorm(x, w, b []float32) {
	mean := kernel.Sum(x) / float32(len(x))
	for i := range x {
		x[i] -= mean
	}
	inv := float32(1 / math.Sqrt(float64(kernel.Dot(x, x)/float32(len(x)))+indexEps))
	for i, v := range x {
		x[i] = float32(float32(v*inv)*w[i]) + b[i]
	}
}

// score fills the entries of Span.Keys that are still nil.
func (x *indexer) score(ctx context.Context, m *Model, l *refs, in, cq *input, places []place, spans []Span) error {
	q, err := m.linear(ctx, cq, l.ixQB, nil)
	if err != nil {
		return err
	}
	x.rotate(q, x.heads, spans, nil)
	if l.int8 != nil {
		if err := turnInt8(m.p, q, l.int8.qRot); err != nil {
			return err
		}
	}
	w, err := m.linear(ctx, in, l.ixProj, nil)
	if err != nil {
		return err
	}
	keys := make([]*[]int32, 0, len(places))
	long := 0
	for i := range spans {
		for j := range spans[i].Keys {
			keys = append(keys, &spans[i].Keys[j])
		}
		long = max(long, spans[i].Cache.Len())
	}
	each, scale := float32(math.Pow(float64(x.heads), -0.5)), float32(math.Pow(float64(x.dim), -0.5))
	for i := range w {
		w[i] *= each
	}
	m.workers.Each(len(places), 1, x.heads*x.dim*long, func(lo, hi int) {
		var scores []float32
		for i := lo; i < hi; i++ {
			if *keys[i] != nil {
				continue
			}
			p := places[i]
			scores = fit(scores, p.slot+1)
			for t := range scores {
				k, sum := p.cache.row(indexKeys, t), float32(0)
				for h := range x.heads {
					s := kernel.Dot(q[(i*x.heads+h)*x.dim:][:x.dim], k) * scale
					sum += float32(w[i*x.heads+h] * max(s, 0))
				}
				scores[t] = sum
			}
			*keys[i] = topKeys(scores, x.top)
		}
	})
	return nil
}

// topKeys returns the indices of the k largest scores in rising order. Among
// equal scores the lower index wins; NaN counts as the smallest.
func topKeys(scores []float32, k int) []int32 {
	order := upTo(len(scores) - 1)
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
	})
	order = slices.Clone(order[:min(k, len(order))])
	slices.Sort(order)
	return order
}
