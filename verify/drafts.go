package verify

import (
	"context"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/verify/stats"
)

// draftSteps is how many draft steps are compared: what engines are usually
// told to draft.
const draftSteps = 3

// compareDrafts fills r.MTP; it stays nil where the source has no MTP layer or
// the result was asked to drop it. rows are those of the trunks.
func (r *Result) compareDrafts(ctx context.Context, src, res *side, seqs [][]int, rows []stats.Row, vocab int) error {
	a, err := src.m.MTP()
	if err != nil {
		return nil //nolint:nilerr // the source cannot draft: nothing to compare
	}
	b, err := res.m.MTP()
	if err != nil {
		if r.Exact.Dropped == 0 {
			r.fail("mtp", "MTP layer", err.Error())
		}
		return nil
	}
	var top [][]int // the source trunk's choice after each position
	for i := range seqs {
		top = append(top, make([]int, len(seqs[i])))
	}
	for _, x := range rows {
		top[x.Seq][x.Pos] = x.Top1
	}
	h := src.m.Config().HiddenSize
	out := &MTP{}
	if out.Source, err = draft(ctx, a, seqs, split(src.final, seqs, h), top, vocab, draftSteps); err != nil {
		return err
	}
	if out.Result, err = draft(ctx, b, seqs, split(res.final, seqs, h), top, vocab, draftSteps); err != nil {
		return err
	}
	turned := split(src.final, seqs, h)
	for i, x := range turned {
		half := len(seqs[i]) / 2 * h
		turned[i] = append(append(make([]float32, 0, len(x)), x[half:]...), x[:half]...)
	}
	control, err := draft(ctx, a, seqs, turned, top, vocab, 1)
	if err != nil {
		return err
	}
	out.Control = control.Agreement[0]
	r.MTP = out
	n := 0
	for _, s := range seqs {
		n += max(0, len(s)-1)
	}
	// Allowed: five points, or two standard errors of the share where few
	// positions make it uncertain; twice that with 4-bit weights.
	p, q := out.Source.Agreement[0], out.Result.Agreement[0]
	allowed := max(0.05, 2*math.Sqrt(p*(1-p)/float64(max(n, 1))))
	if r.Profile.Name == "4-bit" {
		allowed *= 2
	}
	if q < p-allowed {
		r.fail("mtp", "MTP layer", fmt.Sprintf("its first draft agrees with the trunk at %.1f %% of the positions, the source's at %.1f %% (%.1f %% with wrong states)", 100*q, 100*p, 100*out.Control))
	}
	return nil
}

// draft runs teacher-forced draft steps and counts the positions where step k
// chooses what the trunk chooses.
func draft(ctx context.Context, t *runtime.MTP, seqs [][]int, states [][]float32, top [][]int, vocab, steps int) (MTPSide, error) {
	d := runtime.NewDraftEval(t, seqs, states)
	side := MTPSide{Length: 1}
	var run [][]bool // every step so far agrees, by sequence and slot
	for k := 1; k <= steps; k++ {
		g, err := d.Next(ctx, nil)
		if err != nil {
			return side, err
		}
		hits, streaks, n := 0, 0, 0
		for i := range seqs {
			slots := max(0, len(seqs[i])-k)
			if k == 1 {
				run = append(run, make([]bool, slots))
			}
			if slots == 0 {
				continue
			}
			choice, err := choices(ctx, t, g[i], slots, vocab)
			if err != nil {
				return side, err
			}
			for p, c := range choice {
				hit := c == top[i][p+k]
				run[i][p] = hit && (k == 1 || run[i][p])
				n++
				if hit {
					hits++
				}
				if run[i][p] {
					streaks++
				}
			}
		}
		side.Agreement = append(side.Agreement, float64(hits)/float64(max(n, 1)))
		side.Length += float64(streaks) / float64(max(n, 1))
	}
	return side, nil
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
