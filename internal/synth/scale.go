package synth

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
)

// ScaleTo returns the options with Layers, Experts and Vocab chosen, where
// they are 0, so that the tensor data comes close to target bytes. Widths stay
// true. All dense layers and, where possible, two layers with experts are
// kept; few layers with many experts are preferred, as this is what the real
// models look like. A target above the whole model gives the whole model, one
// below the smallest possible gives the smallest.
func ScaleTo(o Options, target int64) (Options, error) {
	probe := func(layers, experts int) (*Plan, error) {
		p := o
		p.Layers, p.Experts = layers, experts
		return NewPlan(p)
	}
	whole, err := NewPlan(o)
	if err != nil || whole.Bytes <= target {
		return o, err
	}
	if o.Vocab == 0 {
		o.Vocab = vocabularyFor(whole, target)
	}
	full := whole.Config
	dense := 0
	for _, d := range full.Dense {
		if d {
			dense++
		}
	}
	layers := []int{o.Layers}
	if o.Layers == 0 {
		layers = layers[:0]
		// One sparse layer is for targets too small for two.
		for n := min(dense+2, full.Layers); n <= full.Layers; n++ {
			layers = append(layers, n)
		}
	}
	var last Options
	for i, n := range layers {
		lo, hi := min(8, full.Experts), full.Experts
		if o.Experts > 0 {
			lo, hi = o.Experts, o.Experts
		}
		lo, err := mostExperts(lo, hi, target, func(experts int) (*Plan, error) { return probe(n, experts) })
		if err != nil {
			return o, err
		}
		p, err := probe(n, lo)
		if err != nil {
			return o, err
		}
		if p.Bytes > target && i == 0 && o.Layers == 0 && n > dense+1 {
			n = dense + 1 // too large even so: the smallest there is
		} else if p.Bytes > target && i > 0 {
			break
		}
		last = o
		last.Layers, last.Experts = n, lo
		if lo < full.Experts && o.Experts == 0 {
			break // more layers would mean fewer experts
		}
	}
	if last.Layers == 0 {
		return o, fmt.Errorf("synth: no size near %d bytes", target)
	}
	return last, nil
}

// vocabularyFor is a vocabulary with which embedding, head and their copies take
// a tenth of the target at most.
func vocabularyFor(whole *Plan, target int64) int {
	copies := int64(0) // bytes of a row in all of them
	for _, f := range whole.Files {
		for _, t := range f.Tensors() {
			if row := whole.Config.Lookup(t.Name); row != nil &&
				(row.Role == glm.Embedding || row.Role == glm.Head || row.Role == glm.MTPEmbedding || row.Role == glm.MTPHead) {
				copies += t.Size / int64(whole.Config.VocabSize)
			}
		}
	}
	rows := target / 10 / max(copies, 1) / 256 * 256
	return int(min(max(rows, 1024), int64(whole.Config.VocabSize)))
}

// mostExperts is the most experts, from lo to hi, with which a plan has no more
// than the target's bytes; lo if none has.
func mostExperts(lo, hi int, target int64, plan func(experts int) (*Plan, error)) (int, error) {
	for lo < hi {
		mid := (lo + hi + 1) / 2
		p, err := plan(mid)
		if err != nil {
			return 0, err
		}
		if p.Bytes <= target {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo, nil
}
