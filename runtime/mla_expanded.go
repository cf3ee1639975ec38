package runtime

import (
	"context"

	"github.com/glmconv/glmconv/runtime/kernel"
)

// expanded is absorbed in the other form: keys and values of every head are
// made of the latents of the whole cache. Cheaper for many rows that see the
// same tokens, and what the reference computes.
func (a *mla) expanded(ctx context.Context, m *Model, l *refs, o, q []float32, places []place, keys [][]int32) error {
	for lo := 0; lo < len(places); {
		hi := lo + 1
		for hi < len(places) && places[hi].cache == places[lo].cache {
			hi++
		}
		d := a.heads * (a.nope + a.rot)
		if err := a.expandOne(ctx, m, l, o[lo*a.heads*a.v:], q[lo*d:], places[lo:hi], keys[lo:hi]); err != nil {
			return err
		}
		lo = hi
	}
	return nil
}

// expandOne is expanded for rows of one sequence.
func (a *mla) expandOne(ctx context.Context, m *Model, l *refs, o, q []float32, places []place, keys [][]int32) error {
	cache, n, per := places[0].cache, places[len(places)-1].slot+1, a.nope+a.v
	kv := make([]float32, n*a.heads*per)
	err := a.kvB(ctx, m, l, func(h, j int, row []float32) {
		for t := range n {
			kv[(t*a.heads+h)*per+j] = kernel.Dot(row, cache.row(latents, t))
		}
	}, n)
	if err != nil {
		return err
	}
	d := a.nope + a.rot
	m.workers.Each(len(places)*a.heads, 1, (d+a.v)*longest(places, keys), func(lo, hi int) {
		var scores []float32
		for i := lo; i < hi; i++ {
			h, set := i%a.heads, keys[i/a.heads]
			scores = fit(scores, visible(places[i/a.heads], set))
			qn, qr := q[i*d:][:a.nope], q[i*d+a.nope:][:a.rot]
			for t := range scores {
				s := slot(set, t)
				scores[t] = (kernel.Dot(qn, kv[(s*a.heads+h)*per:]) + kernel.Dot(qr, cache.row(latents, s)[a.rank:])) * a.scale
			}
			kernel.Softmax(scores)
			for t, p := range scores {
				kernel.Axpy(o[i*a.v:][:a.v], p, kv[(slot(set, t)*a.heads+h)*per+a.nope:])
			}
		}
	})
	return nil
}
