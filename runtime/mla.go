package runtime

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// mla is multi-head latent attention (docs/facts/families.md 4.3): a token's keys
// and values are one latent vector and one rotated key that all heads share,
// and that is what the cache holds. In glm_moe_dsa an indexer chooses the
// tokens that a row sees.
//
// Every row, of a prompt or of a draft, is computed in the absorbed form:
// queries go through the key rows of kv_b_proj into the latent space, and the
// weighted latents through its value rows. That is what engines do for sparse
// attention; one form for all rows keeps a token's logits free of how a prompt
// was cut. Options.ExpandKV selects the expanded form, equal up to rounding.
//
// kv_b_proj is used dequantised, rounded to BF16, in both forms
// (docs/facts/engine-vllm.md 4: engines split it after loading).
type mla struct {
	heads, nope, rot, v int // dimensions of a head
	rank                int // of the latent
	rope                *kernel.Rope
	turn                func(x, cos, sin []float32)
	eps                 float64 // of the norms of latents
	scale               float32
	expand              bool
	ix                  *indexer // nil: rows see all earlier tokens
}

func newMLA(cfg *glm.Config, o Options) *mla {
	a := &mla{heads: cfg.Heads, nope: cfg.QKNopeHeadDim, rot: cfg.QKRopeHeadDim, v: cfg.VHeadDim, rank: cfg.KVLoraRank,
		rope: kernel.NewRope(cfg.RopeTheta, cfg.RopeWidth), turn: pairing(cfg.RopeInterleaved),
		eps: o.LatentEps, expand: o.ExpandKV}
	a.scale = float32(math.Pow(float64(a.nope+a.rot), -0.5))
	if a.eps == 0 {
		a.eps = cfg.RMSNormEps
	}
	if cfg.SparseAttention() {
		a.ix = newIndexer(cfg, a.rope)
	}
	return a
}

// pairing returns the rotation of pairs (2j, 2j+1) or (i, i+n).
func pairing(interleaved bool) func(x, cos, sin []float32) {
	if interleaved {
		return kernel.RotateInterleaved
	}
	return kernel.RotateHalf
}

// Streams of the cache of a layer.
const (
	latents   = iota // normed latent, then rotated key [rank+rot]
	indexKeys        // layers with an indexer [index_head_dim]
)

// widths are those of a layer's cache.
func (a *mla) widths(l *refs) []int {
	if l.ixK == nil {
		return []int{a.rank + a.rot}
	}
	return []int{a.rank + a.rot, a.ix.dim}
}

func (a *mla) forward(ctx context.Context, m *Model, l *refs, x []float32, spans []Span) ([]float32, error) {
	in := m.input(x, m.cfg.HiddenSize)
	cq, err := m.linear(ctx, in, l.qA, nil)
	if err != nil {
		return nil, err
	}
	if cq, err = m.normEps(cq, l.qANorm, a.eps); err != nil {
		return nil, err
	}
	qin := m.input(cq, m.cfg.QLoraRank)
	q, err := m.linear(ctx, qin, l.qB, nil)
	if err != nil {
		return nil, err
	}
	u, err := m.linear(ctx, in, l.kvA, nil)
	if err != nil {
		return nil, err
	}
	if err = a.latent(m, l, u); err != nil {
		return nil, err
	}
	a.rotate(q, u, spans)
	places := a.keep(m, l, u, spans)
	if a.ix != nil {
		if err = a.ix.choose(ctx, m, l, in, qin, places, spans); err != nil {
			return nil, err
		}
	}
	keys := make([][]int32, 0, len(places)) // nil: all slots up to the row's own
	for _, s := range spans {
		if a.ix == nil {
			keys = append(keys, make([][]int32, s.N)...)
		} else {
			keys = append(keys, s.Keys...)
		}
	}
	o := make([]float32, len(places)*a.heads*a.v)
	attend := a.absorbed
	if a.expand {
		attend = a.expanded
	}
	for lo := 0; lo < len(places); lo += m.opt.Chunk { // bounds the memory
		hi := min(lo+m.opt.Chunk, len(places))
		if err = attend(ctx, m, l, o[lo*a.heads*a.v:hi*a.heads*a.v], q[lo*a.heads*(a.nope+a.rot):], places[lo:hi], keys[lo:hi]); err != nil {
			return nil, err
		}
	}
	return m.linear(ctx, m.input(o, a.heads*a.v), l.o, nil)
}

// keep puts latents and rotary keys of all rows, u [rows, rank + rot], into the
// caches of their sequences, rounded where the checkpoint says so, and returns
// where they are.
func (a *mla) keep(m *Model, l *refs, u []float32, spans []Span) []place {
	width := a.rank + a.rot
	if m.opt.Caches[l.layer] {
		for i := 0; i < len(u); i += width {
			for lo := 0; lo < a.rank; lo += latentTile {
				roundTile(u[i+lo:][:min(latentTile, a.rank-lo)])
			}
		}
	}
	places := make([]place, 0, len(u)/width)
	for _, s := range spans {
		first := s.Cache.grow(s.N, a.widths(l)...)
		for i := range s.N {
			copy(s.Cache.row(latents, first+i), u[len(places)*width:][:width])
			places = append(places, place{s.Cache, first + i})
		}
	}
	return places
}

