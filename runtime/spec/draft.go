package spec

import (
	"context"

	"github.com/glmconv/glmconv/runtime"
)

// chunk is how many slots of a long prompt the MTP layer reads together. It
// changes memory, no result.
const chunk = 512

// Drafter drafts tokens of one sequence with its MTP layer
// (docs/facts/families.md 5.2). It is not safe for concurrent use.
type Drafter struct {
	mtp     *runtime.MTP
	cache   *runtime.LayerCache
	preNorm bool
}

// NewDrafter returns a drafter of an empty sequence. With preNorm a draft step
// carries the state before shared_head.norm.
func NewDrafter(mtp *runtime.MTP, preNorm bool) *Drafter {
	return &Drafter{mtp: mtp, cache: &runtime.LayerCache{}, preNorm: preNorm}
}

// Len returns the number of slots read with the states of the model.
func (d *Drafter) Len() int { return d.cache.Len() }

// Truncate forgets the slots from n on.
func (d *Drafter) Truncate(n int) { d.cache.Truncate(n) }

// Clone returns a drafter of a sequence of the first n slots of d's, which it
// shares nothing with.
func (d *Drafter) Clone(n int) *Drafter {
	return &Drafter{mtp: d.mtp, cache: d.cache.Clone(n), preNorm: d.preNorm}
}

// Read reads the next slots of the sequence without drafting. ahead are the tokens
// one place behind each slot, h [len(ahead), H] the model's states at the slots
// after model.norm. After an error the drafter is as it was before.
func (d *Drafter) Read(ctx context.Context, ahead []int, h []float32) error {
	start := d.cache.Len()
	_, _, _, err := d.read(ctx, ahead, h)
	if err != nil {
		d.cache.Truncate(start)
	}
	return err
}

// read returns the states of the last slot and the span that it was read with.
func (d *Drafter) read(ctx context.Context, ahead []int, h []float32) (z, g []float32, spans []runtime.Span, err error) {
	start, width := d.cache.Len(), len(h)/max(len(ahead), 1)
	spans = make([]runtime.Span, 1)
	for lo := 0; lo < len(ahead); lo += chunk {
		hi := min(lo+chunk, len(ahead))
		spans[0] = runtime.Span{Cache: d.cache, N: hi - lo, Pos: start + lo}
		if z, g, err = d.mtp.Step(ctx, ahead[lo:hi], h[lo*width:hi*width], spans, nil); err != nil {
			return nil, nil, nil, err
		}
	}
	return z[len(z)-width:], g[len(g)-width:], spans, nil
}

// Draft reads the next slots of the sequence as [Drafter.Read] does and returns k
// greedy drafts, at least one, of the tokens after the last of ahead. What the
// drafts left in the cache is taken back. After an error the drafter is as it was
// before.
func (d *Drafter) Draft(ctx context.Context, ahead []int, h []float32, k int) ([]int, error) {
	start := d.cache.Len()
	done := start
	defer func() { d.cache.Truncate(done) }()
	z, g, spans, err := d.read(ctx, ahead, h)
	if err != nil {
		return nil, err
	}
	drafts := make([]int, 0, k)
	for {
		logits, err := d.mtp.Logits(ctx, g)
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, runtime.Top(logits, len(logits))[0])
		if len(drafts) == k {
			done = start + len(ahead)
			return drafts, nil
		}
		carry := g
		if d.preNorm {
			carry = z
		}
		spans[0] = d.mtp.Next(spans[0])
		if z, g, err = d.mtp.Step(ctx, drafts[len(drafts)-1:], carry, spans, nil); err != nil {
			return nil, err
		}
	}
}
