package verify

import (
	"context"
	goruntime "runtime"
	"sync"

	"github.com/glmconv/glmconv/verify/stats"
)

// logitRows compares the logits of both models over the first vocab entries, a
// few positions at a time; one row for each position of each sequence, which
// are numbered from first on.
func logitRows(ctx context.Context, src, res *side, seqs [][]int, first, vocab int, o *Options) ([]stats.Row, error) {
	type place struct{ seq, pos, next int }
	var at []place
	for i, s := range seqs {
		for p := range s {
			next := -1
			if p+1 < len(s) {
				next = s[p+1]
			}
			at = append(at, place{i, p, next})
		}
	}
	h := src.m.Config().HiddenSize
	batch := o.logitBatch(len(at), vocab)
	z, y := make([]float32, batch*vocab), make([]float32, batch*vocab)
	rows := make([]stats.Row, len(at))
	for lo := 0; lo < len(at); lo += batch {
		hi := min(lo+batch, len(at))
		if err := gatherLogits(ctx, src.m, src.final[lo*h:hi*h], vocab, z); err != nil {
			return nil, err
		}
		if err := gatherLogits(ctx, res.m, res.final[lo*h:hi*h], vocab, y); err != nil {
			return nil, err
		}
		parallel(o.Workers, hi-lo, func(i int) {
			p := at[lo+i]
			row := stats.Compare(z[i*vocab:][:vocab], y[i*vocab:][:vocab], p.next)
			row.Seq, row.Pos = first+p.seq, p.pos
			rows[lo+i] = row
		})
	}
	return rows, nil
}

// head is what has logits: a model or its MTP layer.
type head interface {
	LogitTiles(ctx context.Context, h []float32, fn func(lo, n int, z []float32) error) error
}

// gatherLogits writes the first vocab logits of each row of h to z.
func gatherLogits(ctx context.Context, m head, h []float32, vocab int, z []float32) error {
	return m.LogitTiles(ctx, h, func(lo, n int, t []float32) error {
		if k := min(n, vocab-lo); k > 0 {
			for i := range len(t) / n {
				copy(z[i*vocab+lo:], t[i*n:][:k])
			}
		}
		return ctx.Err()
	})
}

// logitBatch is how many of n positions have their logits, of both models, in
// memory together.
func (o *Options) logitBatch(n, vocab int) int {
	return int(max(1, min(o.MaxMemory/16/int64(8*vocab), int64(n))))
}

// parallel calls fn for 0 … n−1 on some goroutines.
func parallel(workers, n int, fn func(i int)) {
	if workers <= 0 {
		workers = goruntime.GOMAXPROCS(0)
	}
	var wg sync.WaitGroup
	for w := range min(workers, n) {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				fn(i)
			}
		})
	}
	wg.Wait()
}
