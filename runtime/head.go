package runtime

import (
	"context"

	"github.com/glmconv/glmconv/glm"
)

// LogitReader computes the logits of R states for one run of the vocabulary after
// the other: the head is read once however many states there are, memory does
// not grow with the vocabulary, and two models can advance together. It is for
// one goroutine at a time.
type LogitReader struct {
	m    *Model
	head *glm.Tensor
	in   *input
	tile *Weight // what is left of the tile that was read last
	at   int     // the vocabulary row that comes next
}

// LogitReader begins at the first entry of the vocabulary, for states h [R, H]
// after model.norm.
func (m *Model) LogitReader(h []float32) *LogitReader {
	m.prefetch(m.refs.head)
	return &LogitReader{m: m, head: m.refs.head, in: m.input(h, m.cfg.HiddenSize)}
}

// LogitReader is [Model.LogitReader] with the draft's head; g are states after
// shared_head.norm.
func (t *MTP) LogitReader(g []float32) *LogitReader {
	t.m.prefetch(t.head)
	return &LogitReader{m: t.m, head: t.head, in: t.m.input(g, t.m.cfg.HiddenSize)}
}

// LogitRun is the number of vocabulary entries that runs of a [LogitReader] must
// be a multiple of, the last run aside: the rows that a block of scales covers.
const LogitRun = 128

// Next writes the logits of the next n entries of the vocabulary to z [R, n] and
// returns n; at the end of the vocabulary it is smaller, and 0 when all were
// read. n must be a multiple of [LogitRun]. Errors are those of reading the
// head, or ctx.Err().
func (p *LogitReader) Next(ctx context.Context, n int, z []float32) (int, error) {
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
	out.Rows, out.static = hi-lo, w.static.slice(lo, hi)
	if w.Quant == nil {
		row := w.Cols * w.Type.Size()
		out.Data = w.Data[lo*row : hi*row]
		return &out
	}
	out.Quant = w.Quant.Slice(lo, hi)
	return &out
}
