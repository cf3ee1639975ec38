package runtime

import (
	"context"

	"github.com/glmconv/glmconv/glm"
)

// HeadPass computes the logits of R states a run of the vocabulary at a time, so
// that the head is read once however many states there are, and two models can
// advance over the vocabulary together.
type HeadPass struct {
	m    *Model
	head *glm.Tensor
	in   *input
	tile *Weight // what is left of the tile that was read last
	at   int     // the vocabulary row that comes next
}

// HeadPass begins a pass over the head for normed states h [R, H].
func (m *Model) HeadPass(h []float32) *HeadPass {
	m.ahead(m.refs.head)
	return &HeadPass{m: m, head: m.refs.head, in: m.input(h, m.cfg.HiddenSize)}
}

// HeadPass is Model.HeadPass with the draft's head; g are states after
// shared_head.norm.
func (t *MTP) HeadPass(g []float32) *HeadPass {
	t.m.ahead(t.head)
	return &HeadPass{m: t.m, head: t.head, in: t.m.input(g, t.m.cfg.HiddenSize)}
}

// HeadRows is the number that runs should be a multiple of, the last aside:
// rows of the vocabulary that a block of scales covers.
const HeadRows = 128

// Next writes the logits of the next n rows of the vocabulary to z [R, n], or of
// fewer at its end, which it returns; 0 when the pass is over. n must be a
// multiple of HeadRows.
func (p *HeadPass) Next(ctx context.Context, n int, z []float32) (int, error) {
	n = min(n, int(p.head.Shape[0])-p.at)
	for done := 0; done < n; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if p.tile == nil {
			t, err := p.m.p.Tile(p.head, p.at)
			if err != nil {
				return 0, err
			}
			p.tile = t
		}
		k := min(n-done, p.tile.Rows)
		if p.in.rows > 0 {
			p.tile.slice(0, k).product(z[done:], n, p.in, p.m.workers)
		}
		if k == p.tile.Rows {
			p.m.p.Release(p.tile)
			p.tile = nil
		} else {
			p.tile = p.tile.slice(k, p.tile.Rows)
		}
		done += k
		p.at += k
	}
	return n, nil
}

// slice returns rows lo to hi of a weight, which it shares. lo must be a
// multiple of the rows that a scale covers.
func (w *Weight) slice(lo, hi int) *Weight {
	if lo == 0 && hi == w.Rows {
		return w
	}
	out := *w
	out.Rows = hi - lo
	if w.Quant == nil {
		row := w.Cols * w.Type.Size()
		out.Data = w.Data[lo*row : hi*row]
		return &out
	}
	q := *w.Quant
	q.Rows = out.Rows
	q.Codes = q.Codes[lo*q.RowBytes() : hi*q.RowBytes()]
	q.Scales = q.Scales[lo/q.BlockRows*q.ScaleCols():][:q.ScaleRows()*q.ScaleCols()]
	out.Quant = &q
	return &out
}
