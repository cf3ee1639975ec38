package verify

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/runtime"
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

// drafts are the counts of a sequence.
type drafts struct {
	Source, Result, Control draftCount

	Diff, Size float64 // squares: logits of first drafts on the source's states, result − source and source
}

func (c *draftCount) plus(x *draftCount) {
	for k := range draftSteps {
		c.Hits[k], c.Streaks[k], c.Slots[k] = c.Hits[k]+x.Hits[k], c.Streaks[k]+x.Streaks[k], c.Slots[k]+x.Slots[k]
	}
}

// plus adds the counts of another sequence.
func (d *drafts) plus(x *drafts) {
	d.Source.plus(&x.Source)
	d.Result.plus(&x.Result)
	d.Control.plus(&x.Control)
	d.Diff, d.Size = d.Diff+x.Diff, d.Size+x.Size
}

// drafting tells whether MTP layers are compared: not where a side has none.
type drafting struct {
	Source bool   // has one
	Layers int    // that the result's config has
	Fault  string // why the result's cannot be run; ""
}

func canDraft(src, res *side) (d drafting) {
	_, err := src.m.MTP()
	d.Source, d.Layers = err == nil, res.m.Config().MTPLayers
	if _, err := res.m.MTP(); err != nil {
		d.Fault = err.Error()
	}
	return d
}

func (d drafting) possible() bool { return d.Source && d.Fault == "" }

// judgeDrafting fails a result that has no MTP layer and was not asked to drop it.
func (r *Result) judgeDrafting(d drafting) {
	if asked := r.Exact.Dropped > 0 && d.Layers == 0; d.Source && d.Fault != "" && !asked {
		r.fail("mtp", "MTP layer", d.Fault)
	}
}

// compareDrafts runs the MTP layers over a batch, both models at the same time.
// rows are those of the trunks. At the first step the source's layer also reads
// the states of other positions, the control, and the result's the source's
// states: what it drafts of those is compared by logits, since agreement with
// the trunk says little where wrong states draft nearly as well.
func (c *comparison) compareDrafts(ctx context.Context, own []sequence, batch batch) error {
	src, res, seqs := c.src, c.res, batch.seqs
	a, err := src.m.MTP()
	if err != nil {
		return err
	}
	b, err := res.m.MTP()
	if err != nil {
		return err
	}
	top := trunkChoices(own, seqs)
	h := src.m.Config().HiddenSize
	states, turned := split(src.final, seqs, h), split(src.final, seqs, h)
	for i, x := range turned {
		half := len(seqs[i]) / 2 * h
		turned[i] = append(append(make([]float32, 0, len(x)), x[half:]...), x[:half]...)
	}
	twice := append(slices.Clone(seqs), seqs...)
	x := runtime.NewDraftEval(a, twice, append(slices.Clone(states), turned...))
	y := runtime.NewDraftEval(b, twice, append(split(res.final, seqs, h), states...))
	source := &draftRun{count: func(i int) *draftCount { return &own[i].Drafts.Source }}
	result := &draftRun{count: func(i int) *draftCount { return &own[i].Drafts.Result }}
	for k := range draftSteps {
		var p, q [][]float32
		err := both(ctx,
			func(ctx context.Context) (err error) { p, err = x.Next(ctx, nil); return err },
			func(ctx context.Context) (err error) { q, err = y.Next(ctx, nil); return err })
		if err != nil {
			return err
		}
		slots := 0
		for _, s := range seqs {
			slots += max(0, len(s)-k-1)
		}
		again := slots // the rows from which on the result's read the source's states
		if k > 0 {
			again = math.MaxInt
		}
		z, w := slices.Concat(p...), slices.Concat(q...)
		all := len(z) / h
		chosen, other, off, err := c.draftChoices(ctx, all, again, a.LogitReader(z), b.LogitReader(w))
		if err != nil {
			return err
		}
		source.step(k, seqs, top, chosen.id[:slots])
		result.step(k, seqs, top, other.id[:slots])
		if k == 0 {
			at := again
			for i, s := range seqs {
				for range max(0, len(s)-1) {
					own[i].Drafts.Diff += off.diff[at]
					own[i].Drafts.Size += off.size[at]
					at++
				}
			}
			(&draftRun{count: func(i int) *draftCount { return &own[i].Drafts.Control }}).step(0, seqs, top, chosen.id[slots:])
			x.Keep(len(seqs))
			y.Keep(len(seqs))
		}
	}
	return nil
}

