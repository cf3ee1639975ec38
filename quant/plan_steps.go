package quant

import (
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/rotation"
	"github.com/glmconv/glmconv/safetensors"
)

// describeResult writes index and configuration, refuses what engines would
// misread, and counts the result's bytes.
func (p *Plan) describeResult() error {
	if err := p.measureIndex(); err != nil {
		return err
	}
	texts, err := p.configure()
	if err != nil {
		return err
	}
	c, err := p.engineConfig(texts) // read back once for both
	clear(texts)
	p.asked = p.subject(c, err)
	if err := checkMatching(p.mismatched(c, err)); err != nil {
		return err
	}
	p.ResultBytes += p.indexSize
	return nil
}

// checkMatching refuses a plan whose configuration an engine would read as
// something else than what is stored.
func checkMatching(bad []string, err error) error {
	if err != nil || len(bad) == 0 {
		return err
	}
	return fail(ErrMismatch, "without patterns of modules to ignore or to target this cannot happen; please report it",
		"the engines would not read the result as it is stored: %s (%d modules)", bad[0], len(bad))
}

// decide fills in Items: one per entry of the model, one per tensor that no
// table knows, one per MTP copy that the layout must hold.
func (p *Plan) decide() error {
	keep, err := newPatterns(p.Options.Ignore, p.Options.Target)
	if err != nil {
		return err
	}
	inputs := make([]layout.Input, 0, len(p.Model.Entries))
	p.Items = make([]Item, 0, len(p.Model.Entries)+len(p.Model.Unexpected)+2)
	for _, e := range p.Model.Entries {
		inputs = append(inputs, layout.Input{Tensor: e.Tensor, Source: e.Source.DType})
		p.Items = append(p.Items, Item{Source: e.Source, Offset: e.Offset, Bytes: e.Size})
	}
	for _, u := range p.Model.Unexpected {
		module, param := glm.ModuleOf(u.Name)
		row := glm.Tensor{Name: u.Name, Module: module, Param: param, DType: u.DType, Shape: u.Shape, Layer: -1, Expert: -1}
		inputs = append(inputs, layout.Input{Source: u.DType, Tensor: &row})
		p.Items = append(p.Items, Item{Source: u, Bytes: u.Size})
		if p.Options.Rotation == nil || u.Name != rotation.WeightName {
			p.Notes = append(p.Notes, fmt.Sprintf("%s is in no table of %s and is copied as it is", u.Name, p.Config.Family))
		}
	}
	for _, in := range inputs {
		keep.see(*in.Tensor)
	}
	if err := keep.unused(); err != nil {
		return err
	}
	decisions, err := layout.Decide(p.Config, inputs, p.rules(keep))
	if err != nil {
		return err
	}
	for i, d := range decisions {
		it := &p.Items[i]
		it.Weight, it.Scheme, it.Reason = d.Weight, d.Scheme, d.Reason
		switch {
		case d.Drop:
			it.Action = Drop
		case d.Weight.Quantized():
			it.Action = Quantize
		case d.Weight.Widened() && d.Weight.DType == safetensors.F32:
			it.Action = Widen
		case d.Weight.Widened() || p.stored[it.Source.Name] != nil:
			it.Action = Decode
		default:
			it.Action = Copy
		}
		p.takeStored(it)
	}
	p.takeInputs()
	p.noteGlobals()
	if err := p.checkStatic(); err != nil {
		return err
	}
	if err := p.addCopies(); err != nil {
		return err
	}
	return p.addCaches()
}

// rules are the plan's choices as the layout asks for them.
func (p *Plan) rules(keep *patterns) layout.Options {
	return layout.Options{Scheme: p.Scheme, Format: p.Format, GroupSize: p.Options.GroupSize, MTP: p.Options.MTP, Keep: keep.keep,
		Rest: p.Options.Rest, ZeroPoints: p.Options.ZeroPoints, Static: p.static(), Rotated: p.Options.Rotation != nil, Lifted: p.Options.Lifted}
}

// mtpCopies says for whom the MTP layer gets copies, "" for nobody.
func (p *Plan) mtpCopies() string { return p.lay.MTPCopies(p.Scheme, p.Options.Rest) }

// CopiesForMTP reports whether the result's MTP layer holds its own embedding
// and head.
func (p *Plan) CopiesForMTP() bool {
	return p.mtpCopies() != "" && p.Model.MTP != nil && p.Options.MTP != layout.MTPDrop
}

// addCopies gives the MTP layer its own embedding and head where the layout's
// engine does not share those of the model.
func (p *Plan) addCopies() error {
	if !p.CopiesForMTP() {
		return nil
	}
	present := map[string]bool{} // of the copies
	for i := range p.Items {
		if t := p.Items[i].Weight.Tensor; copyOf(t.Role) != glm.Unknown {
			present[t.Name] = true
		}
	}
	rows := p.Model.Rows()
	for i := range rows { // of every MTP layer
		of := copyOf(rows[i].Role)
		if of == glm.Unknown || present[rows[i].Name] {
			continue
		}
		from := slices.IndexFunc(p.Items, func(it Item) bool { return it.Weight.Tensor.Role == of })
		if from < 0 {
			return fail(ErrSource, "", "the MTP layer needs a copy of a tensor that is not there (%s)", of)
		}
		it := p.Items[from]
		it.Weight.Tensor, it.Action, it.Reason = &rows[i], Alias, "copy of "+it.Source.Name+" that "+p.mtpCopies()+" loads for the draft"
		p.Items = append(p.Items, it)
	}
	return nil
}
