package diff

import (
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/share"
)

// ownModules are the modules whose values part index of count compares: a run of
// A's, in the order of its files, cut where bytes are even. nil stands for all.
// Tensors of one module stay together, since whether one differs decides what is
// compared of the others.
func ownModules(a *checkpoint, index, count int) map[string]bool {
	if count <= 1 {
		return nil
	}
	var names []string
	at := map[string]int{}
	var sizes []int64
	for _, t := range a.Tensors() {
		m, _ := glm.ModuleOf(t.Name)
		i, ok := at[m]
		if !ok {
			i = len(names)
			at[m], names, sizes = i, append(names, m), append(sizes, 0)
		}
		sizes[i] += t.Size
	}
	lo, hi := share.Cut(sizes, index, count)
	own := map[string]bool{}
	for _, m := range names[lo:hi] {
		own[m] = true
	}
	return own
}

// mine reports whether this part compares the values of a tensor of A.
func (d *differ) mine(tensor string) bool {
	m, _ := glm.ModuleOf(tensor)
	return d.own == nil || d.own[m]
}

// ownsModule reports whether this part compares the weight of a module: a part of
// a stacked tensor goes with that tensor.
func (d *differ) ownsModule(module string) bool {
	if e, ok := d.a.stacked[module]; ok {
		return d.mine(e.Source.Name)
	}
	return d.own == nil || d.own[module]
}

// Join puts together the reports of all parts of one comparison, in the order of
// the parts: what it returns is what one run reports, but for Bytes, which is
// what all of them have read.
func Join(parts []*Report) *Report {
	if len(parts) == 0 {
		return nil
	}
	r := *parts[0]
	r.Retyped = slices.Clone(r.Retyped)
	r.Removed = slices.Clone(r.Removed)
	r.Changed, r.Modules, r.NonFinite = nil, nil, nil
	r.Same, r.Bytes, r.Agreed, r.Layers = 0, 0, nil, nil
	for _, p := range parts {
		r.Same, r.Bytes = r.Same+p.Same, r.Bytes+p.Bytes
		for _, f := range p.Agreed {
			r.Agreed = agree(r.Agreed, f)
		}
		for _, l := range p.Layers {
			r.Layers = agree(r.Layers, l)
		}
		r.Changed = append(r.Changed, p.Changed...)
		r.Modules = append(r.Modules, p.Modules...)
		r.NonFinite = append(r.NonFinite, p.NonFinite...)
		for i := range min(len(p.Removed), len(r.Removed)) {
			r.Removed[i].CopyOf = max(r.Removed[i].CopyOf, p.Removed[i].CopyOf) // one part has looked
		}
		for i := range min(len(p.Retyped), len(r.Retyped)) {
			r.Retyped[i].Same = r.Retyped[i].Same || p.Retyped[i].Same
		}
	}
	r.finish()
	return &r
}

// agree adds tensors of a file or layer of B that are A's.
func agree(list []Agreed, more Agreed) []Agreed {
	i := slices.IndexFunc(list, func(x Agreed) bool { return x.In == more.In })
	if i < 0 {
		return append(list, more)
	}
	list[i].Tensors += more.Tensors
	list[i].Elements += more.Elements
	return list
}

// LayerOf returns the prefix of a layer's names, "model.layers.3", or "" for what
// is in no layer.
func LayerOf(name string) string {
	const mark = ".layers."
	at := strings.Index(name, mark)
	if at < 0 {
		return ""
	}
	end := at + len(mark)
	if n := strings.IndexByte(name[end:], '.'); n > 0 {
		return name[:end+n]
	}
	return name
}
