package quant

import (
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
)

// EngineJSON is one line of the engine table.
type EngineJSON = engine.Row

// Engines says which engines load the result at which parallel sizes: their
// newest releases, on all devices that they run on.
func (p *Plan) Engines() []engine.Row { return p.EnginesFor(engine.Query{}) }

// EnginesFor asks certain releases, or about one device.
func (p *Plan) EnginesFor(q engine.Query) []engine.Row { return engine.Judge(p.asked, q) }

// subject is the result as the engines' tables ask for it. c is what it declares;
// err says that it cannot be read.
func (p *Plan) subject(c *engine.Config, err error) engine.Subject {
	s := engine.Subject{Config: p.Config, Layout: engine.Layout(p.Format)}
	if p.Format == layout.Plain {
		s.Layout = ""
	}
	if p.Config.MTPLayers > 0 && p.Options.MTP != layout.MTPDrop {
		s.Draft = engine.LostDraft
	}
	if c := p.caches; c != nil {
		s.CacheC8, s.IndexerC8, s.LatentC8 = len(c.Static) > 0, len(c.Indexer) > 0, len(c.Latents) > 0
	}
	layers := engine.Layers{}
	for i := range p.Items {
		it := &p.Items[i]
		t := it.Weight.Tensor
		if it.Action == Drop || t.Param != "weight" || !t.Role.IsLinear() {
			continue
		}
		if t.MTP {
			s.Draft = engine.HasDraft
		}
		part := s.Part(*t)
		if part == nil || err != nil {
			continue
		}
		if it.Action != Quantize {
			if len(p.Options.Lifted) > 0 { // a layer that stays as it is beside others
				layers.Add(*t, engine.Part{})
			}
			continue
		}
		first := !part.Weight.Quantized()
		if !first && len(p.Options.Lifted) == 0 {
			continue
		}
		said, _ := engine.Declared(c, t.Module)
		if layers.Add(*t, said); first {
			*part = said
		}
	}
	return layers.Mixed(s)
}

// VerifyMatching compares, module by module, what the written configuration
// makes each engine build with what the plan stores: under the checkpoint's
// names and the engines' runtime names, trunk and draft. It returns the
// disagreements of engines that can read the layout at all.
func (p *Plan) VerifyMatching() ([]string, error) {
	texts := map[string][]byte{}
	for name, t := range p.Configs {
		texts[name] = t.Bytes()
	}
	return p.mismatched(p.engineConfig(texts))
}

// mismatched is VerifyMatching of what c declares.
func (p *Plan) mismatched(c *engine.Config, err error) ([]string, error) {
	if p.Format == layout.Plain { // nothing is declared that could be matched
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	stored := make(map[string]int32, len(p.Items)) // items by module
	for i := range p.Items {
		if it := &p.Items[i]; it.Action != Drop && it.Weight.Tensor.Param == "weight" {
			stored[it.Weight.Tensor.Module] = int32(i)
		}
	}
	var releases []engine.Release
	for _, e := range engine.Engines {
		releases = append(releases, engine.Matchers(e)...)
	}
	found := make([][]string, len(releases))
	var g errgroup.Group
	for i, r := range releases {
		if loads, drafts := engine.LoadsAt(&p.asked, r); loads {
			g.Go(func() error { found[i] = p.mismatches(r, c, stored, drafts); return nil })
		}
	}
	err = g.Wait()
	return slices.Concat(found...), err
}

// mismatches compares what an engine builds with what is stored.
func (p *Plan) mismatches(by engine.Release, c *engine.Config, stored map[string]int32, drafts bool) (out []string) {
	for _, m := range engine.Modules(by, p.Config, p.Format == layout.CompressedTensors) {
		if m.Draft && (!drafts || p.Model.MTP == nil || p.Options.MTP == layout.MTPDrop) {
			continue
		}
		r := engine.Resolve(by, p.Config, c, m)
		if r.Err != "" {
			out = append(out, fmt.Sprintf("%s: %s: %s", by, m.Name, r.Err))
			continue
		}
		for _, s := range m.Stored {
			i, ok := stored[s]
			if !ok {
				continue
			}
			if have := p.Items[i].Weight.Quant.Codes(); !have.SameCodes(r.Weight) {
				out = append(out, fmt.Sprintf("%s builds %s as %s, stored is %s", by, m.Name, r.Weight, have))
				break
			}
		}
	}
	return out
}

// engineConfig is what the result's files declare of it, as engines read them.
func (p *Plan) engineConfig(texts map[string][]byte) (*engine.Config, error) {
	name := "config.json"
	d, err := declaration.File(name, texts[name])
	for _, n := range p.lay.ConfigFiles() {
		switch {
		case d != nil || err != nil:
		case n == declaration.DescriptionName:
			name = n
			d, err = declaration.WeightDescription(texts[name])
		case slices.Contains(declaration.Files, n):
			name = n
			d, err = declaration.File(name, texts[name])
		}
	}
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("quant: %s declares no quantization", name)
	}
	return engine.NewConfig(d), d.PatternError()
}
