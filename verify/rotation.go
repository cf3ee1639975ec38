package verify

import (
	"math"
	"strings"

	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/diff"
)

// forgetStates leaves out what was measured on the source's states or between
// the states of both models: a rotated model keeps them in another basis.
func (r *Result) forgetStates() {
	for i := range r.Layers {
		l := &r.Layers[i]
		l.Error, l.Own, l.KeysOwn = math.NaN(), math.NaN(), math.NaN()
	}
	if r.MTP != nil {
		r.MTP.Error = math.NaN()
	}
}

// compareRotated compares a rotated result (QuaRot) with its source: every
// weight that touches the residual stream differs, and the gains of the norms
// are in the weights behind them, while the function is the same. Only names
// are compared here; what the weights are worth the logits decide.
func (r *Result) compareRotated(d *diff.Report, c *check.Report) {
	r.Exact.SourceTensors = d.Same + len(d.Changed) + len(d.Retyped) + len(d.Reshaped) + len(d.Removed)
	r.Exact.Copied = d.Same
	r.Exact.Rotated = true
	compared := map[string]bool{}
	for _, m := range d.Modules {
		compared[m.Name] = true
		if m.B.Weight.Quantized() {
			r.Exact.Quantized++
			r.Oracle.Modules++
		}
		r.Tensors = append(r.Tensors, Tensor{Name: m.Name, Encoding: m.B.String(), Stored: m.B, Elements: m.Elements})
	}
	r.Oracle.Basis = "the result is rotated: its weights cannot be compared with the source's, the logits decide"
	r.Notes = append(r.Notes, Note{"weights", "are rotated (QuaRot) and were not compared with the source's: every tensor differs and the model may be the same; the logits decide"})
	for _, x := range d.Removed {
		module, _, _ := strings.Cut(x.Name, ".weight")
		if x.CopyOf != "" && !compared[module] {
			r.shared(x, c)
			continue
		}
		if !compared[module] {
			r.Exact.Lost++
			r.fail("exact", x.Name, "is in the source and not in the result")
		}
	}
	for _, name := range d.NonFinite {
		r.fail("exact", name, "has values that are NaN or infinite")
	}
}
