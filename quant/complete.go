package quant

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// describe matches the source's tensors with the family's table. An MTP layer
// that is to be dropped need not fit config.json: its tensors are taken out
// where they do not and returned as dropped.
func describe(cfg *glm.Config, infos []safetensors.Info, o Options) (m *glm.Model, dropped []safetensors.Info, err error) {
	m, err = glm.Describe(cfg, infos)
	if o.MTP != layout.MTPDrop || err == nil && (m.MTP == nil || m.MTP.Complete) {
		return m, nil, err
	}
	trunk := make([]safetensors.Info, 0, len(infos))
	for _, t := range infos {
		if ofMTP(cfg, t.Name) {
			dropped = append(dropped, t)
		} else {
			trunk = append(trunk, t)
		}
	}
	m, err = glm.Describe(cfg, trunk)
	return m, dropped, err
}

// ofMTP tells whether a tensor belongs to a layer behind the decoder layers.
func ofMTP(cfg *glm.Config, name string) bool {
	for n := range max(cfg.MTPLayers, 1) {
		if strings.HasPrefix(name, cfg.LayerPrefix(cfg.Layers+n)) {
			return true
		}
	}
	return false
}

// dropItems lists the tensors of an MTP layer that does not fit config.json.
func (p *Plan) dropItems(dropped []safetensors.Info) {
	for _, t := range dropped {
		module, param := glm.ModuleOf(t.Name)
		row := glm.Tensor{Name: t.Name, Module: module, Param: param, DType: t.DType, Shape: t.Shape, Layer: p.Config.Layers, Expert: -1, MTP: true}
		p.Items = append(p.Items, Item{Source: t, Bytes: t.Size, Action: Drop, Reason: layout.DroppedMTP,
			Weight: layout.Weight{Tensor: &row, Source: t.DType}})
	}
}

// checkComplete refuses a source that lacks tensors the model needs. Those of
// an MTP layer that is to be dropped are not needed; a wholly absent one is
// named as what it is, for fine-tuned checkpoints often lost it.
func (p *Plan) checkComplete(dropped int) error {
	drop := p.Options.MTP == layout.MTPDrop
	stored := p.storesMTP()
	var missing []glm.Tensor
	for _, t := range p.Model.Missing {
		if !t.MTP || stored && !drop {
			missing = append(missing, t)
		}
	}
	switch {
	case len(missing) > 0 && missing[0].MTP:
		return fail(ErrIncompleteMTP, "convert the model without the layer, or take the tensors from the release that was tuned",
			"%s (of the MTP layer)", lacking(missing))
	case len(missing) > 0:
		return fail(ErrIncomplete, "the files that are there are whole and do not hold them: lost when the model was saved or repacked, "+
			"or config.json is another model's; take them from the base model",
			"%s", lacking(missing))
	case !stored && p.Config.MTPLayers > 0 && !drop:
		return fail(ErrIncompleteMTP, "three ways out: convert the model without the layer, take it from the release that was tuned, "+
			"or say with num_nextn_predict_layers 0 in config.json that there is none",
			"config.json declares an MTP layer (num_nextn_predict_layers %d), and no tensor of it (layer %d) is stored; fine-tunes lose it, nothing else is missing",
			p.Config.MTPLayers, p.Config.Layers)
	case dropped > 0:
		p.Notes = append(p.Notes, fmt.Sprintf("the MTP layer does not fit config.json and is left out (%d tensors): "+
			"the result cannot draft, and its num_nextn_predict_layers is 0", dropped))
	case !stored && p.Config.MTPLayers > 0:
		p.Notes = append(p.Notes, "the source has no MTP layer, though config.json declares one: the result cannot draft, and its num_nextn_predict_layers is 0")
	}
	return nil
}

// lacking says how many tensors are missing.
func lacking(missing []glm.Tensor) string {
	if len(missing) == 1 {
		return missing[0].Name + " is missing"
	}
	return fmt.Sprintf("%d tensors are missing, the first is %s", len(missing), missing[0].Name)
}

// storesMTP tells whether a tensor of an MTP layer is stored.
func (p *Plan) storesMTP() bool {
	for i := range p.Model.Entries {
		if p.Model.Entries[i].MTP {
			return true
		}
	}
	return false
}

// notCopied notes a file of the source that is no part of the model.
func (p *Plan) notCopied(name string) bool {
	why := origin.NotCopied(name)
	if why == "" {
		return false
	}
	p.Notes = append(p.Notes, fmt.Sprintf("%s is not copied: %s", name, why))
	return true
}

// refuse refuses a source of which config.json says something else than is
// stored where the conversion itself would not notice, and notes what engines
// read differently.
func (p *Plan) refuse(src *safetensors.Checkpoint) error {
	if p.Options.Arith == numeric.Compat && p.Format == layout.Ascend && p.Scheme.Micro() {
		return &layout.ImpossibleError{What: "arithmetic compat in " + string(p.Scheme) + " as ascend", Rule: "msmodelslim rounds exponents down and clips, which is not written here",
			Nearest: "arithmetic best, the default; compat as compressed-tensors has llm-compressor's bytes"}
	}
	for _, t := range src.Tensors() {
		if origin.IsAdapterTensor(t.Name) {
			return fail(ErrSource, "merge the adapter (PEFT: model.merge_and_unload()), save the model and convert that; if it is merged, take the tensors out of the files",
				"%s: weights of an adapter (LoRA) among the model's: the result would not be the model that was tuned", t.Name)
		}
	}
	found, err := originOf(p.Config, src)
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Kind == origin.TwoRopeBases || f.Kind == origin.Indexers || f.Kind == origin.LeftScales && !f.Blocks {
			p.Notes = append(p.Notes, f.Error())
		}
	}
	return origin.Refuse(found)
}

// originOf compares config.json, and a description left beside it, with what a
// source stores.
func originOf(cfg *glm.Config, src *safetensors.Checkpoint) ([]origin.Finding, error) {
	s := &origin.Subject{Dir: src.Dir(), Config: cfg, Tensors: src.Tensors()}
	if err := json.Unmarshal(cfg.Raw, &s.Keys); err != nil {
		return nil, err
	}
	return origin.OfConfig(s), nil
}