// trunkChoices are the tokens that the source trunk chose after each position.
func trunkChoices(own []sequence, seqs [][]int) (top [][]int) {
	for i, s := range seqs {
		list := make([]int, len(s))
		for p := range list {
			list[p] = own[i].Rows[p].Top1
		}
		top = append(top, list)
	}
	return top
}

// squares are those of each row's logits: result − source, and source.
type squares struct{ diff, size []float64 }

// draftChoices takes both layers' heads over their rows. Rows of the result from
// again on are drafted from the source's states, those of row i − again: off says
// how far their logits are from the source's.
func (c *comparison) draftChoices(ctx context.Context, rows, again int, a, b *runtime.LogitReader) (own, other choices, off squares, err error) {
	own, other = newChoices(rows), newChoices(rows)
	off = squares{make([]float64, rows), make([]float64, rows)}
	err = c.o.heads(ctx, []head{{a, rows}, {b, rows}}, c.f.Vocab, func(lo, width, stride int, z [][]float32) {
		parallel(c.o.Workers, rows, func(i int) {
			p, q := z[0][i*stride:][:width], z[1][i*stride:][:width]
			own.take(i, lo, p)
			other.take(i, lo, q)
			if i < again {
				return
			}
			for j, v := range z[0][(i-again)*stride:][:width] {
				e := float64(q[j]) - float64(v)
				off.diff[i] += e * e
				off.size[i] += float64(v) * float64(v)
			}
		})
	})
	return own, other, off, err
}

// choices are the largest logits of some rows so far, the first among equals.
type choices struct {
	best []float32
	id   []int
}

func newChoices(n int) choices {
	c := choices{make([]float32, n), make([]int, n)}
	for i := range n {
		c.best[i], c.id[i] = float32(math.Inf(-1)), -1
	}
	return c
}

func (c choices) take(i, lo int, z []float32) {
	for j, v := range z {
		if v > c.best[i] {
			c.best[i], c.id[i] = v, lo+j
		}
	}
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
	if !r.Exact.Rotated && !(r.MTP.Error <= r.Profile.NRMSE) {
		r.fail("mtp", "MTP layer", fmt.Sprintf("reading the source's states, its first drafts' logits are %.3g away from the source's (relative), the %s profile allows %.3g", r.MTP.Error, r.Profile.Name, r.Profile.NRMSE))
	}
	n := float64(max(d.Source.Slots[0], 1))
	if p < 0.05 && p <= r.MTP.Control+2*math.Sqrt(max(p, 1/n)*(1-p)/n) {
		r.undecided(fmt.Sprintf("the source's own drafts agree with its trunk at %.1f %% of the positions: its MTP layer predicts nothing, so that the result's cannot be judged", 100*p))
	}
	if q < p-allowed {
		r.fail("mtp", "MTP layer", fmt.Sprintf("its first draft agrees with the trunk at %.1f %% of the positions, the source's at %.1f %% (%.1f %% with wrong states)", 100*q, 100*p, 100*r.MTP.Control))
	}
}

// draftRun counts the positions where step after step chooses what the trunk
// chooses.
type draftRun struct {
	count func(seq int) *draftCount
	run   [][]bool // every step so far agrees, by slot
}

// step takes the choices of draft step k+1, slots of all sequences one after
// the other.
func (r *draftRun) step(k int, seqs, top [][]int, choice []int) {
	for i, s := range seqs {
		c := r.count(i)
		slots := max(0, len(s)-k-1)
		if k == 0 {
			r.run = append(r.run, make([]bool, slots))
		}
		for p, id := range choice[:slots] {
			hit := id == top[i][p+k+1]
			r.run[i][p] = hit && (k == 0 || r.run[i][p])
			c.Slots[k]++
			if hit {
				c.Hits[k]++
			}
			if r.run[i][p] {
				c.Streaks[k]++
			}
		}
		choice = choice[slots:]
	}
}

// split cuts rows [R, h] into those of each sequence.
func split(x []float32, seqs [][]int, h int) [][]float32 {
	out := make([][]float32, len(seqs))
	for i, s := range seqs {
		out[i], x = x[:len(s)*h], x[len(s)*h:]
	}
	return out
}
