package quant

import (
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
)

// EngineJSON is one line of the engine table.
type EngineJSON = engine.Row

// Engines says which engines load the result at which parallel sizes.
func (p *Plan) Engines() []engine.Row { return engine.Loads(p.subject()) }

func (p *Plan) subject() engine.Subject {
	s := engine.Subject{Config: p.Config, Scheme: string(p.Scheme), Format: string(p.Format), Group: p.Options.GroupSize,
		DenseFloat: true, SharedFloat: true, AttnFloat: true}
	for i := range p.Items {
		it := &p.Items[i]
		t := it.Weight.Tensor
		if it.Action == Drop || t.Param != "weight" || !t.Role.IsLinear() {
			continue
		}
		quantized := it.Action == Quantize
		if t.MTP {
			s.MTPFloat = !s.MTP || s.MTPFloat
			s.MTP = true
			s.MTPFloat = s.MTPFloat && !quantized
			continue
		}
		switch {
		case !quantized:
		case t.Role.IsDense():
			s.DenseFloat = false
		case t.Role.IsShared():
			s.SharedFloat = false
		case t.Role == glm.AttnO:
			s.AttnFloat = false
		}
	}
	return s
}

// VerifyMatching compares, module by module, what the written configuration
// makes each engine build with what the plan stores: under the checkpoint's
// names and the engines' runtime names, trunk and draft. It returns the
// disagreements of engines that can read the layout at all.
func (p *Plan) VerifyMatching() ([]string, error) {
	stored := map[string]format.Weight{}
	for i := range p.Items {
		if it := &p.Items[i]; it.Action != Drop && it.Weight.Tensor.Param == "weight" {
			stored[it.Weight.Tensor.Module] = it.Weight.Quant.Codes()
		}
	}
	c, err := p.engineConfig()
	if err != nil {
		return nil, err
	}
	found := make([][]string, len(engine.Engines))
	var g errgroup.Group
	rows := p.Engines()
	for i, e := range engine.Engines {
		if readable(rows, e) {
			g.Go(func() error { found[i] = p.mismatches(e, c, stored); return nil })
		}
	}
	err = g.Wait()
	return slices.Concat(found...), err
}

// mismatches compares what an engine builds with what is stored.
func (p *Plan) mismatches(e engine.Engine, c *engine.Config, stored map[string]format.Weight) (out []string) {
	for _, m := range engine.Modules(e, p.Config, p.Format == layout.CompressedTensors) {
		if m.Draft && (p.Model.MTP == nil || p.Options.MTP == layout.MTPDrop) {
			continue
		}
		r := engine.Resolve(e, p.Config, c, m)
		if r.Err != "" {
			out = append(out, fmt.Sprintf("%s: %s: %s", e, m.Name, r.Err))
			continue
		}
		for _, s := range m.Stored {
			if have, ok := stored[s]; ok && !have.SameCodes(r.Weight) {
				out = append(out, fmt.Sprintf("%s builds %s as %s, stored is %s", e, m.Name, r.Weight, have))
				break
			}
		}
	}
	return out
}

// readable reports whether an engine reads the layout at any degree.
func readable(rows []engine.Row, e engine.Engine) bool {
	for _, r := range rows {
		if r.Engine == e && r.Loads {
			return true
		}
	}
	return false
}

func (p *Plan) engineConfig() (*engine.Config, error) {
	if b, ok := p.Configs[layout.DescriptionName]; ok {
		return engine.ParseDescription(b)
	}
	cfg, err := glm.ParseConfig(p.Configs["config.json"])
	if err != nil {
		return nil, err
	}
	return engine.ParseConfig(cfg.QuantizationConfig)
}
