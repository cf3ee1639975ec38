package quant

import (
	"errors"
	"fmt"

	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// FoldMode says which powers of two move between tensors before weights are
// quantised (package fold).
type FoldMode string

// The modes.
const (
	FoldOff    FoldMode = "off"
	FoldGamma  FoldMode = "gamma"  // norms give their gains to the weights that read them; needs no data
	FoldSearch FoldMode = "search" // besides, value and up rows by a search in statistics: Options.Folds
)

// foldSpread is from how many powers of two between the gains of a norm on a
// plan says that folding would pay: the narrowest group of the largest columns
// then leaves the others with less than half of the codes.
const foldSpread = 4

// fold decides the folds and what they make of every tensor.
func (p *Plan) fold(src *safetensors.Checkpoint) error {
	if r := p.Options.Rotation; r != nil { // whose gains are in the weights, and which was folded before
		if r.Folds != nil {
			p.Notes = append(p.Notes, fmt.Sprintf("folds: powers of two moved at %d sites before the rotation", r.Folds.Len()))
		}
		return nil
	}
	switch p.Options.Fold {
	case "", FoldOff:
		if p.Options.Folds != nil {
			return fail(ErrImpossible, "", "folds are given, and they are to be off")
		}
		return p.adviseFolds(src)
	case FoldGamma:
		set, err := p.gamma(src, nil)
		if err != nil {
			return err
		}
		p.Folds = set
	case FoldSearch:
		if p.Options.Folds == nil {
			return fail(ErrImpossible, "give statistics, or fold by gamma, which needs none", "folds cannot be searched without statistics of activations")
		}
		p.Folds = p.Options.Folds
	default:
		return fail(ErrImpossible, "", "there is no way %q to fold: off, gamma or search", p.Options.Fold)
	}
	var err error
	if p.scalings, err = p.Folds.Scalings(p.Config); err != nil {
		return fail(ErrSource, "", "%v", err)
	}
	if p.Folds.Len() == 0 {
		p.Folds = nil
		p.Notes = append(p.Notes, "folds: nothing to move, every gain has the same power of two")
		return nil
	}
	p.Notes = append(p.Notes, fmt.Sprintf("folds: powers of two moved at %d sites (%s); the model's function is the same to the last bit, "+
		"adapters trained on the source's scaling do not fit",
		p.Folds.Len(), p.Options.Fold))
	return nil
}

// FoldSites lists the sites that have a quantised consumer: where a fold can
// gain something. Sites of tensors that the source lacks, or that are dropped,
// are left out.
func (p *Plan) FoldSites() []fold.Site {
	stored, quantized := map[string]bool{}, map[string]bool{}
	for i := range p.Items {
		it := &p.Items[i]
		stored[it.Name()] = it.Action != Drop
		quantized[it.Name()] = it.Action == Quantize
	}
	var out []fold.Site
	for _, s := range fold.Sites(p.Config) {
		any, all := false, true
		for _, part := range s.Producers {
			all = all && stored[part.Tensor.Name]
		}
		for _, part := range s.Consumers {
			any = any || quantized[part.Tensor.Name] || p.Scheme == BF16
			all = all && stored[part.Tensor.Name]
		}
		if any && all {
			out = append(out, s)
		}
	}
	return out
}

// gamma reads the gains of the norms. see, if given, looks at each.
func (p *Plan) gamma(src *safetensors.Checkpoint, see func(s *fold.Site, e fold.Exponents)) (*fold.Set, error) {
	set := fold.NewSet()
	for _, s := range p.FoldSites() {
		if s.Kind != fold.Norm {
			continue
		}
		gains, err := readVector(src, s.Name)
		if err != nil {
			return nil, err
		}
		e := fold.Gamma(gains)
		if see != nil {
			see(&s, e)
		}
		set.Put(&s, e)
	}
	return set, nil
}

// readVector reads a 1-D tensor of floats.
func readVector(src *safetensors.Checkpoint, name string) ([]float32, error) {
	t, ok := src.Info(name)
	if !ok {
		return nil, fail(ErrSource, "", "%s is not there", name)
	}
	raw := make([]byte, t.Size)
	if err := src.ReadAt(t, 0, raw); err != nil {
		return nil, err
	}
	out := make([]float32, t.Elements())
	if err := layout.DecodeFloats(out, raw, t.DType); err != nil {
		return nil, fail(ErrSource, "", "%s: %v", name, err)
	}
	return out, nil
}

// adviseFolds notes that gains spread so widely that folding would pay.
// Of a remote source, where each gain would be a request, it says nothing.
func (p *Plan) adviseFolds(src *safetensors.Checkpoint) error {
	if source.Find(src.Dir()) != nil {
		return nil
	}
	wide, widest, name := 0, 0, ""
	_, err := p.gamma(src, func(s *fold.Site, e fold.Exponents) {
		if n := e.Spread(); n >= foldSpread {
			if wide++; n > widest {
				widest, name = n, s.Name
			}
		}
	})
	var unreadable *safetensors.Error
	switch {
	case errors.As(err, &unreadable) || errors.Is(err, ErrSource):
		return nil // advice alone: who converts meets the error where it counts
	case err != nil:
		return err
	}
	if wide > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("the gains of %d norms spread over 2^%d and more, those of %s over 2^%d: "+
			"folding by gamma would quantise what they feed better",
			wide, foldSpread, name, widest))
	}
	return nil
}

// Scaling is what the folds make of a tensor, by its name in the family's table;
// nil: nothing.
func (p *Plan) Scaling(tensor string) *fold.Scaling { return p.scalings[tensor] }
