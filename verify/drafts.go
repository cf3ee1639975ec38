package verify

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/verify/stats"
)

// draftSteps is how many draft steps are compared: what engines are usually
// told to draft.
const draftSteps = 3

// draftCount counts what the drafts of one model agree with.
type draftCount struct {
	Hits, Streaks, Slots [draftSteps]int // by step; streaks: all steps so far agree
}

func (c *draftCount) side() MTPSide {
	out := MTPSide{Length: 1}
	for k := range draftSteps {
		n := float64(max(c.Slots[k], 1))
		out.Agreement = append(out.Agreement, float64(c.Hits[k])/n)
		out.Length += float64(c.Streaks[k]) / n
	}
	return out
}

// drafts are the counts of a comparison, over its batches.
type drafts struct {
	Source, Result, Control draftCount

	Diff, Size float64 // squares: logits of first drafts on the source's states, result − source and source
}

// canDraft tells whether MTP layers are to be compared: not where the source
// has none or the result was asked to drop it.
func (r *Result) canDraft(src, res *side) bool {
	if _, err := src.m.MTP(); err != nil {
		return false
	}
	_, err := res.m.MTP()
	asked := r.Exact.Dropped > 0 && res.m.Config().MTPLayers == 0
	said := slices.ContainsFunc(r.Failed, func(f Failed) bool { return f.Check == "mtp" }) // by the run that this one goes on with
	if err != nil && !asked && !said {
		r.fail("mtp", "MTP layer", err.Error())
	}
	return err == nil
}

// compare runs the MTP layers over some sequences. rows are those of the
// trunks; the control feeds the source's layer the states of other positions.
func (d *drafts) compare(ctx context.Context, src, res *side, seqs [][]int, rows []stats.Row, vocab int, o *Options) error {
	a, err := src.m.MTP()
	if err != nil {
		return err
	}
	b, err := res.m.MTP()
	if err != nil {
		return err
	}
	var top [][]int // the source trunk's choice after each position
	for _, s := range seqs {
		own := make([]int, len(s))
		for i := range own {
			own[i] = rows[i].Top1
		}
		top, rows = append(top, own), rows[len(s):]
	}
	h := src.m.Config().HiddenSize
	if err := d.Source.run(ctx, a, seqs, split(src.final, seqs, h), top, vocab, draftSteps); err != nil {
		return err
	}
	if err := d.Result.run(ctx, b, seqs, split(res.final, seqs, h), top, vocab, draftSteps); err != nil {
		return err
	}
	turned := split(src.final, seqs, h)
	for i, x := range turned {
		half := len(seqs[i]) / 2 * h
		turned[i] = append(append(make([]float32, 0, len(x)), x[half:]...), x[:half]...)
	}
	if err := d.Control.run(ctx, a, seqs, turned, top, vocab, 1); err != nil {
		return err
	}
	return d.differ(ctx, a, b, seqs, split(src.final, seqs, h), vocab, o)
}

// differ compares the logits of the first drafts, both layers reading the same
// states: agreement with the trunk says little where wrong states draft nearly
// as well.
func (d *drafts) differ(ctx context.Context, a, b *runtime.MTP, seqs [][]int, states [][]float32, vocab int, o *Options) error {
	x, err := runtime.NewDraftEval(a, seqs, states).Next(ctx, nil)
	if err != nil {
		return err
	}
	y, err := runtime.NewDraftEval(b, seqs, states).Next(ctx, nil)
	if err != nil {
		return err
	}
	for i, s := range seqs {
		n := len(s) - 1
		if n <= 0 {
			continue
		}
		h, batch := len(x[i])/n, o.logitBatch(n, vocab)
		p, q := make([]float32, batch*vocab), make([]float32, batch*vocab)
		for lo := 0; lo < n; lo += batch {
			hi := min(lo+batch, n)
			if err := gatherLogits(ctx, a, x[i][lo*h:hi*h], vocab, p); err != nil {
				return err
			}
			if err := gatherLogits(ctx, b, y[i][lo*h:hi*h], vocab, q); err != nil {
				return err
			}
			for j, v := range p[:(hi-lo)*vocab] {
				e := float64(q[j]) - float64(v)
				d.Diff += e * e
				d.Size += float64(v) * float64(v)
			}
		}
	}
	return nil
}

// judgeDrafts fills r.MTP and compares first drafts.
func (r *Result) judgeDrafts(d *drafts) {
	r.MTP = &MTP{Source: d.Source.side(), Result: d.Result.side(), Control: d.Control.side().Agreement[0], Error: root(d.Diff, d.Size)}
	// Allowed: five points, or two standard errors of the share where few
	// positions make it uncertain; twice that with 4-bit weights.
	p, q := r.MTP.Source.Agreement[0], r.MTP.Result.Agreement[0]
	allowed := max(0.05, 2*math.Sqrt(p*(1-p)/float64(max(d.Source.Slots[0], 1))))
	if r.Profile.Name == profile4.Name {
		allowed *= 2
	}
	if !(r.MTP.Error <= r.Profile.NRMSE) {
		r.fail("mtp", "MTP layer", fmt.Sprintf("reading the source's states, its first drafts' logits are %.3g away from the source's (relative), the %s profile allows %.3g", r.MTP.Error, r.Profile.Name, r.Profile.NRMSE))
	}
	if q < p-allowed {
		r.fail("mtp", "MTP layer", fmt.Sprintf("its first draft agrees with the trunk at %.1f %% of the positions, the source's at %.1f %% (%.1f %% with wrong states)", 100*q, 100*p, 100*r.MTP.Control))
	}
}

// run takes teacher-forced draft steps and counts the positions where step k
// chooses what the trunk chooses.
func (c *draftCount) run(ctx context.Context, t *runtime.MTP, seqs [][]int, states [][]float32, top [][]int, vocab, steps int) error {
	d := runtime.NewDraftEval(t, seqs, states)
	run := make([][]bool, len(seqs)) // every step so far agrees, by slot
	for k := range steps {
		g, err := d.Next(ctx, nil)
		if err != nil {
			return err
		}
		for i := range seqs {
			slots := max(0, len(seqs[i])-k-1)
			if k == 0 {
				run[i] = make([]bool, slots)
			}
			if slots == 0 {
				continue
			}
			choice, err := choices(ctx, t, g[i], slots, vocab)
			if err != nil {
				return err
			}
			for p, id := range choice {
				hit := id == top[i][p+k+1]
				run[i][p] = hit && (k == 0 || run[i][p])
				c.Slots[k]++
				if hit {
					c.Hits[k]++
				}
				if run[i][p] {
					c.Streaks[k]++
				}
			}
		}
	}
	return nil
}

// choices returns the index of the largest logit of each of n rows.
func choices(ctx context.Context, t *runtime.MTP, g []float32, n, vocab int) ([]int, error) {
	best, out := make([]float32, n), make([]int, n)
	for i := range best {
		best[i], out[i] = float32(math.Inf(-1)), -1
	}
	err := t.LogitTiles(ctx, g, func(lo, w int, z []float32) error {
		for i := range n {
			for j, v := range z[i*w:][:max(0, min(w, vocab-lo))] {
				if v > best[i] {
					best[i], out[i] = v, lo+j
				}
			}
		}
		return ctx.Err()
	})
	return out, err
}

// split cuts rows [R, h] into those of each sequence.
func split(x []float32, seqs [][]int, h int) [][]float32 {
	out := make([][]float32, len(seqs))
	for i, s := range seqs {
		out[i], x = x[:len(s)*h], x[len(s)*h:]
	}
	return out
}