// latent norms the latents in rows of u [R, rank+rot]; the key beside it is not
// normed.
func (a *mla) latent(m *Model, l *refs, u []float32) error {
	g, err := m.p.Vector(l.kvANorm)
	if err != nil {
		return err
	}
	c := make([]float32, a.rank)
	for i := 0; i < len(u); i += a.rank + a.rot {
		kernel.RMSNormRows(c, u[i:][:a.rank], g, a.eps)
		copy(u[i:], c)
	}
	return nil
}

// rotate applies rope to the last dimensions of every query head and to the
// shared key.
func (a *mla) rotate(q, u []float32, spans []Span) {
	cos, sin := make([]float32, len(a.rope.Inv)), make([]float32, len(a.rope.Inv))
	row, d := 0, a.nope+a.rot
	for _, s := range spans {
		for i := range s.N {
			a.rope.Angles(cos, sin, s.Pos+i)
			for h := range a.heads {
				a.turn(q[(row*a.heads+h)*d+a.nope:][:a.rot], cos, sin)
			}
			a.turn(u[row*(a.rank+a.rot)+a.rank:][:a.rot], cos, sin)
			row++
		}
	}
}

// absorbed computes o [R, heads·v] for queries q [R, heads·(nope+rot)].
func (a *mla) absorbed(ctx context.Context, m *Model, l *refs, o, q []float32, places []place, keys [][]int32) error {
	w, d := a.rank+a.rot, a.nope+a.rot
	qc := make([]float32, len(places)*a.heads*w) // queries in the space of the cache
	for i := range len(places) * a.heads {
		copy(qc[i*w+a.rank:][:a.rot], q[i*d+a.nope:][:a.rot])
	}
	err := a.kvB(ctx, m, l, func(h, j int, row []float32) {
		if j >= a.nope {
			return
		}
		for i := range places {
			kernel.Axpy(qc[(i*a.heads+h)*w:][:a.rank], q[(i*a.heads+h)*d+j], row)
		}
	}, len(places))
	if err != nil {
		return err
	}
	m.workers.Each(len(places)*a.heads, 1, 2*w*longest(places, keys), func(lo, hi int) {
		var scores []float32
		for i := lo; i < hi; i++ {
			p, set := places[i/a.heads], keys[i/a.heads]
			scores = fit(scores, visible(p, set))
			qh := qc[i*w:][:w]
			for t := range scores {
				scores[t] = kernel.Dot(qh, p.cache.row(latents, slot(set, t))) * a.scale
			}
			kernel.Softmax(scores)
			z := qh[:a.rank] // the query is done
			clear(z)
			for t, s := range scores {
				kernel.Axpy(z, s, p.cache.row(latents, slot(set, t)))
			}
		}
	})
	return a.kvB(ctx, m, l, func(h, j int, row []float32) {
		if j < a.nope {
			return
		}
		for i := range places {
			o[(i*a.heads+h)*a.v+j-a.nope] = kernel.Dot(row, qc[(i*a.heads+h)*w:])
		}
	}, len(places))
}

// visible is the number of tokens that a row sees.
func visible(p place, set []int32) int {
	if set == nil {
		return p.slot + 1
	}
	return len(set)
}

// slot returns the t-th token that a row sees.
func slot(set []int32, t int) int {
	if set == nil {
		return t
	}
	return int(set[t])
}

func longest(places []place, keys [][]int32) (n int) {
	for i, p := range places {
		n = max(n, visible(p, keys[i]))
	}
	return n
}

func fit(s []float32, n int) []float32 {
	if cap(s) < n {
		s = make([]float32, n+n/2)
	}
	return s[:n]
}

// kvB calls fn for the rows [rank] of kv_b_proj: row j of head h, keys before
// values. Rows of a head come in order, heads at the same time.
func (a *mla) kvB(ctx context.Context, m *Model, l *refs, fn func(h, j int, row []float32), rows int) error {
	per := a.nope + a.v
	in := &input{rows: rows, cols: a.rank}
	return m.tiles(ctx, in, l.kvB, func(lo int, t *Weight) {
		first, last := lo/per, (lo+t.Rows-1)/per
		m.workers.Each(last-first+1, 1, per*a.rank*(rows+1), func(from, to int) {
			buf := make([]float32, a.rank)
			for h := first + from; h < first+to; h++ {
				for r := max(lo, h*per); r < min(lo+t.Rows, (h+1)*per); r++ {
					t.decode(buf, r-lo)
					fn(h, r-h*per, buf)
				}
			}
		})
	})
}

// decode widens a row. A quantised one is rounded to BF16, as engines do that
// use a weight outside of its module.
func (w *Weight) decode(dst []float32, row int) {
	if w.Quant == nil {
		w.Type.Decode(dst, w.Data[row*w.Cols*w.Type.Size():])
		return
	}
	w.Quant.Dequant(dst, row, row+1)
	for i, v := range dst {
		dst[i] = numeric.RoundBF16(v)
	}
}
