package engine

import (
	"maps"
	"slices"

	"github.com/glmconv/glmconv/glm"
)

// Layers collects how a model's layers are quantized where they may differ.
type Layers map[int]*layerParts

// layerParts are those of one layer.
type layerParts struct {
	Subject
	there [6]bool // by the order of parts: the layer has such weights
}

// Add notes a weight of the family's table: of several of one part of a layer the
// first that is quantized counts.
func (l Layers) Add(t glm.Tensor, p Part) {
	s := l[t.Layer]
	if s == nil {
		s = &layerParts{}
		l[t.Layer] = s
	}
	part := s.Part(t)
	if part == nil {
		return
	}
	s.there[slices.Index(s.parts(), part)] = true
	if !part.Weight.Quantized() && part.Scheme == "" {
		*part = p
	}
}

// Mixed returns s with what other layers have than it says: each further kind of
// layer is a subject of its own, which engines must load too.
func (l Layers) Mixed(s Subject) Subject {
	list := []*Subject{&s}
	for _, n := range slices.Sorted(maps.Keys(l)) {
		x, layer := s, l[n]
		x.Mixed = nil
		for i, p := range layer.parts() {
			if layer.there[i] {
				*x.parts()[i] = *p
			}
		}
		if !slices.ContainsFunc(list, x.sameParts) {
			list = append(list, &x)
		}
	}
	for _, x := range list[1:] {
		s.Mixed = append(s.Mixed, *x)
	}
	return s
}

func (s *Subject) parts() []*Part {
	return []*Part{&s.Experts, &s.Shared, &s.Dense, &s.Attention, &s.Output, &s.DraftExperts}
}

func (s *Subject) sameParts(o *Subject) bool {
	other := o.parts()
	for i, p := range s.parts() {
		if *p != *other[i] {
			return false
		}
	}
	return true
}

// kinds are a cell's kinds of layers, itself first.
func (c cell) kinds() []cell {
	out := []cell{c}
	for i := range c.Mixed {
		x := c
		x.Subject = &c.Mixed[i]
		out = append(out, x)
	}
	return out
}

// worst is the worst answer of a cell's kinds of layers, the first of equal ones.
func (c cell) worst() (worst Answer, why string, fits bool) {
	worst, why, fits = c.answer()
	for i := range c.Mixed {
		x := c
		x.Subject = &c.Mixed[i]
		answer, rule, ok := x.answer()
		if answer.Worse(worst) {
			worst, why = answer, rule
		}
		fits = fits && ok
	}
	return worst, why, fits
}

// flags are those that any kind of layer needs.
func (c cell) flags() (out []string) {
	for _, x := range c.kinds() {
		for _, f := range c.release.spec.flags(x) {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}
