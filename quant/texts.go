package quant

import (
	"github.com/glmconv/glmconv/quant/layout"
)

// Text is a configuration file of a result. A description of the largest models is
// not kept but made when it is asked for.
type Text struct {
	Size int64 // bytes

	kept []byte
	make func(put func([]byte)) // nil: kept
}

// Bytes returns the text.
func (t *Text) Bytes() []byte {
	if t.make == nil {
		return t.kept
	}
	b := make([]byte, 0, t.Size)
	t.make(func(piece []byte) { b = append(b, piece...) })
	return b
}

// each hands out the text in pieces.
func (t *Text) each(put func([]byte)) {
	if t.make == nil {
		put(t.kept)
		return
	}
	t.make(put)
}

// maxKept is the longest text that is kept.
const maxKept = 64 << 10

// configure writes the configuration files and returns their texts.
func (p *Plan) configure() (map[string][]byte, error) {
	texts, err := p.lay.Config(p.decisions())
	if err != nil {
		return nil, err
	}
	p.Configs = make(map[string]*Text, len(texts))
	for name, text := range texts {
		t := &Text{Size: int64(len(text)), kept: text}
		if name == layout.DescriptionName && p.Format == layout.Ascend && len(text) > maxKept {
			t.kept, t.make = nil, func(put func([]byte)) { layout.Describe(p.decisions(), put) }
		}
		p.Configs[name] = t
		p.ResultBytes += t.Size
	}
	return texts, nil
}

// decisions are the plan's as its layout asks for them.
func (p *Plan) decisions() layout.Decisions {
	weights := make([]*layout.Weight, 0, len(p.Items))
	for i := range p.Items {
		if p.Items[i].Action != Drop {
			weights = append(weights, &p.Items[i].Weight)
		}
	}
	return layout.Decisions{Config: p.Config, Scheme: p.Scheme, GroupSize: p.Options.GroupSize, Rest: p.Options.Rest,
		Weights: weights, Rotated: p.Options.Rotation != nil, Caches: p.caches, Lifted: p.Options.Lifted}
}
