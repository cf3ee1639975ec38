package quant

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Inputs are the largest magnitudes that inputs of modules have taken: what
// schemes with a global scale of the input need. They are recorded in the
// manifest.
type Inputs struct {
	Source string             `json:"source"`  // of what: "built-in corpus, 2048 tokens"
	AbsMax map[string]float32 `json:"abs_max"` // by module
	// Folded is the hash of the folds that the inputs went through; "": none.
	Folded string `json:"folded,omitempty"`
}

// Of returns the largest magnitude of a module's input.
func (in *Inputs) Of(module string) (float32, bool) {
	if in == nil {
		return 0, false
	}
	v, ok := in.AbsMax[module]
	return v, ok && v > 0
}

// HasGlobalScale reports whether the scales of a weight that is quantized have a
// scale of their own (NVFP4).
func (it *Item) HasGlobalScale() bool {
	return it.Action == Quantize && it.Weight.Quant.Strategy == format.TensorGroup
}

// GlobalSet names the set of weights that share a global scale: q, k and v,
// q_a and kv_a, gate and up of every MLP and of each expert. llm-compressor
// 0.14 has one for each expert's and shared expert's gate and up.
func (p *Plan) GlobalSet(t *glm.Tensor) string {
	switch {
	case p.Options.Arith == numeric.Compat && p.Format == layout.CompressedTensors && (t.Role.IsExpert() || t.Role.IsShared()):
		return t.Module
	case t.Role == glm.ExpertGate || t.Role == glm.ExpertUp:
		return t.Module[:strings.LastIndexByte(t.Module, '.')] + ".gate_up_proj"
	case t.Role.IsExpert() || t.Group == "":
		return t.Module
	}
	return t.Group
}

// NeedsInputs reports whether the plan's scales need Options.Inputs and have not
// got all of them.
func (p *Plan) NeedsInputs() bool {
	for i := range p.Items {
		if w := &p.Items[i].Weight; p.Items[i].Action == Quantize && w.Act.When == format.Local && w.InputMax == 0 {
			return true
		}
	}
	return false
}

// InputSet names the set of modules whose inputs have one global scale: the
// members of a fused set, and of a layer's experts all gates and ups, and all
// downs, which engines read as one.
func InputSet(t *glm.Tensor) string {
	switch {
	case t.Role == glm.ExpertDown:
		return t.Group + ".down_proj"
	case t.Group == "":
		return t.Module
	}
	return t.Group
}

// takeInputs gives every weight the largest magnitude of its input: one for all
// members of a fused set, and one for all gates and ups and one for all downs
// of a layer's experts, which engines read as one.
func (p *Plan) takeInputs() {
	if p.Options.Inputs == nil {
		return
	}
	top := map[string]float32{}
	each := func(do func(w *layout.Weight)) {
		for i := range p.Items {
			if w := &p.Items[i].Weight; p.Items[i].Action == Quantize && w.Act.When == format.Local {
				do(w)
			}
		}
	}
	each(func(w *layout.Weight) {
		if v, ok := p.Options.Inputs.Of(w.Tensor.Module); ok {
			set := InputSet(w.Tensor)
			top[set] = max(top[set], v)
		}
	})
	each(func(w *layout.Weight) { w.InputMax = top[InputSet(w.Tensor)] })
}

// noteGlobals says what compat gives up.
func (p *Plan) noteGlobals() {
	if p.Options.Arith != numeric.Compat || p.Format != layout.CompressedTensors {
		return
	}
	for i := range p.Items {
		if it := &p.Items[i]; it.HasGlobalScale() && (it.Weight.Tensor.Role == glm.ExpertGate || it.Weight.Tensor.Role == glm.SharedGate) {
			p.Notes = append(p.Notes, "compat gives gate and up of an expert a global scale each, as llm-compressor does: "+
				"vLLM takes gate's for both and reads up wrong by their ratio, which check names; best shares one")
			return
		}
	}
}

// WithInputs is the plan again with the largest magnitudes of inputs.
func (p *Plan) WithInputs(src *safetensors.Checkpoint, in *Inputs) (*Plan, error) {
	o := p.Options
	o.Inputs = in
	q, err := NewPlan(src, p.Scheme, p.Format, o)
	if err != nil {
		return nil, err
	}
	q.Calibration = p.Calibration
	if p.codes != nil {
		err = q.Learn(p.codes)
	}
	return q, err
}
