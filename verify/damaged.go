package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/verify/diff"
)

// shard is what one file of the result has of the source.
type shard struct {
	file                    string
	sound, other            int   // weights and other tensors that are the source's, or have little to do with it
	soundElements, elements int64 // of those, and of all that were compared
}

// leastOfShard is how many tensors of a file must have been compared before it is
// called sound or damaged as a whole.
const leastOfShard = 4

// damaged tells a file whose tensors are nearly all of something else.
func (s *shard) damaged() bool { return s.other >= leastOfShard && s.other >= 9*s.sound }

// whole tells a file that is the source's for the most part.
func (s *shard) whole() bool { return s.sound >= leastOfShard && s.sound >= s.other }

// shards counts what was compared by the files of the result.
func shards(d *diff.Report) []shard {
	var out []shard
	of := func(file string) *shard {
		i := slices.IndexFunc(out, func(s shard) bool { return s.file == file })
		if i < 0 {
			i = len(out)
			out = append(out, shard{file: file})
		}
		return &out[i]
	}
	for _, a := range d.Agreed {
		s := of(a.In)
		s.sound, s.soundElements, s.elements = s.sound+a.Tensors, s.soundElements+a.Elements, s.elements+a.Elements
	}
	modules := map[string]*diff.Module{}
	for i := range d.Modules {
		modules[d.Modules[i].Name] = &d.Modules[i]
	}
	for _, x := range slices.Concat(d.Changed, d.Retyped, d.Added) {
		name, param := glm.ModuleOf(x.Name)
		m, known := modules[name]
		known = known && (strings.HasPrefix(param, "weight") || param == "qweight")
		n := int64(1)
		for _, k := range x.B.Shape {
			n *= k
		}
		var sound bool
		switch {
		case known && m == nil, x.A == nil && !known:
			continue // its weight is counted, or nobody's
		case known:
			sound, n, modules[name] = m.Why == "" && float64(m.Relative) < unrelated, m.Elements, nil
		default:
			sound = x.Same
		}
		s := of(x.B.File)
		if s.elements += n; sound {
			s.sound, s.soundElements = s.sound+1, s.soundElements+n
		} else {
			s.other++
		}
	}
	slices.SortFunc(out, func(a, b shard) int { return strings.Compare(a.file, b.file) })
	return out
}

// damagedFiles names the files of a result of this source that hold something
// else: one fault each, however many tensors they have.
func (r *Result) damagedFiles(d *diff.Report, unreadable bool) {
	list, first := shards(d), !unreadable
	if len(list) < 2 || !slices.ContainsFunc(list, func(s shard) bool { return s.whole() }) {
		return
	}
	for _, s := range list {
		if !s.damaged() {
			continue
		}
		detail := fmt.Sprintf("%d of the %d tensors compared in it have little to do with the source's, and at least one other file is the source's: it is damaged or of another model", s.other, s.other+s.sound)
		r.fail("exact", s.file, detail)
		if first { // it explains what check has found in it
			r.Cause, first = s.file+": "+detail, false
		}
	}
}

// damagedLayers names the layers whose weights are those of something else, where
// those of others are right: in a rotated result one that was not rotated, or
// not with the others.
func (r *Result) damagedLayers(d *diff.Report) {
	type layer struct{ sound, other int }
	layers, order := map[string]*layer{}, []string{}
	of := func(name string) *layer {
		if layers[name] == nil {
			layers[name], order = &layer{}, append(order, name)
		}
		return layers[name]
	}
	for _, same := range d.Layers {
		of(same.In).sound = same.Tensors
	}
	sound, other := d.Same, 0
	for _, m := range d.Modules {
		name := diff.LayerOf(m.Name)
		if name == "" || m.Elements < diff.LeastOfWeight {
			continue
		}
		l := of(name)
		if m.Why == "" && float64(m.Relative) < unrelated {
			l.sound++
			sound++
		} else {
			l.other++
			other++
		}
	}
	if other > sound {
		return
	}
	slices.Sort(order)
	for _, name := range order {
		l := layers[name]
		if l.other < leastOfShard || l.other < 2*l.sound {
			continue
		}
		detail := fmt.Sprintf("%d of %d weights compared have little to do with the source's, and most others of the model are right: ", l.other, l.other+l.sound)
		if r.turned {
			detail += "it was not rotated as they were"
		} else {
			detail += "it is of another model or another layer"
		}
		r.fail("exact", name+".*", detail)
		if r.Cause == "" {
			r.Cause = name + ".*: " + detail
		}
	}
}

// otherSource says why the result cannot be one of this source: most of what a
// conversion copies is different, and so are most of the quantized weights, in
// every file. Damage changes a few tensors, a file, or what a manifest says of
// the files.
func (r *Result) otherSource(d *diff.Report) error {
	e := r.Exact
	if d == nil || e.Differing < 3 || e.Differing <= e.Copied {
		return nil
	}
	var sound, all int64
	for _, s := range shards(d) {
		if s.whole() {
			return nil
		}
		sound, all = sound+s.soundElements, all+s.elements
	}
	if 10*sound > all {
		return nil
	}
	far := 0
	for _, t := range r.Tensors {
		if t.Stored.Quantized() && !(t.Relative < unrelated) {
			far++
		}
	}
	if 2*far < e.Quantized {
		return nil
	}
	return &Error{r.Identity.Result, fmt.Sprintf("is no result of %s: %d of %d tensors that a conversion copies have other values", r.Identity.Source, e.Differing, e.Differing+e.Copied), otherAdvice}
}

// unrelated is the relative difference from which on two weights have little to
// do with each other; of independent ones it is 1.4.
const unrelated = 0.7
